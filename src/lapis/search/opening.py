"""Opening and making an index: one that another model made is refused, and two processes make it once."""

import math
import random
import time
from dataclasses import dataclass
from typing import Any

from lapis.search.columns import FORMAT, schema_of
from lapis.search.place import TABLE_NAME, Metadata, Place, explained

DEFAULT_WINDOW_SECONDS = 10.0
ATTEMPTS = 4


@dataclass(frozen=True)
class Wanted:
    """What an index is to be; where seconds are not told, those it has, or the usual ones."""

    embedder_identity: str
    width: int
    window_seconds: float | None
    hop_seconds: float | None
    model: str

    def check(self, place: Place, there: Metadata) -> None:
        """That an index is such.

        Raises:
            ValueError: it has another width, window or hop.
        """
        for name in ("width", "window_seconds", "hop_seconds"):
            wanted, has = getattr(self, name), getattr(there, name)
            if wanted is not None and wanted != has:
                raise ValueError(
                    f"the index in {place} was built with {name} {has}, not {wanted}: "
                    f"leave it out, or embed again with `lapis index FOLDER --rebuild`"
                )

    def metadata(self) -> Metadata:
        """Of a new index.

        Raises:
            ValueError: it makes no sense.
        """
        window = DEFAULT_WINDOW_SECONDS if self.window_seconds is None else self.window_seconds
        hop = window if self.hop_seconds is None else self.hop_seconds
        metadata = Metadata(FORMAT, self.embedder_identity, self.width, float(window), float(hop), self.model)
        if self.width < 1 or not 0 < metadata.hop_seconds <= metadata.window_seconds < math.inf:
            raise ValueError(f"expected 0 < width and 0 < hop <= window, got {metadata}")
        return metadata


def open_table(place: Place, *, embedder_identity: str | None = None) -> tuple[Metadata, Any]:
    """What an index is, and LanceDB's table.

    Raises:
        ValueError: there is no index, it is damaged, another model made it, or LanceDB is not installed.
    """
    if not place.exists():
        raise ValueError(f"there is no index in {place}: make one with `lapis index FOLDER`")
    metadata = place.read()
    if embedder_identity is not None:
        check_identity(place, metadata, asked=embedder_identity)
    database = place.connect()
    with explained(place, doing="read"):
        return metadata, database.open_table(TABLE_NAME)


def create_or_open(place: Place, wanted: Wanted, *, rebuild: bool) -> tuple[Metadata, Any]:
    """An index as it is wanted, empty where there was none or it is to be rebuilt.

    Raises:
        ValueError: as `open_table`, `Wanted.check` and `Wanted.metadata`; or it is to be rebuilt, and is being written.
    """
    # The first question has an answer of a bucket that is not there too.
    if place.exists() and place.is_made() and not rebuild:
        return _opened(place, wanted)
    metadata = wanted.metadata()
    database = place.connect()
    with explained(place, doing="written"):
        place.make()
    with place.claims.alone(wait=not rebuild):
        # Another process made it meanwhile; or the JSON beside rows was lost, and opening says so.
        if not rebuild and (place.is_made() or place.has_rows()):
            return _opened(place, wanted)
        with explained(place, doing="written"):
            # Of a process that was killed here, the table without rows goes; not in a store, where it may be that of
            # another machine, which does not see our locks: two that make an index at once get the same one.
            may_be_others = place.is_remote and not rebuild
            if not may_be_others:
                place.clear()
            table = _table(database, schema_of(wanted.width), may_be_others=may_be_others)
            is_written = place.write(metadata, over=not may_be_others)
    return (metadata, table) if is_written else _opened(place, wanted)


def _table(database: Any, schema: Any, *, may_be_others: bool) -> Any:
    """A new one; or that which another makes at the same moment, if it may be."""
    for _ in range(ATTEMPTS if may_be_others else 0):
        try:
            return database.create_table(TABLE_NAME, schema=schema, exist_ok=True)
        except (OSError, RuntimeError, ValueError):  # half of it was there
            time.sleep(random.SystemRandom().uniform(0.1, 0.5))
    return database.create_table(TABLE_NAME, schema=schema, exist_ok=may_be_others)


def check_identity(place: Place, metadata: Metadata, *, asked: str) -> None:
    """That an index belongs to a model.

    Raises:
        ValueError: it does not.
    """
    if asked != metadata.embedder_identity:
        raise ValueError(
            f"the index in {place} was built with {metadata.embedder_identity}, not with {asked}: vectors of two "
            f"models cannot be compared. Use that model, or embed again with `lapis index FOLDER --rebuild`"
        )


def _opened(place: Place, wanted: Wanted) -> tuple[Metadata, Any]:
    metadata, table = open_table(place, embedder_identity=wanted.embedder_identity)
    wanted.check(place, metadata)
    return metadata, table
