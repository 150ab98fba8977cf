"""A weighted mixture of sources as an endless list: draw n of a seed is a pure function of n.

So a run's place in the data is one number, whatever the number of workers. Sources take turns in a fixed round that
follows their weights as closely as whole numbers can; each source is shuffled anew every time it has been used up.

`draws` is for planning batches: of a source that makes its samples on demand it tells the duration only, and whoever
reads the clip asks for the rest (`complete`).
"""

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from lapis.data.ahead import Range
from lapis.data.balanced import Balanced
from lapis.data.batching import Draw
from lapis.data.captions import Captions, Reject
from lapis.data.leaks.exclusion import read_exclusion
from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.data.usable import Usable

ROUND = 1000
"""Draws in a round: weights are kept to a thousandth."""


@dataclass(frozen=True)
class Part:
    """A source and its share of the draws; shares need not add up to one."""

    source: SourceConfig
    weight: float = 1.0
    balanced_draws: int | None = None
    """Of an epoch in which rare classes are drawn as often as common ones, see `Balanced`; None for every clip once."""
    exclude: str | None = None
    """A JSON file of `lapis data blacklist`, or one of WavCaps' lists: what is on it is left out, and counted."""


@dataclass(frozen=True)
class Later:
    """Stands for the sound of a sample that has not been asked for yet: a part of the mixture, and the place there."""

    part: int
    place: int

    def open(self) -> bytes:
        """Not yet."""
        raise ValueError(f"{self} has not been asked for: `Mixture.complete` gives the draw")

    def __str__(self) -> str:
        return f"sample {self.place} of part {self.part}"


class Mixture:
    """An endless list of draws."""

    @dataclass(frozen=True)
    class Config:
        """What is mixed, and which captions are used."""

        parts: tuple[Part, ...]
        captions: Captions = Captions()
        scanned: int = 1_000_000
        """Tars of this machine with up to so many samples are looked through for unusable captions at the start; of
        others a draw without a usable one is left out of its batch, and counted."""

        def build(self, *, seed: int) -> "Mixture":
            """The mixture with its sources opened and their captions cleaned."""
            return Mixture(self, seed=seed)

    def __init__(self, config: Config, *, seed: int) -> None:
        if not config.parts or any(part.weight <= 0 for part in config.parts):
            raise ValueError(f"a mixture needs parts of positive weight, got {[part.weight for part in config.parts]}")
        self.config, self.seed = config, seed
        self.rejected: Counter[str] = Counter()
        self.sources = [self._open(part) for part in config.parts]
        self._balanced = [
            Balanced(source, draws=part.balanced_draws, seed=(seed, place)) if part.balanced_draws is not None else None
            for place, (part, source) in enumerate(zip(config.parts, self.sources, strict=True))
        ]
        self._turns = turns([part.weight for part in config.parts])
        self._turns_of = [
            [turn for turn, part in enumerate(self._turns) if part == p] for p in range(len(config.parts))
        ]

    def _open(self, part: Part) -> Usable:
        """The source's samples with their usable captions; those left with none, or on a black-list, are counted."""
        source = Usable(
            part.source.build(),
            self.config.captions,
            scanned=self.config.scanned,
            reject=self._count_rejected,
            exclusion=None if part.exclude is None else read_exclusion(part.exclude),
        )
        if not len(source):
            raise ValueError(f"{part.source} has no sample with a usable caption; left out: {dict(self.rejected)}")
        return source

    def _count_rejected(self, reason: str) -> None:
        self.rejected[reason] += 1

    def __getitem__(self, number: int) -> Draw:
        """Draw `number`, from 0 without end.

        Raises:
            UnusableError: of a source that was not looked through, a sample without a usable caption.
        """
        part, place = self._place(number)
        return Draw(number, self.sources[part].sample(place, reject=self._count_rejected))

    def _place(self, number: int) -> tuple[int, int]:
        """The part whose turn it is, and the place in its source."""
        rounds, turn = divmod(number, ROUND)
        part = self._turns[turn]
        of_source = rounds * len(self._turns_of[part]) + bisect_left(self._turns_of[part], turn)
        if (balanced := self._balanced[part]) is not None:
            return part, balanced[of_source]
        size = len(self.sources[part])
        epoch, place = divmod(of_source, size)
        return part, shuffled(place, size, seed=(self.seed, part, epoch))

    def complete(self, draw: Draw, *, reject: Reject) -> Draw:
        """A draw that `draws` gave, with all that is known of its sample; `reject` gets reasons as they come.

        Raises:
            UnusableError: it has no usable caption.
        """
        if not isinstance(draw.sample.audio, Later):
            return draw
        part, place = draw.sample.audio.part, draw.sample.audio.place
        return Draw(draw.number, self.sources[part].sample(place, reject=reject))

    def ranges(self, draws: Iterable[Draw]) -> list[Range]:
        """What reading these draws will ask of a store."""
        later = [draw.sample.audio for draw in draws if isinstance(draw.sample.audio, Later)]
        return [needed for of in later for needed in self.sources[of.part].ranges(of.place)]

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the draws, for each part."""
        return tuple(len(its_turns) / ROUND for its_turns in self._turns_of)

    @property
    def may_fork(self) -> bool:
        """Whether workers may be copies of this process."""
        return all(source.may_fork for source in self.sources)

    def draws(self, position: int) -> Iterator[Draw]:
        """All draws from `position` on, as much of them as planning a batch needs."""
        while True:
            part, place = self._place(position)
            source = self.sources[part]
            if source.is_on_demand:
                yield Draw(position, Sample("", Later(part, place), seconds=source.seconds(place)))
            else:
                yield Draw(position, source[place])
            position += 1

    def choose_caption(self, draw: Draw) -> str:
        """The caption of a draw: a pure function of the seed and its number."""
        random_state = random.Random(f"caption/{self.seed}/{draw.number}")
        return self.config.captions.choose(draw.sample.captions, random_state=random_state)

    def __str__(self) -> str:
        """The tree with sizes, shares and what was left out."""
        lines = [f"mixture of {len(self.sources)} sources"]
        for part, source, its_turns in zip(self.config.parts, self.sources, self._turns_of, strict=True):
            hours = source.total_seconds / 3600
            lines.append(f"  {len(its_turns) / ROUND:6.1%}  {len(source):,} clips, {hours:.2f} h  {part.source}")
        lines += [f"  left out: {count:,} x {reason}" for reason, count in sorted(self.rejected.items())]
        return "\n".join(lines)


def turns(weights: Sequence[float]) -> list[int]:
    """Whose turn it is in a round: at each place the part that lags furthest behind its share."""
    total = sum(weights)
    given = [0] * len(weights)
    order = []
    for place in range(1, ROUND + 1):
        lag = [weight / total * place - have for weight, have in zip(weights, given, strict=True)]
        part = lag.index(max(lag))
        given[part] += 1
        order.append(part)
    if 0 in given:
        raise ValueError(f"weight {weights[given.index(0)]} of {list(weights)} is less than one draw in {ROUND}")
    return order


def shuffled(place: int, size: int, *, seed: tuple[int, ...]) -> int:
    """Where `place` goes in a random order of `size` things, without making the order.

    A Feistel network over the next power of four permutes its numbers; those beyond `size` are sent through again
    (cycle walking), which permutes the rest. (Luby and Rackoff 1988; Black and Rogaway 2002.)
    """
    half_bits = max(1, (size - 1).bit_length() + 1 >> 1)
    mask = (1 << half_bits) - 1
    keys = _turn_keys(seed)
    while True:
        left, right = place >> half_bits, place & mask
        for key in keys:
            left, right = right, left ^ (_mixed(key, right) & mask)
        place = left << half_bits | right
        if place < size:
            return place


@lru_cache(maxsize=1024)
def _turn_keys(seed: tuple[int, ...]) -> tuple[int, ...]:
    """The state of the hash of each of the four turns, before the number that the turn is about is mixed in."""
    return tuple(hash_numbers(hash_numbers(*seed), turn) for turn in range(4))


def hash_numbers(*numbers: int) -> int:
    """A 64-bit mix of numbers (the finaliser of SplitMix64, chained)."""
    state = 0
    for number in numbers:
        state = _mixed(state, number)
    return state


def _mixed(state: int, number: int) -> int:
    state = (state + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return state ^ state >> 31
