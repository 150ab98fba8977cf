"""Bringing an index up to date with files: what is new is heard, what only moved or was touched keeps its vectors.

Files are dealt to slots by their names, and a slot is worked on by one process at a time (`claims.py`). Before a file
is heard, its content's hash is looked up: rows of the same content are taken over.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lapis.search.claims import Claims, slot_of
from lapis.search.columns import UNKNOWN, File, Labels, Stamp, archive_of, carried, concatenated, hash_of, rows_of
from lapis.search.hearing_files import FileHearing
from lapis.search.labels import own_labels
from lapis.search.windows_table import Known, WindowsTable

if TYPE_CHECKING:
    import pyarrow as pa

GROUP_FILES = 64
"""Looked up in the table together."""


@dataclass(frozen=True)
class IndexReport:
    """What an update did, in files; `failed` says why for each, and these files are not in the index."""

    added: int
    unchanged: int
    changed: int
    removed: int
    failed: tuple[tuple[Path, str], ...]
    windows: int
    """Rows whose vectors the model made anew."""
    moved: int = 0
    """Found in another place with the same content; not heard again."""
    relabelled: int = 0
    """Of the unchanged, those whose tags or text are others now."""


@dataclass(frozen=True)
class Task:
    """What is to be brought up to date."""

    found: Sequence[Path]
    """The files that are there."""
    root: Path | None = None
    """Files of the table below this folder, and not among those found, are gone; nothing is gone without."""
    labels: Mapping[Path, Labels] | None = None
    """What is told of files; where nothing is, a file keeps what it had, and a new one has what its header says."""


@dataclass(frozen=True, eq=False)
class _Takeover:
    """The rows of one file as those of another with the same content."""

    file: File
    source: Path
    rows: "pa.Table"
    is_moved: bool


@dataclass(eq=False)
class Update:
    """One process's run over a task."""

    table: WindowsTable
    hearing: FileHearing
    claims: Claims
    commit_windows: int
    progress: Callable[[int, int], None] | None = None
    added: int = 0
    changed: int = 0
    moved: int = 0
    relabelled: int = 0
    windows: int = 0
    failed: list[tuple[Path, str]] = field(default_factory=list)
    _gone: set[Path] = field(default_factory=set)
    _were_there: set[Path] = field(default_factory=set)
    _is_written: bool = False
    _done: int = 0
    _total: int = 0
    _held: dict[int, IO] = field(default_factory=dict)
    _unsettled: dict[int, int] = field(default_factory=dict)

    def run(self, task: Task) -> IndexReport:
        """Do it. Files that another process has in hand come last, when it has finished with them."""
        with self.claims.adding():
            try:
                self._run(task)
            finally:
                for file in self._held.values():
                    file.close()
        with self.claims.alone_if_free() as is_alone:
            if self._is_written and is_alone:  # whoever writes longest compacts for all
                self.table.compact()
        heard_or_moved = self.added + self.changed + self.moved
        return IndexReport(
            added=self.added,
            unchanged=len(task.found) - len(self.failed) - heard_or_moved,
            changed=self.changed,
            removed=len(self._gone),
            failed=tuple(sorted(self.failed)),
            windows=self.windows,
            moved=self.moved,
            relabelled=self.relabelled,
        )

    def _run(self, task: Task) -> None:
        found = set(task.found)
        known = self.table.stamps(below=task.root) if task.root else self.table.stamps(paths=found)
        if task.root and known and not found:
            raise ValueError(
                f"{task.root} has no sounds, and the index has {len(known)} files of it: is its disk mounted? "
                f"If they are to go, `lapis index remove {task.root}` does it"
            )
        self._gone = {path for path in known.keys() - found if task.root and _is_gone(path)}
        todo = self._to_read(task, known=known)
        self._total = len(todo)
        slots: dict[int, list[File]] = {}
        for file in todo:
            slots.setdefault(slot_of(file.path), []).append(file)
        left = self._round(slots, task=task, wait=False)
        for slot in left:
            self._round({slot: slots[slot]}, task=task, wait=True)
        # What the table has of a file that can no longer be read describes sound that is no longer there.
        stale = {path for path, _ in self.failed} & known.keys()
        stale -= {path for path, now in self.table.stamps(paths=stale).items() if now != known[path]}  # others heard it
        self._gone -= {path for path in self._gone if not _is_gone(path)}  # it came while we worked, and others have it
        if stale or self._gone:
            self.table.delete(stale | self._gone)
            self._is_written = True

    def _to_read(self, task: Task, *, known: Mapping[Path, Stamp]) -> list[File]:
        """The files that are new, changed or told something new; those that cannot even be looked at have failed."""
        todo: list[File] = []
        told = self._told_otherwise(task, known=known)
        for path in task.found:
            try:
                status = path.stat()
                str(path).encode()  # The table holds UTF-8; a name that is not has no place in it.
            except (OSError, ValueError) as error:
                self.failed.append((path, str(error)))
                continue
            if not status.st_size:
                self.failed.append((path, f"{path}: expected a sound file, but it is empty (0 bytes)"))
                continue
            stamp = Stamp(status.st_size, status.st_mtime_ns)
            if known.get(path) != stamp or path in told:
                todo.append(File(path, stamp))
        return todo

    def _told_otherwise(self, task: Task, *, known: Mapping[Path, Stamp]) -> set[Path]:
        """The files whose labels are others than the table has."""
        if not task.labels:
            return set()
        nowhere = sorted(task.labels.keys() - set(task.found))
        if nowhere:
            warnings.warn(
                f"labels of {len(nowhere)} files that are not there, the first: {nowhere[0]}", UserWarning, stacklevel=2
            )
        has = self.table.known(task.labels.keys() & known.keys())
        return {path for path, known_file in has.items() if known_file.labels != task.labels[path]}

    def _round(self, slots: Mapping[int, list[File]], *, task: Task, wait: bool) -> list[int]:
        """Work on slots; gives those that other processes have. Nothing is held any more when it ends."""
        left: list[int] = []
        ready: list[File] = []
        for result in self.hearing.vectors_of(self._new_files(slots, left=left, task=task, wait=wait)):
            self._step()
            if isinstance(result, File):
                ready.append(result)
            else:
                self._fail(*result)
            if sum(len(file.spans) for file in ready) >= self.commit_windows:
                self._commit(ready)
        self._commit(ready)
        return left

    def _new_files(self, slots: Mapping[int, list[File]], *, left: list[int], task: Task, wait: bool) -> Iterator[File]:
        """The files that have to be heard; all others are settled on the way."""
        group: list[File] = []
        for slot, files in slots.items():
            claim = self.claims.take(slot, wait=wait)
            if claim is None:
                left.append(slot)
                continue
            self._held[slot], self._unsettled[slot] = claim, len(files)
            for file in files:
                group.append(file)
                if len(group) == GROUP_FILES:
                    yield from self._not_carried(group, task=task)
                    group.clear()
        yield from self._not_carried(group, task=task)

    def _not_carried(self, files: Sequence[File], *, task: Task) -> Iterator[File]:
        """Of a group of files, those whose content the table has nowhere."""
        known = self.table.known(file.path for file in files)
        hashed: list[File] = []
        for file in files:
            before = known.get(file.path)
            told = task.labels.get(file.path) if task.labels else None
            if before and before.stamp == file.stamp and told in (None, before.labels):
                self._step()  # another process was there first
                self._settle(file)
                continue
            try:
                file.audio_hash = hash_of(file.path)
            except OSError as error:
                self._step()
                self._fail(file, str(error))
                continue
            # Of a row that was imported, nobody has looked at what the header says.
            file.labels = told or (before.labels if before and before.stamp != UNKNOWN else None)
            hashed.append(file)
        copies = self.table.with_content({file.audio_hash: file.stamp.size for file in hashed})
        takeovers: list[_Takeover] = []
        for file in hashed:
            same = copies.get(file.audio_hash, [])
            takeover = self._takeover(file, same=same)
            if takeover is None:
                if file.path in known:
                    self._were_there.add(file.path)
                file.labels = file.labels or own_labels(file.path)
                yield file
                continue
            if takeover.is_moved:
                self._gone.discard(takeover.source)
            same.append(file.path)  # what takes the rows of a file that has moved has them, once this is written
            takeovers.append(takeover)
            if sum(of.rows.num_rows for of in takeovers) >= self.commit_windows:
                self._commit_takeovers(takeovers, known=known)
        self._commit_takeovers(takeovers, known=known)

    def _takeover(self, file: File, *, same: Sequence[Path]) -> "_Takeover | None":
        """The rows of a file of the same content, if one has them still: of this file before it was touched, of one
        that is gone, or of any."""
        for source in sorted(same, key=lambda path: (path != file.path, path not in self._gone)):
            rows = self.table.rows_of(source, audio_hash=file.audio_hash)
            if rows.num_rows:
                is_moved = source in self._gone
                if is_moved:
                    file.labels = file.labels or Labels(tuple(rows["tags"][0].as_py()), rows["text"][0].as_py())
                file.labels = file.labels or own_labels(file.path)
                return _Takeover(file, source, carried(rows, file, width=self.hearing.width), is_moved)
        return None

    def _commit_takeovers(self, takeovers: "list[_Takeover]", *, known: Mapping[Path, Known]) -> None:
        """Write the rows that were taken over, and delete those of the files that moved, in one commit."""
        if not takeovers:
            return
        gone = {of.source for of in takeovers if of.is_moved}
        self.table.replace(concatenated([of.rows for of in takeovers]), of=gone | {of.file.path for of in takeovers})
        self._is_written = True
        for of in takeovers:
            path = of.file.path
            if of.source == path:
                # Of a store, another machine may have written it since we looked: then there is nothing to count.
                self.relabelled += path in known and known[path].labels != of.file.labels
            elif of.is_moved:
                self.moved += 1
            else:
                self.changed += path in known
                self.added += path not in known
            self._step()
            self._settle(of.file)
        takeovers.clear()

    def _commit(self, ready: list[File]) -> None:
        if ready:
            self.table.replace(rows_of(ready, width=self.hearing.width), of=[file.path for file in ready])
            self._is_written = True
        for file in ready:
            self.windows += len(file.spans)
            self.changed += file.path in self._were_there
            self.added += file.path not in self._were_there
            self._settle(file)
        ready.clear()

    def _fail(self, file: File, reason: str) -> None:
        self.failed.append((file.path, reason))
        self._settle(file)

    def _settle(self, file: File) -> None:
        """This file is done; when its slot is, others may have the slot."""
        slot = slot_of(file.path)
        self._unsettled[slot] -= 1
        if not self._unsettled[slot]:
            self._held.pop(slot).close()

    def _step(self) -> None:
        self._done += 1
        if self.progress:
            self.progress(self._done, self._total)


def _is_gone(path: Path) -> bool:
    """Whether nothing is there; not where a folder or a disk does not let us see, nor of a member of a tar."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return archive_of(str(path)) is None
    except OSError:
        return False
    return False
