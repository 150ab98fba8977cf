"""A source with its captions cleaned: what a mixture draws from.

A list is cleaned once and kept. Of a source that makes its samples when they are asked for, up to so many on this
machine are looked through once, to leave out those without a usable caption; a larger one, or one elsewhere, is not:
its captions are cleaned as they are drawn, and a draw without a usable one is an `UnusableError`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np

from lapis.data.ahead import Range
from lapis.data.captions import Captions, Reject, ignore
from lapis.data.leaks.exclusion import Exclusion
from lapis.data.sample import Sample

NO_CAPTION = "sample without a usable caption"


class UnusableError(ValueError):
    """A sample that was drawn and cannot be used."""


@runtime_checkable
class OnDemand(Protocol):
    """A source that makes a sample when it is asked for and knows durations before."""

    may_fork: bool
    """Whether workers may be copies of the process that opened it."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> Sample: ...

    def seconds(self, place: int) -> float | None:
        """How long a sample is."""
        ...

    def ranges(self, place: int) -> tuple[Range, ...]:
        """What reading a sample will ask of a store; none if it lies on this machine."""
        ...

    @property
    def total_seconds(self) -> float:
        """Of all samples."""
        ...


class Usable:
    """The usable samples of a source, by number."""

    def __init__(
        self,
        source: Sequence[Sample] | OnDemand,
        captions: Captions,
        *,
        scanned: int,
        reject: Reject,
        exclusion: Exclusion | None = None,
    ) -> None:
        """With up to `scanned` samples looked through; `reject` gets the reason of whatever is left out."""
        self._captions, self._exclusion = captions, exclusion
        self._on_demand = source if isinstance(source, OnDemand) else None
        self._kept: list[Sample] = []
        self._places: np.ndarray | None = None
        if self._on_demand is None:
            self._kept = [cleaned for sample in source if (cleaned := self._clean(sample, reject)) is not None]
            self.total_seconds = float(sum(sample.seconds or 0 for sample in self._kept))
        elif len(source) > scanned or (len(source) and self._on_demand.ranges(0)):
            self.total_seconds = self._on_demand.total_seconds
        else:
            # One of them at a time is in memory.
            usable = [place for place in range(len(source)) if self._clean(source[place], reject) is not None]
            self._places = np.array(usable, np.int64)
            self.total_seconds = float(sum(self._on_demand.seconds(place) or 0 for place in usable))

    @property
    def is_on_demand(self) -> bool:
        """Whether a sample is made when it is asked for, so that better a worker asks."""
        return self._on_demand is not None

    @property
    def may_fork(self) -> bool:
        """Whether workers may be copies of this process."""
        return self._on_demand is None or self._on_demand.may_fork

    def __len__(self) -> int:
        if self._on_demand is None:
            return len(self._kept)
        return len(self._on_demand) if self._places is None else len(self._places)

    def __getitem__(self, number: int) -> Sample:
        return self.sample(number, reject=ignore)

    def sample(self, number: int, *, reject: Reject) -> Sample:
        """A sample with its usable captions.

        Raises:
            UnusableError: it has none.
        """
        if self._on_demand is None:
            return self._kept[number]
        sample = self._on_demand[self._place(number)]
        # What is left out of samples that were looked through has been counted.
        cleaned = self._clean(sample, reject if self._places is None else ignore)
        if cleaned is None:
            raise UnusableError(f"{sample.audio}: {NO_CAPTION}, or on a black-list")
        return cleaned

    def seconds(self, number: int) -> float | None:
        """How long a sample is, without reading it."""
        if self._on_demand is None:
            return self._kept[number].seconds
        return self._on_demand.seconds(self._place(number))

    def ranges(self, number: int) -> tuple[Range, ...]:
        """What reading a sample will ask of a store."""
        return () if self._on_demand is None else self._on_demand.ranges(self._place(number))

    def _place(self, number: int) -> int:
        return number if self._places is None else int(self._places[number])

    def _clean(self, sample: Sample, reject: Reject) -> Sample | None:
        if self._exclusion is not None and (reason := self._exclusion.reason(sample)) is not None:
            reject(reason)
            return None
        captions = self._captions.clean(sample, reject=reject)
        if captions or not self._captions.needed:
            return sample if captions == sample.captions else replace(sample, captions=captions)
        reject(NO_CAPTION)
        return None
