"""A weighted mixture of sources as an endless list: draw n of a seed is a pure function of n.

So a run's place in the data is one number, whatever the number of workers. Sources take turns in a fixed round that
follows their weights as closely as whole numbers can; each source is shuffled anew every time it has been used up.
"""

import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lapis.data.balanced import Balanced
from lapis.data.batching import Draw
from lapis.data.captions import Captions
from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig

ROUND = 1000
"""Draws in a round: weights are kept to a thousandth."""


@dataclass(frozen=True)
class Part:
    """A source and its share of the draws; shares need not add up to one."""

    source: SourceConfig
    weight: float = 1.0
    balanced_draws: int | None = None
    """Of an epoch in which rare classes are drawn as often as common ones, see `Balanced`; None for every clip once."""


class Mixture:
    """An endless list of draws."""

    @dataclass(frozen=True)
    class Config:
        """What is mixed, and which captions are used."""

        parts: tuple[Part, ...]
        captions: Captions = Captions()

        def build(self, *, seed: int) -> "Mixture":
            """The mixture with its sources opened and their captions cleaned."""
            return Mixture(self, seed=seed)

    def __init__(self, config: Config, *, seed: int) -> None:
        if not config.parts or any(part.weight <= 0 for part in config.parts):
            raise ValueError(f"a mixture needs parts of positive weight, got {[part.weight for part in config.parts]}")
        self.config, self.seed = config, seed
        self.rejected: Counter[str] = Counter()
        self.sources = [self._cleaned(part.source) for part in config.parts]
        self._balanced = [
            Balanced(source, draws=part.balanced_draws, seed=(seed, place)) if part.balanced_draws is not None else None
            for place, (part, source) in enumerate(zip(config.parts, self.sources, strict=True))
        ]
        self._turns = turns([part.weight for part in config.parts])
        self._turns_of = [
            [turn for turn, part in enumerate(self._turns) if part == p] for p in range(len(config.parts))
        ]

    def _cleaned(self, config: SourceConfig) -> list[Sample]:
        """The source's samples with their usable captions; those left with none are counted."""
        kept = []
        for sample in config.build():
            captions = self.config.captions.clean(sample, reject=lambda reason: self.rejected.update([reason]))
            if captions or not self.config.captions.needed:
                kept.append(replace(sample, captions=captions))
            else:
                self.rejected["sample without a usable caption"] += 1
        if not kept:
            raise ValueError(f"{config} has no sample with a usable caption; left out: {dict(self.rejected)}")
        return kept

    def __getitem__(self, number: int) -> Draw:
        """Draw `number`, from 0 without end."""
        rounds, turn = divmod(number, ROUND)
        part = self._turns[turn]
        source = self.sources[part]
        of_source = rounds * len(self._turns_of[part]) + bisect_left(self._turns_of[part], turn)
        if (balanced := self._balanced[part]) is not None:
            return Draw(number, source[balanced[of_source]])
        epoch, place = divmod(of_source, len(source))
        return Draw(number, source[shuffled(place, len(source), seed=(self.seed, part, epoch))])

    def draws(self, position: int) -> Iterator[Draw]:
        """All draws from `position` on."""
        while True:
            yield self[position]
            position += 1

    def choose_caption(self, draw: Draw) -> str:
        """The caption of a draw: a pure function of the seed and its number."""
        random_state = random.Random(f"caption/{self.seed}/{draw.number}")
        return self.config.captions.choose(draw.sample.captions, random_state=random_state)

    def __str__(self) -> str:
        """The tree with sizes, shares and what was left out."""
        lines = [f"mixture of {len(self.sources)} sources"]
        for part, source, its_turns in zip(self.config.parts, self.sources, self._turns_of, strict=True):
            hours = sum(sample.seconds or 0 for sample in source) / 3600
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
    key = hash_numbers(*seed)
    while True:
        left, right = place >> half_bits, place & mask
        for turn in range(4):
            left, right = right, left ^ (hash_numbers(key, turn, right) & mask)
        place = left << half_bits | right
        if place < size:
            return place


def hash_numbers(*numbers: int) -> int:
    """A 64-bit mix of numbers (the finaliser of SplitMix64, chained)."""
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state
