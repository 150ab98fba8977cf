"""Work that is handed out in pieces: runs of a job's clips that have no rows yet, small enough to be done again.

A worker that is lost costs its lease. What is noted of a lease is what a process notes of itself (`careful.py`): the
driver keeps the journal in the worker's stead, since the worker may share no disk with it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from lapis.data.sample import Location
from lapis.data.storage import Patience
from lapis.search.careful import NAME, Journal
from lapis.search.clips import Clip
from lapis.search.parts import Parts
from lapis.search.stored import Stored
from lapis.search.withheld import OTHER_CLIPS

LOOKED_THROUGH = 64
"""Of the first clips of a job, for some that lie in a store."""


@dataclass(frozen=True)
class Lease:
    """Clips that follow each other in the listing, from number `begin` on."""

    place: int
    """Of the lease in a grid over the whole listing, which is the same in the next run."""
    begin: int
    clips: tuple[Clip, ...]
    others: tuple[Clip, ...] = ()
    """Of other leases, in stores: by them one tells whether a store is away."""

    def after(self, count: int) -> "Lease":
        """What is left of it when so many clips are done."""
        return replace(self, begin=self.begin + count, clips=self.clips[count:])

    def only_first(self) -> "Lease":
        """Of its first clip, with what follows it among the others."""
        first = replace(self, clips=self.clips[:1])
        return _with_others(first, (*self.clips[1:], *self.others))

    def seen(self) -> Path | None:
        """A file of this machine among its first clips."""
        paths = (clip.audio.path for clip in self.clips[:4] if isinstance(clip.audio, Location))
        return next((path for path in paths if path.exists()), None)

    def journal(self, folder: Path) -> Journal:
        """Its journal, in which one more beginning has been noted."""
        return Journal(folder, begin=self.begin, ahead=len(self.clips), name=self._journal_name)

    def is_begun(self, folder: Path) -> bool:
        """Whether somebody has begun it and not ended it."""
        return (folder / self._journal_name).exists()

    def forget(self, folder: Path) -> None:
        """Delete its journal."""
        (folder / self._journal_name).unlink(missing_ok=True)

    @property
    def _journal_name(self) -> str:
        return f"{self.place:012d}.{NAME}"


def leases_of(parts: Parts, *, clips_each: int, patience: Patience | None = None) -> Iterator[Lease]:
    """The leases of all gaps of a job, in the order of the listing, which is gone through once."""
    first = [clip for clip in islice(parts.clips(begin=0, patience=patience), LOOKED_THROUGH) if _is_stored(clip)]
    waiting: Lease | None = None
    for lease in _cut(parts.numbered_clips(parts.gaps(), patience=patience), clips_each=clips_each):
        if waiting is not None:
            yield _with_others(waiting, (*lease.clips, *first))
        waiting = lease
    if waiting is not None:
        yield _with_others(waiting, first)


def _cut(clips: Iterator[tuple[int, Clip]], *, clips_each: int) -> Iterator[Lease]:
    begin = 0
    run: list[Clip] = []
    for number, clip in clips:
        if run and (number != begin + len(run) or number % clips_each == 0):
            yield Lease(begin // clips_each, begin, tuple(run))
            run = []
        if not run:
            begin = number
        run.append(clip)
    if run:
        yield Lease(begin // clips_each, begin, tuple(run))


def _with_others(lease: Lease, clips: Sequence[Clip]) -> Lease:
    own = {clip.path for clip in lease.clips}
    others: dict[str, Clip] = {}
    for clip in clips:
        if _is_stored(clip) and clip.path not in own:
            others.setdefault(clip.path, clip)
    return replace(lease, others=tuple(islice(others.values(), OTHER_CLIPS)))


def _is_stored(clip: Clip) -> bool:
    return isinstance(clip.audio, Stored)
