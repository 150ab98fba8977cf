"""A file that ends the process that reads it (a decoder that crashes, memory that runs out) is found, and left out.

A process that was killed tells nothing. So each one notes at which row it began; where two have ended without getting
any further, the next ones take the clips one by one and note each before they touch it. A clip at which three in a row
have ended so is not touched again. Whoever kills processes at random must not make it guilty: before a clip is touched
anew there is a pause, and a process that ends in the pause acquits it.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lapis.files import atomic_write

NAME = "progress.json"
ENDS = 2
"""Of processes in one place, before clips are taken one by one."""
ENDS_AT_CLIP = 3
"""Of processes at one clip, before it is left out."""
PAUSE_SECONDS = 2.0


@dataclass(frozen=True)
class Progress:
    """Where processes have ended without a word, as the last one leaves it."""

    begin: int = 0
    """The row that comes next."""
    ends: int = 0
    """Of processes that began with this row; of one that is at work too, since it will not tell if it is killed."""
    careful_until: int = 0
    """The row up to which clips are taken one by one."""
    ends_at_clip: int = 0
    """Of processes that took the next row's clip by itself."""


class Journal:
    """What is noted in a job's folder."""

    def __init__(self, folder: Path, *, begin: int, ahead: int, name: str = NAME) -> None:
        """Note that a process begins with this row; `ahead` is how many clips it may touch before a row is written.

        Where several are at work on one job, each has a journal of another name, which ends in `NAME`.

        Raises:
            ValueError: the journal is damaged.
        """
        self._path = folder / name
        there = self._read()
        if there.begin != begin:
            there = Progress(begin, careful_until=there.careful_until if there.careful_until > begin else 0)
        if there.ends >= ENDS and not there.careful_until:
            there = replace(there, careful_until=begin + ahead)
        self._before = there
        self._write(replace(there, ends=there.ends + 1))

    @property
    def careful_until(self) -> int:
        """The row up to which clips are to be taken one by one, if it lies ahead."""
        return self._before.careful_until

    def is_blamed(self, row: int) -> bool:
        """Whether so many processes have ended at this clip that it must be the reason."""
        return row == self._before.begin and self._before.ends_at_clip >= ENDS_AT_CLIP

    def touch(self, row: int, *, pause: Callable[[float], None] | None = None) -> None:
        """Note, before a clip is taken by itself, that it is; `pause` keeps the process that is to take it waiting."""
        before = self._before.ends_at_clip if row == self._before.begin else 0
        self._before = replace(self._before, begin=row, ends_at_clip=before)
        if before:
            self._write(replace(self._before, ends_at_clip=0))
            (pause or time.sleep)(PAUSE_SECONDS)
        self._write(replace(self._before, ends_at_clip=before + 1))

    def forgive(self) -> None:
        """Note that this process ends of itself: no clip is to blame for it."""
        self._write(self._before)

    def _read(self) -> Progress:
        if not self._path.exists():
            return Progress()
        try:
            return Progress(**json.loads(self._path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self._path} is damaged ({error}): throw the folder away with --restart") from error

    def _write(self, progress: Progress) -> None:
        with atomic_write(self._path, binary=False) as file:
            json.dump(asdict(progress), file)
