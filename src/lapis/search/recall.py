"""How much of what exact search finds another way of searching finds: the truth in one pass, and the trial against it.

A trial asks with rows of the table, and with vectors that lie far from all of them, as those of texts do (the modality
gap, arXiv 2203.02053). The latter are the harder ones: what they share with no row is larger than what tells the rows
apart, and an index that keeps rough vectors confuses the two.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Float32, UInt64

from lapis.shapes import Vectors

Found = UInt64[np.ndarray, "_rows"]
"""Numbers of rows, in one version of a table."""

COLUMN = "vector"
ROW = "_rowid"
BLOCK_ROWS = 8192
DEPTH = 10


@dataclass(frozen=True)
class Exact:
    """The nearest rows of some queries, the best first; `depth` is all rows where there are fewer."""

    rows: UInt64[np.ndarray, "queries depth"]
    """Their numbers in this version of the table."""
    cosines: Float32[np.ndarray, "queries depth"]


@dataclass(frozen=True)
class Recall:
    """Of the `DEPTH` nearest rows, the share that was found for each query."""

    near: Float[np.ndarray, "queries"]
    """For rows of the table; the row itself is not counted."""
    far: Float[np.ndarray, "queries"]

    def reaches(self, goal: float) -> bool:
        """Whether both means are above the goal by two standard errors, so that other queries have it too."""
        return all(of.mean() - 2 * of.std() / len(of) ** 0.5 >= goal for of in (self.near, self.far))


@dataclass(frozen=True)
class Trial:
    """Queries and what exact search answers them."""

    near: Vectors
    """Rows of the table, drawn by chance."""
    near_rows: Found
    far: Vectors
    sort: Literal["given", "made"]
    """Of the far ones: somebody's, or `far_from` the near ones."""
    truth: UInt64[np.ndarray, "queries depth"]
    """Of the near ones, with themselves, and then of the far ones."""

    @classmethod
    def of(cls, table: Any, *, queries: int, far: Vectors | None = None, seed: int = 0) -> "Trial":
        """Draw so many queries of each sort from a table, and look for their neighbours in one pass through it."""
        near, near_rows = _sample(table, queries, seed=seed)
        away = far_from(near, seed=seed) if far is None else far[:queries]
        truth = exact(table, np.concatenate([near, away]), depth=DEPTH + 1).rows
        return cls(near, near_rows, away, "made" if far is None else "given", truth)

    def recall(self, ask: Callable[[Vectors, int], Iterable[Found]]) -> Recall:
        """What is found by a function of queries and a depth, which gives the rows of each query."""
        near = zip(ask(self.near, DEPTH + 1), self.truth, self.near_rows)
        far = zip(ask(self.far, DEPTH), self.truth[len(self.near) :])
        return Recall(
            near=np.array([_share(one[one != own][:DEPTH], true[true != own][:DEPTH]) for one, true, own in near]),
            far=np.array([_share(one, true[:DEPTH]) for one, true in far]),
        )


def exact(table: Any, queries: Vectors, *, depth: int, where: str | None = None) -> Exact:
    """The nearest rows of many queries at once, by comparing them with every row in one pass through the table.

    Memory: `BLOCK_ROWS` vectors at a time.
    """
    best_rows = np.empty((len(queries), 0), np.uint64)
    best = np.empty((len(queries), 0), np.float32)
    scan = table.search().select([COLUMN]).with_row_id(True)
    if where is not None:
        scan = scan.where(where)
    for batch in scan.to_batches(BLOCK_ROWS):
        cosines = queries @ vectors_of(batch.column(COLUMN)).T
        rows = np.broadcast_to(batch.column(ROW).to_numpy().astype(np.uint64), cosines.shape)
        all_cosines, all_rows = np.concatenate([best, cosines], axis=1), np.concatenate([best_rows, rows], axis=1)
        if all_cosines.shape[1] > depth:
            chosen = np.argpartition(-all_cosines, depth - 1, axis=1)[:, :depth]
            all_cosines, all_rows = (np.take_along_axis(of, chosen, axis=1) for of in (all_cosines, all_rows))
        best, best_rows = all_cosines, all_rows
    order = np.argsort(-best, axis=1, kind="stable")
    return Exact(np.take_along_axis(best_rows, order, axis=1), np.take_along_axis(best, order, axis=1))


def vectors_of(column: Any) -> Vectors:
    """A column of vectors in Arrow as an array."""
    width = column.type.list_size
    return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width).astype(np.float32)


def far_from(vectors: Vectors, *, seed: int) -> Vectors:
    """Vectors like those of texts for sounds: a cosine of about 0.3 to one vector each; the rest lies in a direction
    that they share (0.8) and in one of their own (0.52)."""
    random = np.random.default_rng(seed)
    width = vectors.shape[1]
    shared, own = random.standard_normal((1, width)), random.standard_normal((len(vectors), width))
    shared, own = (of / np.linalg.norm(of, axis=1, keepdims=True) for of in (shared, own))
    mixed = 0.3 * vectors + 0.8 * shared + 0.52 * own
    return (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)


def _sample(table: Any, count: int, *, seed: int) -> tuple[Vectors, Found]:
    rows = table.count_rows()
    chosen = np.random.default_rng(seed).choice(rows, size=min(count, rows), replace=False)
    taken = table.take_offsets(sorted(chosen.tolist())).select([COLUMN]).with_row_id().to_arrow().combine_chunks()
    return vectors_of(taken.column(COLUMN).chunk(0)), taken.column(ROW).to_numpy().astype(np.uint64)


def _share(found: Found, truth: Found) -> float:
    return len(np.intersect1d(found, truth)) / len(truth) if len(truth) else 1.0
