"""Which files of an index a search is about: a folder, a length, tags, dates."""

import math
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from lapis.search.columns import is_below, quoted


@dataclass(frozen=True)
class Filter:
    """Conditions on files, all of which must hold; none unless told.

    Raises:
        ValueError: a length is negative or no number, a tag or the folder is empty, or a range is the wrong way round.
    """

    below: str | None = None
    """A folder: an absolute path, or the end of one (`Foley`, `Foley/Doors`), wherever folders of this name lie."""
    shortest_seconds: float | None = None
    """Of the file, not of a window."""
    longest_seconds: float | None = None
    tags: tuple[str, ...] = ()
    """All of them, as they are written."""
    since: date | None = None
    """The first day (UTC) on which the file may have been written last."""
    until: date | None = None
    """The last day."""

    def __post_init__(self) -> None:
        for name in ("shortest_seconds", "longest_seconds"):
            seconds = getattr(self, name)
            if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
                raise ValueError(f"{name}: expected a number of seconds, 0 or more, got {seconds}")
        if self.below is not None and not self.below.strip("/ "):
            raise ValueError(f"below: expected the name of a folder, got {self.below!r}")
        if not all(tag.strip() for tag in self.tags):
            raise ValueError(f"tags: expected words, got {self.tags}")
        for low, high in (("shortest_seconds", "longest_seconds"), ("since", "until")):
            first, last = getattr(self, low), getattr(self, high)
            if first is not None and last is not None and first > last:
                raise ValueError(f"expected {low} to be at most {high}, got {first} and {last}")

    def sql(self) -> str | None:
        """The condition for LanceDB; None where there is none."""
        conditions: list[str] = []
        if self.below is not None:
            is_whole = self.below.startswith("/")
            inside = f"contains(path, {quoted('/' + self.below.strip('/') + '/')})"
            conditions.append(is_below(Path(self.below)) if is_whole else inside)
        if self.shortest_seconds is not None:
            conditions.append(f"duration_seconds >= {float(self.shortest_seconds)!r}")
        if self.longest_seconds is not None:
            conditions.append(f"duration_seconds <= {float(self.longest_seconds)!r}")
        if self.tags:
            conditions.append(f"array_has_all(tags, make_array({', '.join(map(quoted, self.tags))}))")
        if self.since is not None:
            conditions.append(f"modified >= {_midnight(self.since)}")
        if self.until is not None and self.until < date.max:
            conditions.append(f"modified < {_midnight(self.until + timedelta(days=1))}")
        return " AND ".join(conditions) or None


def _midnight(day: date) -> str:
    return f"timestamp '{day.isoformat()} 00:00:00+00:00'"
