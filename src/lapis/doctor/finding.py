"""What a check says: how bad it is, a sentence for a person, and the figures behind it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Level = Literal["fine", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """What one check found. A check that could not run is a warning that says why."""

    check: str
    level: Level
    sentence: str
    figures: Mapping[str, float] = field(default_factory=dict)


class ModelWarning(UserWarning):
    """A model that was loaded, but seems not to be well."""
