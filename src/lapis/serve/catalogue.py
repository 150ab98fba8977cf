"""Which file a client means: it knows files by a digest of their path, and never sends a path."""

import hashlib
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt64

from lapis.search.columns import UNKNOWN
from lapis.search.index import Index

REMEMBERED = 4096
DIGITS = 16


@dataclass(frozen=True)
class Recording:
    """A file of an index, as it was when it was indexed."""

    path: Path
    seconds: float
    size: int
    mtime_ns: int

    @property
    def is_unchanged(self) -> bool:
        """Whether the file is there, and still what the index has vectors of."""
        try:
            status = self.path.stat()
        except OSError:
            return False
        return (status.st_size, status.st_mtime_ns) == (self.size, self.mtime_ns)

    def now(self) -> "Recording":
        """As it lies there, where nobody knows how it was when it was heard: of rows that were imported."""
        if (self.size, self.mtime_ns) != (UNKNOWN.size, UNKNOWN.mtime_ns):
            return self
        try:
            status = self.path.stat()
        except OSError:
            return self
        return replace(self, size=status.st_size, mtime_ns=status.st_mtime_ns)


def number_of(path: Path) -> str:
    """What a client knows a file by; the same after a restart."""
    return _number(str(path))


def _number(path: str) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:DIGITS]


@dataclass(frozen=True, eq=False)
class _AllPaths:
    """The paths of a table's version, to be found by their numbers."""

    version: int
    paths: list[str]
    digests: UInt64[np.ndarray, "files"]
    order: Int64[np.ndarray, "files"]

    @classmethod
    def read(cls, index: Index, version: int) -> "_AllPaths":
        """Of an index, which takes seconds for a million files."""
        paths = index.table.search().where("window = 0").select(["path"]).to_arrow()["path"].to_pylist()
        digests = np.array([int(_number(path), 16) for path in paths], np.uint64)
        order = np.argsort(digests)
        return cls(version, paths, digests[order], order)

    def find(self, number: str) -> Path | None:
        """The path with this number."""
        digest = np.uint64(int(number, 16))
        place = int(np.searchsorted(self.digests, digest))
        found = place < len(self.digests) and self.digests[place] == digest
        return Path(self.paths[self.order[place]]) if found else None


NO_PATHS = _AllPaths(-1, [], np.zeros(0, np.uint64), np.zeros(0, np.int64))


class Catalogue:
    """Finds the files of an index by their numbers; threads may ask.

    Those that a search has told lately are remembered. Any other is looked for among all paths, which are read when
    they are first needed, and again when the table has changed and does not have the number.
    """

    def __init__(self) -> None:
        self._told: OrderedDict[str, Path] = OrderedDict()
        self._recordings: OrderedDict[tuple[Path, int], Recording | None] = OrderedDict()
        self._index: Index | None = None
        self._all = NO_PATHS
        self._lock = threading.Lock()
        self._reading = threading.Lock()  # one thread reads all paths, and those who ask for known files do not wait

    def told(self, path: Path) -> str:
        """The number of a file, which is about to be told to a client."""
        number = number_of(path)
        with self._lock:
            _keep(self._told, number, path)
        return number

    def find(self, number: str, *, index: Index) -> Recording | None:
        """The file with a number, if the index has one.

        Raises:
            ValueError: the index cannot be read.
        """
        if len(number) != DIGITS or not set(number) <= set("0123456789abcdef"):
            return None
        with self._lock:
            if index is not self._index:  # it was made anew
                self._index, self._all = index, NO_PATHS
                self._told.clear()
                self._recordings.clear()
        version = int(index.table.version)
        path = self._known(number)
        if path is None:
            with self._reading:
                path = self._known(number)
                if path is None and self._all.version != version:
                    self._all = _AllPaths.read(index, version)
                    path = self._known(number)
        if path is None:
            return None
        with self._lock:
            _keep(self._told, number, path)
            is_known = (path, version) in self._recordings
            found = self._recordings.get((path, version))
        if not is_known:
            found = _recording(path, index)
            with self._lock:
                _keep(self._recordings, (path, version), found)
        return None if found is None else found.now()

    def _known(self, number: str) -> Path | None:
        with self._lock:
            return self._told.get(number) or self._all.find(number)


def _keep(kept: OrderedDict, key: object, value: object) -> None:
    """Keep a value as the newest, and let go of the oldest of too many."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > REMEMBERED:
        kept.popitem(last=False)


def _recording(path: Path, index: Index) -> Recording | None:
    quoted = str(path).replace("'", "''")
    columns = ["end_seconds", "size", "mtime_ns"]
    rows = index.table.search().where(f"path = '{quoted}'").select(columns).to_arrow()
    if not rows.num_rows:
        return None
    last = max(rows["end_seconds"].to_pylist())
    return Recording(path, float(last), int(rows["size"][0].as_py()), int(rows["mtime_ns"][0].as_py()))
