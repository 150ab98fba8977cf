"""Which clips stand together in a batch: as many as fit a budget of seconds, and never padded to each other."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import torch

from lapis.data.sample import Sample
from lapis.ragged import Ragged

READING: tuple[str, ...] = ("storage", "decode", "resample", "other", "transfer")
"""What reading a batch is made of: indexes, words and sound fetched; sound decoded; brought to the model's rate; all
else in the worker; the way from there to the process that trains."""


@dataclass(frozen=True)
class Budget:
    """When a batch is full: at so many clips, or before it would hold more than so many seconds of sound.

    Tokens are proportional to seconds, so a budget of seconds is a budget of tokens. A clip longer than `clip_seconds`
    is cut to a random window of that length.
    """

    clips: int = 64
    seconds: float = 600.0
    clip_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.clips < 1 or not 0 < self.clip_seconds <= self.seconds:
            raise ValueError(f"a batch must hold at least one clip of clip_seconds, got {self}")

    def of_all(self, world_size: int) -> "Budget":
        """Of so many processes together: `clips` and `seconds` are those of each.

        Two numbers of processes with the same whole fill the same batches where `clips` ends them; see `plan`.
        """
        return replace(self, clips=self.clips * world_size, seconds=self.seconds * world_size)


@dataclass(frozen=True)
class Draw:
    """One pick from the mixture: the `number`-th of the whole run, and what it picked."""

    number: int
    sample: Sample


@dataclass(frozen=True)
class Plan:
    """What a batch is to hold, before any sound is read. `position` is the number of the first draw after it."""

    draws: tuple[Draw, ...]
    position: int


def plan(draws: Iterable[Draw], budget: Budget, *, rank: int = 0, world_size: int = 1) -> Iterator[Plan]:
    """Fill batches with draws in their order; a clip of unknown duration is counted as `clip_seconds`.

    A batch is filled for all processes together and is full when it is full for one, then dealt (`deal`): all processes
    take equally many steps with equally many clips, and one number is the position of all.
    """
    filling: list[Draw] = []
    total = longest = 0.0
    for group in batched(draws, world_size):
        durations = [_duration(draw.sample, budget) for draw in group]
        more, most = total + sum(durations), max(longest, *durations, 0.0)
        # No process gets more than its share and that part of the longest clip: often there is no need to deal.
        surely_fits = (more + most * (world_size - 1)) / world_size <= budget.seconds
        too_many = len(filling) + len(group) > budget.clips * world_size
        if filling and (too_many or not (surely_fits or _fits([*filling, *group], budget, world_size=world_size))):
            yield Plan(deal(filling, budget, world_size=world_size)[rank], group[0].number)
            filling, more, most = [], sum(durations), max(*durations, 0.0)
        filling += group
        total, longest = more, most
    if filling:
        yield Plan(deal(filling, budget, world_size=world_size)[rank], filling[-1].number + 1)


def deal(draws: Sequence[Draw], budget: Budget, *, world_size: int) -> list[tuple[Draw, ...]]:
    """The draws of a batch to processes: equally many clips to each, and as nearly equal seconds.

    The longest clips first, one to each process, the longest of them to whoever has the least by then: so the seconds
    of two processes never differ by more than the longest clip is longer than the shortest. A process takes its draws
    in their order.
    """
    durations = {draw.number: _duration(draw.sample, budget) for draw in draws}
    by_length = sorted(draws, key=lambda draw: (-durations[draw.number], draw.number))
    hands: list[list[Draw]] = [[] for _ in range(world_size)]
    seconds = [0.0] * world_size
    for group in batched(by_length, world_size):
        for process, draw in zip(sorted(range(world_size), key=seconds.__getitem__), group, strict=True):
            hands[process].append(draw)
            seconds[process] += durations[draw.number]
    return [tuple(sorted(hand, key=lambda draw: draw.number)) for hand in hands]


def _fits(draws: Sequence[Draw], budget: Budget, *, world_size: int) -> bool:
    hands = deal(draws, budget, world_size=world_size)
    return all(sum(_duration(draw.sample, budget) for draw in hand) <= budget.seconds for hand in hands)


def _duration(sample: Sample, budget: Budget) -> float:
    return budget.clip_seconds if sample.seconds is None else min(sample.seconds, budget.clip_seconds)


def batched(draws: Iterable[Draw], size: int) -> Iterator[tuple[Draw, ...]]:
    """Groups of `size`; a last group that is not full is left out, since every process must get one."""
    iterator = iter(draws)
    while len(group := tuple(islice(iterator, size))) == size:
        yield group


@dataclass(frozen=True)
class Dropped:
    """A draw that could not be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Batch:
    """Clips, their captions and what is known of them, in one order; `position` as in `Plan`."""

    waveforms: Ragged
    captions: tuple[str, ...]
    draws: tuple[Draw, ...]
    position: int
    dropped: tuple[Dropped, ...] = ()
    rejected: tuple[str, ...] = ()
    """Why captions were left out of draws whose source was not looked through beforehand, a reason each."""
    spent: Mapping[str, float] = field(default_factory=dict, compare=False)
    """Seconds that reading took, by `READING`."""
    finished: float = field(default=0.0, compare=False)
    """When it was read, by this machine's monotonic clock."""

    def __len__(self) -> int:
        return len(self.captions)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with its sound on another device."""
        return replace(self, waveforms=self.waveforms.to(device))
