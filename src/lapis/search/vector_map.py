"""A map of a table's vectors: a usearch graph that is read from the pages of a file, for the quickest answers.

The table stays what is true. A map is made of one version of it (`lapis.search.mapping`) and says which: it is refused
for another one. Its files have new names each time, and the stamp that names them takes its place last, so that a
reader sees the whole old map or the whole new one. It lies on a local disk, wherever the table does.
"""

import json
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt64

from lapis.search.recall import ROW

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
STAMP_NAME = "map.json"
KEY = "_key"
BLOCK_KEYS = 4096
FEW_KEYS = 20_000
"""Of the rows that a condition leaves, so many are compared with one by one."""
KEPT_CONDITIONS = 8


class MapOutdatedError(ValueError):
    """The table has changed since its map was made."""


@dataclass(frozen=True)
class MapStamp:
    """What a map was made of, and what was measured of it."""

    format: int
    embedder_identity: str
    version: int
    """Of the table."""
    made: str
    """When that version was: a table that was made anew counts from 1 again."""
    rows: int
    columns: tuple[str, ...]
    """Of the table, kept beside the vectors, to tell what was found."""
    look: int
    """Vectors held as candidates during a search (`expansion_search`)."""
    depth: int
    goal: float
    recall_rows: float
    """The share of the `depth` nearest that are found, for rows of the table (the row itself not counted)."""
    recall_far: float
    """The same for vectors far from all rows."""
    next_key: int
    """Above all keys in the graph: rows that went leave gaps."""
    graph_name: str
    graph_bytes: int
    rows_name: str

    def __str__(self) -> str:
        return (
            f"map of {self.rows:,} rows, {self.look} candidates: recall@{self.depth} {self.recall_rows:.3f} for its "
            f"own rows, {self.recall_far:.3f} for vectors far from them, {self.goal:.2f} asked for"
        )

    def is_of(self, table: Any) -> bool:
        """Whether the table has just this version."""
        return self.version == table.version and self.made == version_time(table)


@dataclass(frozen=True, eq=False)
class VectorMap:
    """An open map, its graph on the disk. Several threads may ask it at once."""

    folder: Path
    stamp: MapStamp
    graph: Any = field(repr=False)
    rows: "pa.Table" = field(repr=False)
    """The kept columns of all rows, with their numbers in the table and their keys in the graph, which rise."""
    keys: UInt64[np.ndarray, "rows"] = field(repr=False)
    _allowed: "OrderedDict[str, np.ndarray]" = field(default_factory=OrderedDict, repr=False)

    @classmethod
    def open(cls, folder: Path | str, *, table: Any = None, embedder_identity: str | None = None) -> "VectorMap":
        """Open the map in a folder, and check that it is of this table as it stands and of this model, where told.

        Raises:
            ValueError: there is none, it is damaged, of another version of the table, of another model, or usearch is
                not installed.
        """
        folder = Path(folder)
        stamp = read_stamp(folder)
        if embedder_identity is not None and embedder_identity != stamp.embedder_identity:
            raise ValueError(
                f"the map in {folder} has vectors of {stamp.embedder_identity}, not of {embedder_identity}: "
                f"build it anew"
            )
        if table is not None and not stamp.is_of(table):
            raise MapOutdatedError(
                f"the map in {folder} is of version {stamp.version} of the table ({stamp.made}), which now has version "
                f"{table.version}: refresh it"
            )
        path = folder / stamp.graph_name
        there = path.stat().st_size if path.exists() else 0
        if there != stamp.graph_bytes:  # reading the pages of a shorter file would end the process
            raise ValueError(
                f"the map in {folder} is damaged: {path.name} has {there:,} bytes, expected {stamp.graph_bytes:,}: "
                f"build the map anew"
            )
        graph, rows = graph_in(path, view=True), rows_in(folder / stamp.rows_name)
        graph.expansion_search = stamp.look
        return cls(folder, stamp, graph, rows, rows.column(KEY).to_numpy())

    def nearest(
        self,
        vector: Float[np.ndarray, "_width"],
        *,
        depth: int,
        where: str | None = None,
        table: Any = None,
    ) -> "pa.Table":
        """The rows nearest to a unit vector, the best first: the kept columns and `_distance` (1 - cosine).

        Args:
            vector: what to be near to.
            depth: how many rows.
            where: a condition in SQL that the rows are to meet; the table answers it, and the answer is kept.
            table: that the map is of; needed for a condition.

        Raises:
            MapOutdatedError: the table that comes with a condition has changed.
        """
        vector = vector.astype(np.float32)
        total = left = len(self.keys)
        allowed = None
        if where is not None:
            allowed = self._allowed_by(where, table=table)
            if table.version != self.stamp.version:  # its rows have other numbers now
                raise MapOutdatedError(f"a condition needs the table in version {self.stamp.version}: refresh the map")
            left = int(allowed.sum())
        count = depth if allowed is None else int(1.5 * depth * total / max(left, 1)) + 1
        while (allowed is None or left > FEW_KEYS) and count < total / 4:
            keys, distances = asked(self.graph, vector, count=count)
            good = slice(None) if allowed is None else allowed[keys]
            if len(keys[good]) >= depth:
                return self._told(keys[good][:depth], distances[good][:depth])
            count *= 4
        # Few rows are left, or most are asked for: not every vector of a graph can be reached in it.
        keys = self.keys if allowed is None else np.flatnonzero(allowed).astype(np.uint64)
        return self._told(*self._compared(vector, keys, depth=depth))

    def _compared(
        self, vector: Float32[np.ndarray, "width"], keys: UInt64[np.ndarray, "keys"], *, depth: int
    ) -> "tuple[UInt64[np.ndarray, 'depth'], Float32[np.ndarray, 'depth']]":
        """The nearest of some keys, each compared with."""
        distances = [np.empty(0, np.float32)]
        for begin in range(0, len(keys), BLOCK_KEYS):
            vectors = np.asarray(self.graph.get(keys[begin : begin + BLOCK_KEYS], dtype="f32"))
            distances.append(1 - vectors @ vector / np.linalg.norm(vectors, axis=1))
        of = np.concatenate(distances)
        order = np.argsort(of, kind="stable")[:depth]
        return keys[order], of[order]

    def _told(self, keys: UInt64[np.ndarray, "found"], distances: Float32[np.ndarray, "found"]) -> "pa.Table":
        import pyarrow as pa

        found = self.rows.select(self.stamp.columns).take(np.searchsorted(self.keys, keys))
        return found.append_column("_distance", pa.array(distances))

    def _allowed_by(self, where: str, *, table: Any) -> Bool[np.ndarray, "keys"]:
        """Of each key, whether its row meets a condition."""
        kept = self._allowed.get(where)
        if kept is None:
            answer = table.search().where(where).with_row_id(True).select([]).to_arrow().column(ROW).to_numpy()
            kept = np.zeros(self.stamp.next_key, bool)
            kept[self.keys[np.isin(self.rows.column(ROW).to_numpy(), answer)]] = True
            self._allowed[where] = kept
            if len(self._allowed) > KEPT_CONDITIONS:
                self._allowed.popitem(last=False)
        return kept


def read_stamp(folder: Path) -> MapStamp:
    """What the map in a folder says of itself.

    Raises:
        ValueError: there is none, or it cannot be understood.
    """
    path = folder / STAMP_NAME
    if not path.exists():
        raise ValueError(f"there is no map in {folder}: build one")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        stamp = MapStamp(**{**content, "columns": tuple(content["columns"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the map in {folder} is damaged ({STAMP_NAME}: {error!r}): build it anew") from error
    if stamp.format != FORMAT:
        raise ValueError(f"the map in {folder} has format {stamp.format}, expected {FORMAT}: build it anew")
    return stamp


def version_time(table: Any) -> str:
    """When the table's version was written."""
    version = table.version
    return next(str(of["timestamp"]) for of in table.list_versions() if of["version"] == version)


def usearch_index() -> Any:
    """The class of usearch.

    Raises:
        ValueError: it is not installed.
    """
    try:
        from usearch.index import Index
    except ImportError as error:
        raise ValueError("a map of vectors needs usearch: pip install 'lapis-audio[map]'") from error
    return Index


def graph_in(path: Path, *, view: bool) -> Any:
    """The graph in a file: in memory, or with `view` in the file's pages, and then only to be read.

    Raises:
        ValueError: there is no whole graph in it.
    """
    try:
        graph = usearch_index().restore(path, view=view)
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({error}): build the map anew") from error
    if graph is None:
        raise ValueError(f"{path} holds no graph: build the map anew")
    return graph


def rows_in(path: Path) -> "pa.Table":
    """The rows in a file, in its pages."""
    import pyarrow as pa

    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path} cannot be read ({error}): build the map anew") from error


def asked(
    graph: Any, vector: Float32[np.ndarray, "width"], *, count: int
) -> "tuple[UInt64[np.ndarray, 'count'], Float32[np.ndarray, 'count']]":
    """The keys of the nearest vectors, the best first, and their distances."""
    found = graph.search(vector, count, threads=1)
    return found.keys.astype(np.uint64), found.distances.astype(np.float32)
