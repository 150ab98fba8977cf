"""A part of a source, for benchmarks whose every clip costs much."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig


@dataclass(frozen=True)
class Part:
    """So many clips of a source, or all where there are fewer, evenly spread over its order.

    Raises:
        ValueError: no clip is wanted.
    """

    source: SourceConfig
    clips: int

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise ValueError(f"expected a number of clips above zero, got {self.clips}")

    def build(self) -> Sequence[Sample]:
        """The clips, in the source's order."""
        samples = self.source.build()
        if len(samples) <= self.clips:
            return samples
        places = np.linspace(0, len(samples) - 1, self.clips).round().astype(int) if self.clips > 1 else [0]
        return [samples[int(place)] for place in places]
