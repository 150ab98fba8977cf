"""What lies nearest to a vector in an index: told by the map of its vectors while it is current, or the table."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from lapis.search import approximate
from lapis.search.hits import Hit
from lapis.search.place import Place, explained
from lapis.search.vector_map import STAMP_NAME, MapOutdatedError, VectorMap

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("path", "start_seconds", "end_seconds")

log = logging.getLogger("lapis.search")


class Neighbours:
    """Of one open index. Several threads may ask at once."""

    def __init__(self, table: Any, *, place: Place, identity: str) -> None:
        self.table, self.place, self.identity = table, place, identity
        self._opened: tuple[object, VectorMap | None] = (None, None)

    def best(
        self, vector: Float[np.ndarray, "_width"], *, limit: int, per_file: bool, where: str | None, exactly: bool
    ) -> list[Hit]:
        """The windows nearest to a unit vector, the best first; with `per_file` only the best of each file."""
        # One file may own all of the nearest windows: look further until enough files are there.
        depth = limit
        while True:
            hits = self._windows(vector, depth=depth, where=where, exactly=exactly)
            is_all = len(hits) < depth
            if per_file:
                of_file: dict[Path, Hit] = {}
                for hit in hits:
                    of_file.setdefault(hit.path, hit)
                hits = list(of_file.values())
            if len(hits) >= limit or is_all:
                return hits[:limit]
            depth *= 8

    def _windows(
        self, vector: Float[np.ndarray, "_width"], *, depth: int, where: str | None, exactly: bool
    ) -> list[Hit]:
        with explained(self.place, doing="read"):
            found = self._found(vector, depth=depth, where=where, exactly=exactly).to_pylist()
        hits = [Hit(Path(row["path"]), row["start_seconds"], row["end_seconds"], 1 - row["_distance"]) for row in found]
        return sorted(hits, key=lambda hit: (-hit.score, hit.path, hit.start_seconds))

    def _found(self, vector: np.ndarray, *, depth: int, where: str | None, exactly: bool) -> "pa.Table":
        """The one place where neighbours are asked for."""
        vector_map = None if exactly else self._map()
        if vector_map is not None:
            try:
                return vector_map.nearest(vector, depth=depth, where=where, table=self.table)
            except MapOutdatedError:
                pass  # the table was written while we asked
        return approximate.nearest(self.table, vector, depth=depth, columns=COLUMNS, where=where, exactly=exactly)

    def _map(self) -> VectorMap | None:
        """The map, if there is one, of the table as it stands. Of one that is not, it is told once."""
        try:
            status = (self.place.map_folder / STAMP_NAME).stat()
        except OSError:
            return None
        stamp = (status.st_ino, status.st_mtime_ns)
        seen, opened = self._opened
        if seen == stamp and (opened is None or opened.stamp.version == self.table.version):
            return opened
        try:
            opened = VectorMap.open(self.place.map_folder, table=self.table, embedder_identity=self.identity)
        except ValueError as error:
            log.warning("%s (`lapis index compact`; --map builds it anew). The table answers in its place.", error)
            opened = None
        self._opened = (stamp, opened)
        return opened
