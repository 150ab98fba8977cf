"""Making the map of a table's vectors (`lapis.search.vector_map`), and taking a map over to a newer version of it.

A row is known again by what it says in all columns but its vector: those that came are added to the graph, those that
went are removed, and the vectors of the rest are not read. The graph is in memory while it is made.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lapis.files import atomic_write, locked
from lapis.search.recall import BLOCK_ROWS, COLUMN, DEPTH, ROW, Found, Trial, vectors_of
from lapis.search.vector_map import (
    FORMAT,
    KEY,
    STAMP_NAME,
    MapStamp,
    VectorMap,
    asked,
    graph_in,
    read_stamp,
    rows_in,
    usearch_index,
    version_time,
)
from lapis.shapes import Vectors

if TYPE_CHECKING:
    import pyarrow as pa

LOCK_NAME = "lock"
MARK = "_mark"
LINKS = 16
"""Of a vector to its neighbours in the graph (`connectivity`)."""
LOOK_WHILE_ADDING = 128
THREADS = 1
"""That add vectors. With two, usearch 2.26.6 left up to 44 of 2,500 where no search finds them, each time others; with
one it left none, and makes the same graph each time."""
LOOK = (32, 64, 128, 256, 512)
"""Candidates held during a search, from the quickest: the first that reaches the goal is taken."""


def build_map(
    folder: Path | str,
    *,
    table: Any,
    embedder_identity: str,
    columns: Sequence[str],
    goal: float = 0.95,
    far: Vectors | None = None,
    queries: int = 100,
    seed: int = 0,
) -> VectorMap:
    """Make the map of a table, in place of one that is there.

    Memory: the vectors in half precision with their links, and two kept columns; about `2 x width + 500` bytes a row.

    Args:
        folder: where the map is to lie.
        table: LanceDB's, with unit vectors in its column `vector`; a handle that nobody else uses meanwhile, since it
            is held at its version.
        embedder_identity: whose vectors these are.
        columns: of the table to keep, to tell what was found.
        goal: the recall of the ten nearest to reach, for rows of the table and for far vectors alike.
        far: unit vectors of another sort that will be asked for, those of texts; made where none are given.
        queries: of each sort to measure with.
        seed: of their choice.

    Raises:
        ValueError: the table is empty, another process is writing the map, or usearch is not installed.
    """
    folder = Path(folder)
    width = table.schema.field(COLUMN).type.list_size
    graph = usearch_index()(ndim=width, metric="cos", dtype="f16", connectivity=LINKS, expansion_add=LOOK_WHILE_ADDING)
    nothing = MapStamp(
        format=FORMAT,
        embedder_identity=embedder_identity,
        version=0,
        made="",
        rows=0,
        columns=tuple(columns),
        look=LOOK[0],
        depth=DEPTH,
        goal=goal,
        recall_rows=0.0,
        recall_far=0.0,
        next_key=0,
        graph_name="",
        graph_bytes=0,
        rows_name="",
    )
    with locked(folder / LOCK_NAME), _held(table):
        rows, next_key = _rows_now(table, columns=columns, known=None, next_key=0)
        if rows is None:
            raise ValueError(f"expected a table with rows to map into {folder}, got an empty one")
        _add_new(graph, rows, table=table, first_key=0)
        stamp = replace(_of_version(nothing, table), rows=rows.num_rows, next_key=next_key)
        stamp = _measured(graph, stamp, table=table, rows=rows, far=far, queries=queries, seed=seed)
        _write(folder, stamp, graph=graph, rows=rows)
    return VectorMap.open(folder)


def refresh_map(
    folder: Path | str, *, table: Any, far: Vectors | None = None, queries: int = 100, seed: int = 0
) -> VectorMap:
    """The map in a folder, of the table as it is now; only what has changed is read. Arguments as for `build_map`.

    Raises:
        ValueError: there is no map, it is damaged, the table is empty, or another process is writing the map.
    """
    folder = Path(folder)
    with locked(folder / LOCK_NAME), _held(table):
        known = read_stamp(folder)
        if not known.is_of(table):
            old = rows_in(folder / known.rows_name)
            rows, next_key = _rows_now(table, columns=known.columns, known=old, next_key=known.next_key)
            if rows is None:
                raise ValueError(f"expected a table with rows to map into {folder}, got an empty one")
            stamp = replace(_of_version(known, table), rows=rows.num_rows, next_key=next_key)
            gone = np.setdiff1d(old.column(KEY).to_numpy(), rows.column(KEY).to_numpy())
            if len(gone) or next_key > known.next_key:
                graph = graph_in(folder / known.graph_name, view=False)
                for key in gone.tolist():
                    graph.remove(key)
                _add_new(graph, rows, table=table, first_key=known.next_key)
                stamp = _measured(graph, stamp, table=table, rows=rows, far=far, queries=queries, seed=seed)
                _write(folder, stamp, graph=graph, rows=rows)
            else:
                _write(folder, replace(stamp, graph_name=known.graph_name), graph=None, rows=rows)
    return VectorMap.open(folder)


@contextmanager
def _held(table: Any) -> Iterator[None]:
    """Hold a table at its newest version, whatever is written meanwhile."""
    table.checkout_latest()
    table.checkout(table.version)
    try:
        yield
    finally:
        table.checkout_latest()


def _rows_now(
    table: Any, *, columns: Sequence[str], known: "pa.Table | None", next_key: int
) -> "tuple[pa.Table | None, int]":
    """The table's rows with their keys, which rise: those of the known rows, new ones from `next_key`; and the next."""
    import pyarrow as pa

    key_of: dict[bytes, int] = {}
    if known is not None:
        key_of = dict(zip(known.column(MARK).to_pylist(), known.column(KEY).to_pylist()))
    said = [name for name in table.schema.names if name != COLUMN]
    parts: list[pa.Table] = []
    for batch in table.search().select(said).with_row_id(True).to_batches(BLOCK_ROWS):
        marks = [blake2b(repr(row).encode(), digest_size=16).digest() for row in batch.select(said).to_pylist()]
        keys = []
        for mark in marks:
            # Once: of two rows that say the same in all columns, the second one is taken as new.
            key = key_of.pop(mark, next_key)
            next_key += key == next_key
            keys.append(key)
        part = pa.table(batch).select([*columns, ROW]).append_column(KEY, pa.array(keys, pa.uint64()))
        parts.append(part.append_column(MARK, pa.array(marks, pa.binary(16))))
    rows = pa.concat_tables(parts).combine_chunks().sort_by(KEY) if parts else None
    return (rows if rows is not None and rows.num_rows else None), next_key


def _of_version(stamp: MapStamp, table: Any) -> MapStamp:
    """The stamp for the version that the table has, with the names of the files to write."""
    made = version_time(table)
    name = f"{table.version}-{blake2b(made.encode(), digest_size=4).hexdigest()}"
    return replace(
        stamp,
        version=table.version,
        made=made,
        graph_name=f"vectors-{name}.usearch",
        rows_name=f"rows-{name}.arrow",
    )


def _add_new(graph: Any, rows: "pa.Table", *, table: Any, first_key: int) -> None:
    """Add the vectors of the rows whose keys begin at one; of all rows in one pass through the table."""
    keys, numbers = rows.column(KEY).to_numpy(), rows.column(ROW).to_numpy()
    new = keys >= first_key
    if not new.any():
        return
    order = np.argsort(numbers[new])
    new_numbers, new_keys = numbers[new][order], keys[new][order]
    if new.all():
        for batch in table.search().select([COLUMN]).with_row_id(True).to_batches(BLOCK_ROWS):
            places = np.searchsorted(new_numbers, batch.column(ROW).to_numpy())
            graph.add(new_keys[places], vectors_of(batch.column(COLUMN)), threads=THREADS)
        return
    for begin in range(0, len(new_numbers), BLOCK_ROWS):
        wanted = new_numbers[begin : begin + BLOCK_ROWS].tolist()
        taken = table.take_row_ids(wanted).select([COLUMN]).with_row_id().to_arrow().combine_chunks()
        places = np.searchsorted(new_numbers, taken.column(ROW).to_numpy())
        graph.add(new_keys[places], vectors_of(taken.column(COLUMN).chunk(0)), threads=THREADS)


def _measured(
    graph: Any, stamp: MapStamp, *, table: Any, rows: "pa.Table", far: Vectors | None, queries: int, seed: int
) -> MapStamp:
    """The stamp with the recall of the graph, and the first look that reaches the goal."""
    trial = Trial.of(table, queries=queries, far=far, seed=seed)
    keys, numbers = rows.column(KEY).to_numpy(), rows.column(ROW).to_numpy()

    def ask(vectors: Vectors, depth: int) -> list[Found]:
        found = [asked(graph, vector, count=min(depth, len(keys)))[0] for vector in vectors]
        return [numbers[np.searchsorted(keys, of)] for of in found]

    for look in LOOK:
        graph.expansion_search = look
        recall = trial.recall(ask)
        stamp = replace(stamp, look=look, recall_rows=float(recall.near.mean()), recall_far=float(recall.far.mean()))
        if recall.reaches(stamp.goal):
            break
    return stamp


def _write(folder: Path, stamp: MapStamp, *, graph: Any | None, rows: "pa.Table") -> None:
    """Write the rows, the graph unless it stays, and then the stamp; delete what it no longer names."""
    import pyarrow as pa

    with atomic_write(folder / stamp.rows_name) as file, pa.ipc.new_file(file, rows.schema) as writer:
        writer.write_table(rows)
    if graph is not None:
        # usearch opens the file itself. A reader may have one of the same name mapped: it keeps that one.
        unfinished = folder / f".{stamp.graph_name}.part"
        graph.save(unfinished)
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        unfinished.replace(folder / stamp.graph_name)
        stamp = replace(stamp, graph_bytes=(folder / stamp.graph_name).stat().st_size)
    with atomic_write(folder / STAMP_NAME, binary=False) as file:
        json.dump(asdict(stamp), file, indent=2)
    for path in [*folder.glob("vectors-*.usearch"), *folder.glob("rows-*.arrow"), *folder.glob(".*.part")]:
        if path.name not in (stamp.graph_name, stamp.rows_name):
            with suppress(FileNotFoundError):
                path.unlink()
