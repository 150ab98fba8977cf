"""Sounds that an index has more than once: files of the same content, and files whose windows sound almost alike.

Every window is compared with every other, a block of rows against another, so that memory holds two blocks and their
cosines; the work grows with the square of the rows. Of files with the same content one is compared.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lapis.search.approximate import vectors_of
from lapis.search.filters import Filter
from lapis.search.index import Index
from lapis.search.place import explained
from lapis.shapes import Vectors

MOST_PAIRS = 200_000


@dataclass(frozen=True)
class Duplicates:
    """Two files."""

    first: Path
    second: Path
    cosine: float
    """Of the windows that are almost alike, the mean; 1 where the content is the same."""
    share: float
    """Of the windows of the file that has fewer, those that have one almost like them in the other."""
    is_same_content: bool


def exact_duplicates(index: Index, *, where: Filter | None = None) -> list[Duplicates]:
    """The pairs of files of the same content, by hash and size: each file with the first of its content.

    Of files that were imported the hash is not known, and so not whether they are the same.
    """
    first: dict[tuple[str, int], Path] = {}
    found: list[Duplicates] = []
    for file in sorted((file for file in index.files(where=where) if file.audio_hash), key=lambda file: file.path):
        kept = first.setdefault((file.audio_hash, file.size), file.path)
        if kept != file.path:
            found.append(Duplicates(kept, file.path, 1.0, 1.0, True))
    return found


def near_duplicates(
    index: Index,
    *,
    least_cosine: float = 0.98,
    least_share: float = 0.5,
    where: Filter | None = None,
    block_rows: int = 4096,
    most_pairs: int = MOST_PAIRS,
    progress: Callable[[int, int], None] | None = None,
) -> list[Duplicates]:
    """The pairs of files of different content that sound almost alike, the most alike first.

    Args:
        index: whose files.
        least_cosine: of two windows that are almost alike.
        least_share: of the windows of the file with fewer, how many must have one almost like them in the other.
        where: of which files.
        block_rows: compared at once.
        most_pairs: of files with a window almost alike, held in memory.
        progress: called with the blocks done, and how many they are.

    Raises:
        ValueError: a number makes no sense, the index is damaged, or there are more pairs than can be held.
    """
    if not (-1 <= least_cosine <= 1 and 0 < least_share <= 1 and block_rows > 0):
        raise ValueError(
            f"expected -1 <= least_cosine <= 1, 0 < least_share <= 1 and block_rows > 0, "
            f"got {least_cosine}, {least_share} and {block_rows}"
        )
    copies = {of.second for of in exact_duplicates(index, where=where)}
    blocks = _Blocks(index, where=where, block_rows=block_rows, without=copies)
    pairs: dict[tuple[str, str], _Alike] = {}
    for number, one in enumerate(blocks):
        for later, other in enumerate(blocks):
            if later >= number:
                for first, second, alike in _alike(one, other, least_cosine=least_cosine):
                    pairs.setdefault((first, second), _Alike()).add(alike)
                    if len(pairs) > most_pairs:
                        raise ValueError(
                            f"more than {most_pairs:,} pairs of files have windows with a cosine of {least_cosine} or "
                            f"more: ask for a higher one, or for fewer files"
                        )
        if progress:
            progress(number + 1, blocks.total)
    windows = blocks.windows
    found = [of.told(first, second, windows=windows) for (first, second), of in pairs.items()]
    kept = [of for of in found if of.share >= least_share]
    return sorted(kept, key=lambda of: (-of.share, -of.cosine, of.first, of.second))


@dataclass(frozen=True)
class _Block:
    paths: np.ndarray
    numbers: np.ndarray
    vectors: Vectors


@dataclass
class _Alike:
    """What two files have in common: for each window of either, the best cosine to one of the other."""

    of_first: dict[int, float] = field(default_factory=dict)
    of_second: dict[int, float] = field(default_factory=dict)

    def add(self, more: "_Alike") -> None:
        """What two blocks have in common."""
        for best, new in ((self.of_first, more.of_first), (self.of_second, more.of_second)):
            for window, cosine in new.items():
                best[window] = max(best.get(window, -1.0), cosine)

    def told(self, first: str, second: str, *, windows: dict[str, int]) -> Duplicates:
        fewer = self.of_first if windows[first] <= windows[second] else self.of_second
        share = len(fewer) / min(windows[first], windows[second])
        return Duplicates(Path(first), Path(second), float(np.mean(list(fewer.values()))), share, False)


class _Blocks:
    """The rows of one version of the table, a block after another, each time anew."""

    def __init__(self, index: Index, *, where: Filter | None, block_rows: int, without: set[Path]) -> None:
        self.index, self.block_rows = index, block_rows
        self.condition = where.sql() if where else None
        self.without = {str(path) for path in without}
        self.windows: dict[str, int] = {}
        """Of each file, how many."""
        with explained(index.folder, doing="read"):
            self.table = Index.open(index.folder).table
            self.table.checkout(self.table.version)
            for batch in self._scan(["path"]):
                for path in batch.column("path").to_pylist():
                    if path not in self.without:
                        self.windows[path] = self.windows.get(path, 0) + 1
        self.total = -(-sum(self.windows.values()) // block_rows)

    def __iter__(self) -> Iterator[_Block]:
        paths: list[str] = []
        numbers: list[int] = []
        vectors: list[np.ndarray] = []

        def cut(size: int) -> _Block:
            held = np.concatenate(vectors)
            unit = held[:size] / np.maximum(np.linalg.norm(held[:size], axis=1, keepdims=True), 1e-12)
            block = _Block(np.array(paths[:size]), np.array(numbers[:size]), unit.astype(np.float32))
            del paths[:size], numbers[:size]
            vectors[:] = [held[size:]]
            return block

        with explained(self.index.folder, doing="read"):
            for batch in self._scan(["path", "window", "vector"]):
                names = batch.column("path").to_pylist()
                kept = np.array([name not in self.without for name in names], bool)
                vectors.append(vectors_of(batch.column("vector"))[kept])
                paths += [name for name, keep in zip(names, kept) if keep]
                numbers += [number for number, keep in zip(batch.column("window").to_pylist(), kept) if keep]
                while len(paths) >= self.block_rows:
                    yield cut(self.block_rows)
        if paths:
            yield cut(len(paths))

    def _scan(self, columns: list[str]) -> Any:
        query = self.table.search().select(columns)
        return (query if self.condition is None else query.where(self.condition)).to_batches(self.block_rows)


def _alike(one: _Block, other: _Block, *, least_cosine: float) -> Iterator[tuple[str, str, _Alike]]:
    """The pairs of files of two blocks that have windows almost alike, the lower path first."""
    cosines = one.vectors @ other.vectors.T
    begins, other_begins = _begins(one.paths), _begins(other.paths)
    # Of all windows, then of all files: silence is like silence in many windows, and a pair of files is looked at once.
    best = np.maximum.reduceat(np.maximum.reduceat(cosines, other_begins, axis=1), begins, axis=0)
    rows, columns = _stretches(begins, len(cosines)), _stretches(other_begins, cosines.shape[1])
    for file, row in enumerate(rows):
        for other_file in np.flatnonzero(best[file] >= least_cosine).tolist():
            column = columns[other_file]
            first, second = str(one.paths[row.start]), str(other.paths[column.start])
            if first == second:
                continue
            of_first = _best_windows(one.numbers[row], cosines[row, column].max(axis=1), least_cosine)
            of_second = _best_windows(other.numbers[column], cosines[row, column].max(axis=0), least_cosine)
            if first < second:
                yield first, second, _Alike(of_first, of_second)
            else:
                yield second, first, _Alike(of_second, of_first)


def _begins(paths: np.ndarray) -> np.ndarray:
    """Where the rows of another file begin."""
    return np.flatnonzero(np.concatenate([[True], paths[1:] != paths[:-1]]))


def _stretches(begins: np.ndarray, size: int) -> list[slice]:
    return [slice(begin, end) for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), size])]


def _best_windows(numbers: np.ndarray, cosines: np.ndarray, least_cosine: float) -> dict[int, float]:
    enough = cosines >= least_cosine
    return dict(zip(numbers[enough].tolist(), np.minimum(cosines[enough], 1.0).tolist()))
