"""The columns of an index: a row is a window of a file, and says all that is known of the file too.

Path and window are the key. LanceDB is told so in the schema, which is what keeps rows from being doubled: of two
processes that insert the same key at once, the second finds the first's commit in its way and looks again.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lapis.shapes import Vectors

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 2
KEY = ("path", "window")
KEY_MARK = {b"lance-schema:unenforced-primary-key": b"true"}
HASH_BYTES = 16
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Stamp:
    """What changes when a file is written; where it has not, the file is not read."""

    size: int
    mtime_ns: int


UNKNOWN = Stamp(-1, -1)
"""Of a file whose vector came out of a table, which does not tell how the file was when it was heard; nor is its hash
known then, which is empty, nor its date. Whoever indexes its folder hears it anew."""


@dataclass(frozen=True)
class Labels:
    """What people said of a file."""

    tags: tuple[str, ...] = ()
    text: str = ""


@dataclass(eq=False)
class File:
    """A file on its way into the table, filled window by window."""

    path: Path
    stamp: Stamp
    audio_hash: str = ""
    labels: Labels | None = None
    """None where nobody has told any."""
    spans: list[tuple[float, float]] = field(default_factory=list)
    vectors: list[Vectors] = field(default_factory=list)


def schema_of(width: int) -> "pa.Schema":
    """The columns, for vectors of this width."""
    import pyarrow as pa

    key = {"path": pa.string(), "window": pa.int32()}
    rest = {
        "start_seconds": pa.float64(),
        "end_seconds": pa.float64(),
        "vector": pa.list_(pa.float32(), width),
        "size": pa.int64(),
        "mtime_ns": pa.int64(),
        "modified": pa.timestamp("us", tz="UTC"),
        "duration_seconds": pa.float64(),
        "audio_hash": pa.string(),
        "tags": pa.list_(pa.string()),
        "text": pa.string(),
    }
    keys = [pa.field(name, kind, nullable=False, metadata=KEY_MARK) for name, kind in key.items()]
    return pa.schema([*keys, *(pa.field(name, kind) for name, kind in rest.items())])


def rows_of(files: Sequence[File], *, width: int) -> "pa.Table":
    """The rows of files whose windows all have their vectors."""
    import pyarrow as pa

    windows = [(file, window, *span) for file in files for window, span in enumerate(file.spans)]
    vectors = np.concatenate([vector for file in files for vector in file.vectors])
    columns: dict[str, Any] = {
        "window": [window for _, window, _, _ in windows],
        "start_seconds": [start for *_, start, _ in windows],
        "end_seconds": [end for *_, end in windows],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), width),
        "duration_seconds": [file.spans[-1][1] for file, *_ in windows],
    }
    columns |= _of_files([file for file, *_ in windows])
    return _table(columns, schema=schema_of(width))


def carried(rows: "pa.Table", file: File, *, width: int) -> "pa.Table":
    """The rows of another file of the same content, or of this one before it was touched, as this file's."""
    schema = schema_of(width)
    columns = {name: rows.column(name) for name in schema.names} | _of_files([file] * rows.num_rows)
    return _table(columns, schema=schema)


def imported(paths: Sequence[str], *, vectors: Vectors, seconds: Sequence[float], width: int) -> "pa.Table":
    """The rows of files of which no more is known than a vector of the whole, in one window."""
    import pyarrow as pa

    count = len(paths)
    columns: dict[str, Any] = {
        "path": list(paths),
        "window": [0] * count,
        "start_seconds": [0.0] * count,
        "end_seconds": list(seconds),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), width),
        "size": [UNKNOWN.size] * count,
        "mtime_ns": [UNKNOWN.mtime_ns] * count,
        "modified": [None] * count,
        "duration_seconds": list(seconds),
        "audio_hash": [""] * count,
        "tags": [[]] * count,
        "text": [""] * count,
    }
    return _table(columns, schema=schema_of(width))


def concatenated(tables: Sequence["pa.Table"]) -> "pa.Table":
    """The rows of several tables."""
    import pyarrow as pa

    return pa.concat_tables(tables)


def _of_files(files: Sequence[File]) -> dict[str, Any]:
    """The columns that a file's windows share, for the file of each row."""
    labels = [file.labels or Labels() for file in files]
    return {
        "path": [str(file.path) for file in files],
        "size": [file.stamp.size for file in files],
        "mtime_ns": [file.stamp.mtime_ns for file in files],
        "modified": [_moment(file.stamp.mtime_ns) for file in files],
        "audio_hash": [file.audio_hash for file in files],
        "tags": [list(of.tags) for of in labels],
        "text": [of.text for of in labels],
    }


def _moment(mtime_ns: int) -> datetime:
    return datetime.fromtimestamp(mtime_ns // 1_000_000_000, tz=UTC)


def _table(columns: dict[str, Any], *, schema: "pa.Schema") -> "pa.Table":
    import pyarrow as pa

    arrays = [
        column if isinstance(column, (pa.Array, pa.ChunkedArray)) else pa.array(column, type=kind.type)
        for kind in schema
        for column in [columns[kind.name]]
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def hash_of(path: Path) -> str:
    """BLAKE2b of a file's content, 32 hexadecimal digits; read in pieces.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=HASH_BYTES)
    with path.open("rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def archive_of(path: str) -> Path | None:
    """The tar that `TAR:MEMBER` is in, if it is there; None of any other path."""
    ends = (found.start() + len(".tar") for found in re.finditer(r"\.tar:.", path, re.IGNORECASE))
    return next((tar for tar in (Path(path[:end]) for end in ends) if os.path.isfile(tar)), None)  # noqa: PTH113  (`Path.is_file` raises where a name is too long)


def shown(path: Path) -> str:
    """A path for a person or a program; an address has lost its second slash in it, and gets it back."""
    return re.sub(r"^([a-z][a-z0-9]+):/(?!/)", r"\1://", str(path))


def quoted(text: str) -> str:
    """A text in SQL; a quote in it is written twice."""
    return "'" + text.replace("'", "''") + "'"


def is_one_of(column: str, values: Iterable[object]) -> str:
    """The condition, in SQL, that a row has one of these texts."""
    return f"{column} IN ({', '.join(quoted(str(value)) for value in values)})"


def is_below(folder: Path) -> str:
    """The condition that a row is of a file in this folder, or in one below it."""
    return f"starts_with(path, {quoted(str(folder).rstrip('/') + '/')})"
