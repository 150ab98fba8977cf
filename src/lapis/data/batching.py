"""Which clips stand together in a batch: as many as fit a budget of seconds, and never padded to each other."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch

from lapis.data.sample import Sample
from lapis.ragged import Ragged


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

    Draws are dealt to the processes in turn, and a batch is full for all of them when it is full for one, so that all
    processes take equally many steps and one number is the position of all.
    """
    hands: list[list[Draw]] = [[] for _ in range(world_size)]
    seconds = [0.0] * world_size
    for deal in batched(draws, world_size):
        durations = [_duration(draw.sample, budget) for draw in deal]
        too_long = any(have + more > budget.seconds for have, more in zip(seconds, durations, strict=True))
        if hands[0] and (len(hands[0]) == budget.clips or too_long):
            yield Plan(tuple(hands[rank]), deal[0].number)
            hands, seconds = [[] for _ in range(world_size)], [0.0] * world_size
        for hand, draw in zip(hands, deal, strict=True):
            hand.append(draw)
        seconds = [have + more for have, more in zip(seconds, durations, strict=True)]
    if hands[0]:
        yield Plan(tuple(hands[rank]), hands[-1][-1].number + 1)


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

    def __len__(self) -> int:
        return len(self.captions)

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with its sound on another device."""
        return Batch(self.waveforms.to(device), self.captions, self.draws, self.position, self.dropped)
