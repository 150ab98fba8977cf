"""Approximate search in a table of vectors: LanceDB's index beside the column, as wide a look as its recall needs.

An index answers quickly by looking at a part of the table, and so misses neighbours. How many is measured when it is
built, against exact search, and the look is widened until the recall asked for is reached (`lapis.search.recall`).
What was measured stands in the table, beside the column. Rows that came after the index are compared with one by one,
until `refresh` takes them in.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from lapis.search.recall import COLUMN, DEPTH, ROW, Found, Trial, vectors_of
from lapis.shapes import Vectors

if TYPE_CHECKING:
    import pyarrow as pa

METADATA_KEY = "lapis:approximation"


class UnfitError(ValueError):
    """An index cannot be made of a table, which is none the worse."""


FEWEST_ROWS = 50_000
"""Of fewer, exact search is quick: `worthwhile` says no."""
FEW_ROWS = 2_000
"""Of the rows that a condition leaves, so many are compared with one by one."""
LARGEST_DEPTH = 1_000
"""Whoever asks for more neighbours gets them by exact search: an index is made for a few."""
EFFORTS = ((8, 30), (16, 30), (32, 30), (64, 30), (128, 30), (256, 30), (512, 30))
"""Partitions to look at, and candidates for each neighbour to compare by their whole vectors; the quickest first. With
10 candidates, vectors far from all rows lose every sixth neighbour once LanceDB has joined partitions (`refresh`)."""
BITS = 2
"""Of a number in the index. With one, vectors far from all rows are found badly: docs/scale.md."""
FEWEST_TRAINABLE = 256
GROWN = 2.0
"""An index is trained anew when the table has so many times the rows it was trained on."""


@dataclass(frozen=True)
class Approximation:
    """An index of a table as it was built, with what was measured of it."""

    rows: int
    """When it was built."""
    partitions: int
    probes: int
    """Partitions looked at for a query."""
    refine: int
    """Candidates compared by their whole vectors, for each neighbour asked for."""
    depth: int
    goal: float
    recall_rows: float
    """The share of the `depth` nearest that are found, for rows of the table (the row itself not counted)."""
    recall_far: float
    """The same for vectors far from all rows."""
    queries: int
    """Of each sort."""
    far: Literal["given", "made"]
    """Whether the far vectors were somebody's, or made (`far_from`)."""

    @property
    def is_reached(self) -> bool:
        """Whether the recall is what was asked for."""
        return min(self.recall_rows, self.recall_far) >= self.goal

    def __str__(self) -> str:
        return (
            f"index of {self.rows:,} rows in {self.partitions:,} partitions, {self.probes} looked at: "
            f"recall@{self.depth} {self.recall_rows:.3f} for its own rows, {self.recall_far:.3f} for vectors far from "
            f"them ({self.far}), {self.goal:.2f} asked for"
        )


def worthwhile(num_rows: int) -> bool:
    """Whether a table of so many rows gains by an index."""
    return num_rows >= FEWEST_ROWS


def approximation_of(table: Any) -> Approximation | None:
    """What was measured of the table's index; None where it has none."""
    return None if _index_name(table) is None else _noted(table)


def num_unindexed(table: Any) -> int:
    """The rows that came after the index and are compared with one by one; all, where there is no index."""
    name = _index_name(table)
    return table.count_rows() if name is None else table.index_stats(name).num_unindexed_rows


def build(
    table: Any,
    *,
    goal: float = 0.95,
    far: Vectors | None = None,
    partitions: int | None = None,
    queries: int = 100,
    seed: int = 0,
) -> Approximation:
    """Make the index of a table (in place of the one it has), measure it, and look as widely as the goal needs.

    The table can be read and appended to meanwhile. Memory: a sample of 256 vectors a partition.

    Args:
        table: LanceDB's, with unit vectors in its column `vector`.
        goal: the recall of the ten nearest to reach for rows and for far vectors alike; if even the widest look misses
            it, that one is kept and `is_reached` says no.
        far: unit vectors of another sort that will be asked for, those of texts; made by
            `lapis.search.recall.far_from` where none are.
        partitions: of the table; the square root of its rows unless told.
        queries: of each sort to measure with.
        seed: of the choice of these.

    Raises:
        ValueError: the table has fewer rows than an index can be trained on.
    """
    from lancedb.index import IvfRq

    partitions = partitions_for(table, partitions=partitions)
    config = IvfRq(distance_type="cosine", num_partitions=partitions, num_bits=BITS)
    table.create_index(COLUMN, config=config, replace=True)
    return measure(table, partitions=partitions, goal=goal, far=far, queries=queries, seed=seed)


def partitions_for(table: Any, *, partitions: int | None = None) -> int:
    """Of an index of a table: the square root of its rows unless told.

    Raises:
        UnfitError: the table has fewer rows than an index can be trained on.
    """
    rows = table.count_rows()
    check_trainable(rows)
    return partitions or round(rows**0.5)


def check_trainable(rows: int) -> None:
    """That an index can be trained on so many rows.

    Raises:
        UnfitError: they are too few.
    """
    if rows < FEWEST_TRAINABLE:
        raise UnfitError(f"expected at least {FEWEST_TRAINABLE} rows to make an index of, got {rows}")


def measure(
    table: Any,
    *,
    partitions: int,
    goal: float = 0.95,
    far: Vectors | None = None,
    queries: int = 100,
    seed: int = 0,
    trained_rows: int | None = None,
) -> Approximation:
    """Measure the index that a table has, whoever built it, choose how widely to look, and note both in the table.

    Args:
        table: LanceDB's.
        partitions: of the index.
        goal: and the others, as `build` has them.
        trained_rows: how many rows the table had when the index was trained; as many as now unless told.
    """
    rows = table.count_rows() if trained_rows is None else trained_rows
    trial = Trial.of(table, queries=queries, far=far, seed=seed)
    measured: Approximation | None = None
    for probes, refine in sorted({(min(probes, partitions), refine) for probes, refine in EFFORTS}):
        recall = trial.recall(partial(_rows_found, table, probes=probes, refine=refine))
        measured = Approximation(
            rows=rows,
            partitions=partitions,
            probes=probes,
            refine=refine,
            depth=DEPTH,
            goal=goal,
            recall_rows=float(recall.near.mean()),
            recall_far=float(recall.far.mean()),
            queries=len(trial.near),
            far=trial.sort,
        )
        if recall.reaches(goal):
            break
    assert measured is not None
    table.update_field_metadata({"path": COLUMN, "metadata": {METADATA_KEY: json.dumps(asdict(measured))}})
    return measured


def refresh(table: Any, *, far: Vectors | None = None) -> Approximation | None:
    """Take the rows that came after the index into it, and measure it again; train it anew where the table has doubled.

    LanceDB may join partitions when it takes rows in, so that another look is needed for the same recall.

    Returns what is known of the index then; None where there is none.
    """
    known = approximation_of(table)
    if known is None:
        return None
    if table.count_rows() > GROWN * known.rows:
        return build(table, goal=known.goal, far=far, queries=known.queries)
    came = num_unindexed(table)
    table.optimize()
    if not came:
        return known
    return measure(
        table, partitions=known.partitions, goal=known.goal, far=far, queries=known.queries, trained_rows=known.rows
    )


def nearest(
    table: Any,
    vector: Float[np.ndarray, "_width"],
    *,
    depth: int,
    columns: Sequence[str],
    where: str | None = None,
    exactly: bool = False,
) -> "pa.Table":
    """The rows nearest to a unit vector by cosine, the best first, with `columns` and their `_distance` (1 - cosine).

    With the table's index, where it has one; without it where a condition leaves few rows, or many neighbours are asked
    for. Rows that came after the index are always found.

    Args:
        table: LanceDB's.
        vector: what to be near to.
        depth: how many rows.
        columns: to return.
        where: a condition in SQL that the rows are to meet; it is honoured before the nearest are chosen.
        exactly: compare with every row.
    """
    known = None if exactly or depth > LARGEST_DEPTH else _noted(table)
    query = _query(table, vector)
    if where is not None:
        if known is not None and table.count_rows(where) < FEW_ROWS:
            return _compared(table, vector, where=where, depth=depth, columns=columns)
        query = query.where(where, prefilter=True)
    query = query.bypass_vector_index() if known is None else _looking(query, known)
    return query.select([*columns, "_distance"]).limit(depth).to_arrow().sort_by("_distance")


def _compared(table: Any, vector: np.ndarray, *, where: str, depth: int, columns: Sequence[str]) -> "pa.Table":
    """The nearest of the rows that meet a condition, which alone are read: LanceDB would pass through the column."""
    import pyarrow as pa

    left = table.search().where(where).select([*columns, COLUMN]).to_arrow().combine_chunks()
    distances = np.empty(0, np.float32)
    if left.num_rows:
        vectors = vectors_of(left.column(COLUMN).chunk(0))
        distances = 1 - vectors @ vector.astype(np.float32) / np.linalg.norm(vectors, axis=1)
    told = left.select(list(columns)).append_column("_distance", pa.array(distances))
    return told.sort_by("_distance").slice(0, depth)


def _noted(table: Any) -> Approximation | None:
    said = (table.schema.field(COLUMN).metadata or {}).get(METADATA_KEY.encode())
    return None if said is None else Approximation(**json.loads(said))


def _index_name(table: Any) -> str | None:
    return next((index.name for index in table.list_indices() if index.columns == [COLUMN]), None)


def _query(table: Any, vector: np.ndarray) -> Any:
    return table.search(vector.astype(np.float32), vector_column_name=COLUMN).distance_type("cosine")


def _looking(query: Any, known: "Approximation") -> Any:
    """As widely as was found to be enough, and wider by itself until there are enough rows, which meet a condition."""
    return query.nprobes(known.probes).maximum_nprobes(0).refine_factor(known.refine)


def _rows_found(table: Any, queries: Vectors, depth: int, *, probes: int, refine: int) -> list[Found]:
    asked = (_query(table, vector).nprobes(probes).refine_factor(refine) for vector in queries)
    answers = (query.with_row_id(True).select(["_distance"]).limit(depth).to_arrow() for query in asked)
    return [answer.column(ROW).to_numpy() for answer in answers]
