from itertools import count, islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapis.data.batching import Budget, Draw, deal, plan
from lapis.data.sample import Location, Sample

NOWHERE = Location(Path("nowhere"))
DURATIONS = st.lists(st.none() | st.floats(0.05, 200), min_size=1, max_size=60)
BUDGETS = st.builds(
    lambda clips, clip_seconds, more: Budget(clips, clip_seconds + more, clip_seconds),
    st.integers(1, 9),
    st.floats(0.5, 30),
    st.floats(0, 60),
)


def _draws(durations, first=0):
    return [
        Draw(first + number, Sample(str(number), NOWHERE, seconds=seconds)) for number, seconds in enumerate(durations)
    ]


@given(durations=DURATIONS, budget=BUDGETS)
def test_budgets_are_kept_and_nothing_is_lost(durations, budget):
    plans = list(plan(_draws(durations), budget))
    assert [draw.number for planned in plans for draw in planned.draws] == list(range(len(durations)))
    position = 0
    for planned in plans:
        seconds = [
            budget.clip_seconds if draw.sample.seconds is None else min(draw.sample.seconds, budget.clip_seconds)
            for draw in planned.draws
        ]
        assert len(seconds) <= budget.clips and sum(seconds) <= budget.seconds * (1 + 1e-9)
        position += len(seconds)
        assert planned.position == position


@given(durations=DURATIONS, budget=BUDGETS, after=st.integers(0, 5))
def test_planning_goes_on_from_a_position_as_if_it_had_not_stopped(durations, budget, after):
    draws = _draws(durations)
    whole = list(plan(draws, budget))
    begin = whole[min(after, len(whole) - 1)].position
    assert list(plan(draws[begin:], budget)) == whole[min(after, len(whole) - 1) + 1 :]


@given(durations=DURATIONS, budget=BUDGETS, world_size=st.integers(1, 4))
def test_processes_share_the_draws_and_agree_on_positions(durations, budget, world_size):
    plans = [list(plan(_draws(durations), budget, rank=rank, world_size=world_size)) for rank in range(world_size)]
    for step in zip(*plans, strict=True):
        assert len({planned.position for planned in step}) == 1
        assert len({len(planned.draws) for planned in step}) == 1
    numbers = sorted(draw.number for of_rank in plans for planned in of_rank for draw in planned.draws)
    assert numbers == list(range(len(durations) // world_size * world_size))


def _seconds(draws, budget):
    longest = budget.clip_seconds
    return [longest if draw.sample.seconds is None else min(draw.sample.seconds, longest) for draw in draws]


@given(durations=DURATIONS, budget=BUDGETS, world_size=st.integers(1, 5))
def test_processes_carry_equal_seconds_up_to_one_clip(durations, budget, world_size):
    draws = _draws(durations)
    plans = [list(plan(draws, budget, rank=rank, world_size=world_size)) for rank in range(world_size)]
    begin = 0
    for step in zip(*plans, strict=True):
        carried = [_seconds(planned.draws, budget) for planned in step]
        loads = [sum(seconds) for seconds in carried]
        clips = [seconds for of_process in carried for seconds in of_process]
        assert max(loads) - min(loads) <= max(clips) - min(clips) + 1e-6
        assert max(loads) <= budget.seconds * (1 + 1e-9) and max(map(len, carried)) <= budget.clips
        # All processes together take the next draws, each of them once and in their order.
        taken = [draw.number for planned in step for draw in planned.draws]
        assert sorted(taken) == list(range(begin, step[0].position))
        assert all(list(planned.draws) == sorted(planned.draws, key=lambda draw: draw.number) for planned in step)
        begin = step[0].position


@given(durations=DURATIONS, budget=BUDGETS, world_size=st.integers(1, 4), after=st.integers(0, 5))
def test_several_processes_go_on_from_a_position_as_if_they_had_not_stopped(durations, budget, world_size, after):
    draws = _draws(durations)
    for rank in range(world_size):
        whole = list(plan(draws, budget, rank=rank, world_size=world_size))
        if len(whole) > after:
            rest = plan(draws[whole[after].position :], budget, rank=rank, world_size=world_size)
            assert list(rest) == whole[after + 1 :]


def test_a_batch_is_as_full_as_the_dealt_clips_allow():
    """Dealt in turn, one process would have 18 of the 20 seconds, and the batch be full two draws earlier."""
    draws = _draws([9.0, 1.0, 9.0, 1.0])
    first = next(plan(draws, Budget(clips=8, seconds=10.0, clip_seconds=9.0), world_size=2))
    assert first.position == 4 and [draw.number for draw in first.draws] == [0, 1]
    hands = deal(draws, Budget(clips=8, seconds=10.0, clip_seconds=9.0), world_size=2)
    assert [[draw.number for draw in hand] for hand in hands] == [[0, 1], [2, 3]]


def test_plans_are_made_one_at_a_time():
    endless = (Draw(number, Sample(str(number), NOWHERE, seconds=1.0)) for number in count())
    assert [planned.position for planned in islice(plan(endless, Budget(clips=4)), 3)] == [4, 8, 12]


@pytest.mark.parametrize("sizes", [{"clips": 0}, {"clip_seconds": 0.0}, {"seconds": 5.0, "clip_seconds": 6.0}])
def test_senseless_budgets_are_refused(sizes):
    with pytest.raises(ValueError, match="at least one clip"):
        Budget(**sizes)
