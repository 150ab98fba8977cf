"""What `survey` finds in a source, as plain values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Listed:
    """How many there are, and the first of them, each with why."""

    count: int
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sounds:
    """What the clips are like whose sound was read."""

    read: int
    seconds: float
    durations: Mapping[str, float]
    """Quantiles in seconds, by name (`5%`)."""
    levels: Mapping[str, float]
    """Quantiles of the root mean square, in decibels to full scale."""
    formats: Mapping[str, int]
    """Container, coding and sample rate."""
    unreadable: Listed
    broken_off: Listed
    """Read, but less is there than the file promises."""
    silent: Listed
    quiet: Listed
    clipped: Listed
    other_duration: Listed
    """By over a tenth of a second another one than stated."""
    equal_bytes: Listed
    """Clips of which an earlier one has the same bytes."""


@dataclass(frozen=True)
class Survey:
    """A source as a whole. Counts by name are the most frequent first."""

    clips: int
    hours: float
    """Stated, and where nothing is stated, as much a clip as those have that were read."""
    stated: int
    """Clips that say how long they are."""
    durations: Mapping[str, float]
    domains: Mapping[str, int]
    spoken_languages: Mapping[str, int]
    caption_languages: Mapping[str, int]
    """Clips with a caption in it."""
    captions: int
    captions_a_clip: Mapping[str, int]
    caption_characters: Mapping[str, Mapping[str, float]]
    """Quantiles, by language."""
    without_words: int
    labels: Mapping[str, int]
    licences: Mapping[str, int]
    sources: Mapping[str, int]
    splits: Mapping[str, int]
    unreadable: Listed
    """Places of the source that it cannot give."""
    equal_keys: int
    equal_captions: int
    """Captions that stand at an earlier clip too, spelling of capitals and spaces aside."""
    repeated_captions: Mapping[str, int]
    """The most frequent of them, and how often they stand there."""
    sound: Sounds | None = None
    histograms: Mapping[str, Any] = field(default_factory=dict)
    """For the picture: name to counts and edges."""

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)
