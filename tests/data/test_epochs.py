from itertools import islice

import pytest

from data.corpus import tones, write_tar
from lapis.data.batching import Budget, plan
from lapis.data.epochs import outline
from lapis.data.mixture import Mixture, Part
from lapis.data.sources import Tars


@pytest.fixture
def mixture(tmp_path):
    for name, count in (("a", 4), ("b", 10)):
        write_tar(tmp_path / f"{name}.tar", tones(count))
    parts = (Part(Tars(f"{tmp_path}/a.tar"), weight=3.0), Part(Tars(f"{tmp_path}/b.tar"), weight=1.0))
    return Mixture.Config(parts).build(seed=0)


@pytest.mark.parametrize("processes", [1, 3])
def test_the_outline_is_what_happens(mixture, processes):
    budget, steps = Budget(clips=8, seconds=2.5, clip_seconds=0.5), 40
    found = outline(mixture, steps=steps, budget=budget, processes=processes)
    plans = [
        list(islice(plan(mixture.draws(0), budget, rank=rank, world_size=processes), steps))
        for rank in range(processes)
    ]
    draws = [mixture[draw.number] for of_rank in plans for each in of_rank for draw in each.draws]
    assert sum(branch.draws for branch in found.branches) == pytest.approx(len(draws), rel=0.02)
    sizes = [len(source) for source in mixture.sources]
    small = [draw for draw in draws if str(draw.sample.audio).split(":")[0].endswith("a.tar")]
    assert found.branches[0].draws == pytest.approx(len(small), rel=0.03)
    for branch, size in zip(found.branches, sizes, strict=True):
        assert branch.epochs == pytest.approx(branch.draws / size, rel=0.01)
    assert [branch.share for branch in found.branches] == [0.75, 0.25]
    assert (found.clips, found.branches[1].clips) == (14, 10)
    seconds = sum(draw.sample.seconds for draw in draws)
    assert found.seconds_a_step * steps == pytest.approx(seconds, rel=0.05)


def test_gathered_gradients_take_more_of_it(mixture):
    once, twice = (outline(mixture, steps=10, budget=Budget(clips=4), batches_a_step=count) for count in (1, 2))
    assert (once.clips_a_step, twice.clips_a_step) == (4, 8)
    with pytest.raises(ValueError, match="expected steps, processes and batches above zero"):
        outline(mixture, steps=0, budget=Budget())
