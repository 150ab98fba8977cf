"""A table of vectors (`lapis embed`) into an index: each file one window, from its beginning to its end.

Rows go in by the ten thousand, in one commit each time; those of paths that were met before, in the index or further up
in the table, replace what was there. How far it has come is noted in the index's own table after each commit, so that
an import that was ended anyhow goes on there; what was written and not yet noted is met again, and replaced.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, UInt64

from lapis.data.storage import is_url
from lapis.search.columns import archive_of, imported
from lapis.search.embedded import Embedded
from lapis.search.index import Index
from lapis.search.opening import check_identity
from lapis.search.parts import LISTED_FAILURES
from lapis.search.place import Place, explained
from lapis.search.windows_table import WindowsTable
from lapis.shapes import Vectors

if TYPE_CHECKING:
    import pyarrow as pa

COMMIT_BYTES = 1 << 27
"""Of vectors in one commit, all of which are in memory."""
LEAST_COMMIT_ROWS = 1024
NOTE_COLUMN = "audio_hash"
NOTE_KEY = "lapis:importing"
LISTED_ABSENT = 10
FOLDERS_KEPT = 1 << 16
DIGEST_BYTES = 8


@dataclass(frozen=True)
class ImportReport:
    """What became of the rows of a table: together, these numbers are all of them."""

    added: int
    replaced: int
    """Rows of a path that was there, in the index or further up in the table: the last one counts."""
    resumed: int
    """Imported by an earlier run that did not come to its end."""
    failed: int
    """Without a vector."""
    absent: int
    """With a relative path that leads nowhere from here."""
    failures: tuple[tuple[str, str], ...]
    """Path and reason of the first rows without a vector; the table's column `error` has them all."""
    absences: tuple[str, ...]
    """The first paths that lead nowhere."""


def import_table(
    index: Index,
    table: Embedded,
    *,
    root: Path | None = None,
    commit_rows: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Put the rows of a table into an index of the same model. Nobody else may write the index meanwhile.

    The path of a row is as `lapis index` has it: whole, links of folders followed. A member of a tar keeps its name
    after the tar's (`/sounds/a.tar:rain.flac`), and an address stays as it is.

    Memory: the vectors of one commit, and 8 bytes for each path in the index and in the table.

    Args:
        index: made by the same model.
        table: what `lapis embed` has written.
        root: what relative paths are relative to, whether the files are there or not. Without it, it is the working
            folder, and rows of relative paths where no file is are left out.
        commit_rows: rows in one commit; `COMMIT_BYTES` of vectors unless told.
        progress: called with the number of rows done and of all.

    Raises:
        ValueError: another model made the table, a row of it is damaged, or the index is, or is being written.
    """
    place = Place(index.folder)
    check_identity(place, index.metadata, asked=table.identity)
    if index.metadata.width != table.width:
        raise ValueError(f"the index in {place} has vectors of width {index.metadata.width}, the table {table.width}")
    rows = commit_rows or max(LEAST_COMMIT_ROWS, COMMIT_BYTES // (4 * table.width))
    with place.claims.alone():
        base = Path.cwd() if root is None else root.absolute()
        return _Import(WindowsTable(index.table, place=place), table, base, root is None, rows, progress).run()


@dataclass(eq=False)
class _Import:
    """One run over a table."""

    windows: WindowsTable
    table: Embedded
    base: Path
    """Of relative paths."""
    is_guessed: bool
    """Whether nobody has said so: then only those count that lead to a file."""
    commit_rows: int
    progress: Callable[[int, int], None] | None
    added: int = 0
    replaced: int = 0
    resumed: int = 0
    absences: list[str] = field(default_factory=list)
    _absent: int = 0
    _new: dict[str, "_Sound"] = field(default_factory=dict)
    """Of paths that were never met; to be written next."""
    _again: dict[str, "_Sound"] = field(default_factory=dict)
    """Of paths that were met; to be written after those."""

    def run(self) -> ImportReport:
        """Do it."""
        noted, seen, is_written = self._noted(), self._paths_there(), False
        done, failed, failures = 0, 0, list[tuple[str, str]]()
        for batch in self.table.batches():
            failed += len(batch.failures)
            failures += batch.failures[: LISTED_FAILURES - len(failures)]
            first = int(np.searchsorted(batch.numbers, noted))
            self._sort(batch.paths, batch.vectors, batch.seconds.tolist(), seen=seen, num_noted=first)
            done += batch.num_rows
            if len(self._new) + len(self._again) >= self.commit_rows:
                self._write(done)
                is_written = True
            if self.progress:
                self.progress(done, self.table.num_rows)
        is_written = is_written or noted > 0 or bool(self._new or self._again)
        self._write(done)
        if is_written:
            self._note(None)
            self.windows.compact()
        return ImportReport(
            self.added, self.replaced, self.resumed, failed, self._absent, tuple(failures), tuple(self.absences)
        )

    def _sort(
        self, paths: Sequence[str], vectors: Vectors, seconds: Sequence[float], *, seen: "_Seen", num_noted: int
    ) -> None:
        """Rows to be appended, and rows to replace others; of the first ones, which an earlier run has noted, those
        that somebody has taken out since."""
        found = [(whole, number) for number, path in enumerate(paths) if (whole := self._whole(path)) is not None]
        was_met = seen.add([whole for whole, _ in found])
        for (whole, number), met in zip(found, was_met.tolist(), strict=True):
            sound = _Sound(vectors[number], seconds[number])
            if met and number < num_noted:
                self.resumed += 1
            elif whole in self._new:
                self._new[whole] = sound
                self.replaced += 1
            elif met:
                self._again[whole] = sound
                self.replaced += 1
            else:
                self._new[whole] = sound
                self.added += 1

    def _whole(self, path: str) -> str | None:
        """As the index has it; None where nobody knows what it is relative to."""
        if is_url(path):
            return path
        whole = self.base / path
        found = _resolved(whole.parent) / whole.name
        is_there = os.path.exists(found)  # noqa: PTH110  (`Path.exists` raises where a name is too long)
        if not self.is_guessed or Path(path).is_absolute() or is_there or archive_of(str(found)):
            return str(found)
        self._absent += 1
        if len(self.absences) < LISTED_ABSENT:
            self.absences.append(path)
        return None

    def _write(self, done: int) -> None:
        """Write what is held, and then that so many rows of the table are done."""
        if not (self._new or self._again):
            return
        if self._new:
            self.windows.append(self._rows(self._new))
        if self._again:
            self.windows.replace(self._rows(self._again), of=self._again.keys())
        self._new, self._again = {}, {}
        if not self._absent:  # else a file that comes later would be passed over
            self._note(done)

    def _rows(self, sounds: "Mapping[str, _Sound]") -> "pa.Table":
        vectors = np.stack([sound.vector for sound in sounds.values()])
        seconds = [sound.seconds for sound in sounds.values()]
        return imported(list(sounds), vectors=vectors, seconds=seconds, width=self.table.width)

    def _paths_there(self) -> "_Seen":
        seen, scan = _Seen(), self.windows.table.search().where("window = 0").select(["path"])
        with explained(self.windows.place, doing="read"):
            for batch in scan.to_batches():
                seen.add(batch.column("path").to_pylist())
        return seen

    @property
    def _mark(self) -> str:
        """Of this table, with its relative paths meant so."""
        return f"{self.table.mark} {self.base}"

    def _noted(self) -> int:
        """How many rows of this table an earlier run has written."""
        said = (self.windows.table.schema.field(NOTE_COLUMN).metadata or {}).get(NOTE_KEY.encode())
        note = {} if said is None else json.loads(said)
        return int(note["rows"]) if note.get("table") == self._mark else 0

    def _note(self, rows: int | None) -> None:
        """In the table itself, so that whoever makes the index anew begins anew."""
        said = None if rows is None else json.dumps({"table": self._mark, "rows": rows})
        with explained(self.windows.place, doing="written"):
            self.windows.table.update_field_metadata({"path": NOTE_COLUMN, "metadata": {NOTE_KEY: said}})


@dataclass(frozen=True, eq=False)
class _Sound:
    vector: Float[np.ndarray, "_width"]
    seconds: float


class _Seen:
    """Paths, as digests of 8 bytes, in sorted runs each longer than the next. Of two that share a digest, which is one
    in a thousand times even among 100 million, the second counts as met, and is written as one that was."""

    def __init__(self) -> None:
        self._runs: list[UInt64[np.ndarray, "_paths"]] = []

    def add(self, paths: Sequence[str]) -> Bool[np.ndarray, "_paths"]:
        """Add paths; gives whether each was there before."""
        digests = np.frombuffer(b"".join(map(_digest, paths)), np.uint64)
        was_there = np.zeros(len(digests), bool)
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, digests), len(run) - 1)
            was_there |= run[places] == digests
        new = np.unique(digests[~was_there])
        while len(new) and self._runs and len(self._runs[-1]) <= len(new):
            new = np.sort(np.concatenate([self._runs.pop(), new]))
        if len(new):
            self._runs.append(new)
        return was_there


def _digest(path: str) -> bytes:
    return hashlib.blake2b(path.encode(), digest_size=DIGEST_BYTES).digest()


@lru_cache(maxsize=FOLDERS_KEPT)
def _resolved(folder: Path) -> Path:
    return folder.resolve()
