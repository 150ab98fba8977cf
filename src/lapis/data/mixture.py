"""A weighted mixture of sources as an endless list: draw n of a seed is a pure function of n.

So a run's place in the data is one number, whatever the number of workers. Sources take turns in a fixed round that
follows their weights as closely as whole numbers can; each source is shuffled anew every time it has been used up.
A mixture may stand in another one as a source does: the tree says how weights are reckoned and which captions are used
where, and drawing knows only its leaves.

`draws` is for planning batches: of a source that makes its samples on demand it tells the duration only, and whoever
reads the clip asks for the rest (`complete`).
"""

import math
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from lapis.data.ahead import Range
from lapis.data.balanced import Balanced
from lapis.data.batching import Draw
from lapis.data.captions import Captions, Reject, ignore
from lapis.data.leaks.exclusion import read_exclusion
from lapis.data.order import ROUND, shuffled, turns
from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.data.storage import StorageError
from lapis.data.usable import UnusableError, Usable
from lapis.data.variation import Variation, amplified, overlaid
from lapis.shapes import Waveform


@dataclass(frozen=True)
class Part:
    """A source, or a mixture of its own, and its share of the draws; shares need not add up to one."""

    source: "SourceConfig | Mixture.Config"
    weight: float = 1.0
    balanced_draws: int | None = None
    """Of an epoch in which rare classes are drawn as often as common ones, see `Balanced`; None for every clip once."""
    exclude: str | None = None
    """A JSON file of `lapis data blacklist`, or one of WavCaps' lists: what is on it is left out, and counted."""

    def __post_init__(self) -> None:
        if not (isinstance(self.weight, int | float) and 0 < self.weight < math.inf):
            raise ValueError(f"a part of a mixture needs a positive weight, got {self.weight!r}")


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
        """What is mixed, which captions are used, and how clips are varied.

        A mixture within one has its own captions, variation and number of samples looked through.
        """

        parts: tuple[Part, ...]
        captions: Captions = Captions()
        variation: Variation = Variation()
        scanned: int = 1_000_000
        """Tars of this machine with up to so many samples are looked through for unusable captions at the start; of
        others a draw without a usable one is left out of its batch, and counted."""

        def __post_init__(self) -> None:
            if not (isinstance(self.parts, tuple) and self.parts and all(isinstance(one, Part) for one in self.parts)):
                raise ValueError(f"a mixture needs parts, at least one, got {self.parts!r}")

        def build(self, *, seed: int) -> "Mixture":
            """The mixture with its sources opened and their captions cleaned."""
            return Mixture(self, seed=seed)

        def leaves(self, scale: float = 1.0) -> "Iterator[Leaf]":
            """The sources of the whole tree, from left to right, their weights times `scale`.

            Raises:
                ValueError: for a mixture within this one something is chosen that its parts choose.
            """
            for part in self.parts:
                if not isinstance(part.source, Mixture.Config):
                    yield Leaf(part.source, part, scale * part.weight, self)
                    continue
                if part.balanced_draws is not None or part.exclude is not None:
                    raise ValueError("balanced_draws and exclude belong to the parts of a mixture within a mixture")
                whole = sum(inner.weight for inner in part.source.parts)
                yield from part.source.leaves(scale * part.weight / whole)

    def __init__(self, config: Config, *, seed: int) -> None:
        self.config, self.seed = config, seed
        self.rejected: Counter[str] = Counter()
        self.leaves = tuple(config.leaves())
        self.sources = [self._open(leaf) for leaf in self.leaves]
        self._balanced = [
            Balanced(source, draws=draws, seed=(seed, place))
            if (draws := leaf.part.balanced_draws) is not None
            else None
            for place, (leaf, source) in enumerate(zip(self.leaves, self.sources, strict=True))
        ]
        self._turns = turns([leaf.weight for leaf in self.leaves])
        self._turns_of = [
            [turn for turn, leaf in enumerate(self._turns) if leaf == number] for number in range(len(self.leaves))
        ]

    def _open(self, leaf: "Leaf") -> Usable:
        """The source's samples with their usable captions; those left with none, or on a black-list, are counted."""
        source = Usable(
            leaf.source.build(),
            leaf.config.captions,
            scanned=leaf.config.scanned,
            reject=self._count_rejected,
            exclusion=None if leaf.part.exclude is None else read_exclusion(leaf.part.exclude),
        )
        if not len(source):
            raise ValueError(f"{leaf.source} has no sample with a usable caption; left out: {dict(self.rejected)}")
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
        places = []
        for draw in draws:
            if isinstance(draw.sample.audio, Later):
                places.append((draw.sample.audio.part, draw.sample.audio.place))
            if (companion := self._companion(draw.number)) is not None:
                places.append(self._place(companion))
        return [needed for part, place in places for needed in self.sources[part].ranges(place)]

    def varied(self, draw: Draw, waveform: Waveform, *, read: "Read") -> tuple[Draw, Waveform]:
        """A draw and its sound as they are after the variation of its mixture; `read` gives a companion's sound.

        Raises:
            ValueError: the companion cannot be read.
            StorageError: its store does not answer.
        """
        variation = self._leaf(draw.number).config.variation
        if variation == Variation():
            return draw, waveform
        random_state = random.Random(f"variation/{self.seed}/{draw.number}")
        if (number := self._companion(draw.number)) is not None and (other := self._other(number)) is not None:
            captions = self._leaf(draw.number).config.captions
            both = variation.joined(draw.sample, other.sample, captions=captions, random_state=random_state)
            if both is not None:
                try:
                    sound = read(other)
                except StorageError:
                    raise
                except ValueError as error:
                    raise ValueError(f"to be mixed with {other.sample.audio}, which cannot be read: {error}") from error
                decibels = random_state.uniform(-variation.mixed_decibels, variation.mixed_decibels)
                waveform = overlaid(waveform, sound, decibels=decibels, random_state=random_state)
                draw = Draw(draw.number, both)
        if variation.gain_decibels:
            decibels = random_state.uniform(-variation.gain_decibels, variation.gain_decibels)
            waveform = amplified(waveform, decibels=decibels)
        return draw, waveform

    def _companion(self, number: int) -> int | None:
        """The number of the draw that is laid over this one, where it has one."""
        variation = self._leaf(number).config.variation
        if not variation.mixed:
            return None
        random_state = random.Random(f"companion/{self.seed}/{number}")
        return number + random_state.randrange(1, ROUND) if random_state.random() < variation.mixed else None

    def _other(self, number: int) -> Draw | None:
        """A companion; none if it has no usable caption, which is counted at its own turn."""
        try:
            part, place = self._place(number)
            return Draw(number, self.sources[part].sample(place, reject=ignore))
        except UnusableError:
            return None

    def _leaf(self, number: int) -> "Leaf":
        return self.leaves[self._turns[number % ROUND]]

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
        return self._leaf(draw.number).config.captions.choose(draw.sample.captions, random_state=random_state)

    def __str__(self) -> str:
        """The tree with sizes, shares and what was left out."""
        leaves = iter(zip(self.sources, self.shares, strict=True))
        lines = [f"mixture of {len(self.sources)} sources", *_branches(self.config, leaves, depth=1)]
        lines += [f"  left out: {count:,} x {reason}" for reason, count in sorted(self.rejected.items())]
        return "\n".join(lines)


@dataclass(frozen=True)
class Leaf:
    """A source of a tree of mixtures."""

    source: SourceConfig
    part: Part
    """The part whose source it is."""
    weight: float
    """Of the whole tree."""
    config: Mixture.Config
    """The mixture whose part it is, which says what captions and variation it has."""


@runtime_checkable
class Read(Protocol):
    """Gives the sound of a draw."""

    def __call__(self, draw: Draw, /) -> Waveform: ...  # noqa: D102


def _branches(config: Mixture.Config, leaves: "Iterator[tuple[Usable, float]]", *, depth: int) -> list[str]:
    """A line for each source, and below a mixture within this one those of its parts, further in."""
    lines = []
    for part in config.parts:
        if isinstance(part.source, Mixture.Config):
            inner = _branches(part.source, leaves, depth=depth + 1)
            lines += [f"{'  ' * depth}mixture of {len(part.source.parts)}, weight {part.weight:g}", *inner]
        else:
            source, share = next(leaves)
            hours = source.total_seconds / 3600
            lines.append(f"{'  ' * depth}{share:6.1%}  {len(source):,} clips, {hours:.2f} h  {part.source}")
    return lines
