"""What a table of vectors says of a clip, and its columns in Parquet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32

from lapis.search.clips import Clip

if TYPE_CHECKING:
    import pyarrow as pa


NUMBER = "number"


@dataclass(frozen=True, eq=False)
class Row:
    """What is known of a clip: its vector, or why there is none."""

    clip: Clip
    vector: Float32[np.ndarray, "_width"] | None
    duration_seconds: float | None
    error: str | None = None


def blamed(clip: Clip) -> Row:
    """The row of a clip that is not touched any more."""
    return Row(clip, None, None, "the process ended whenever it came to this sound: crashed, or out of memory")


def schema_of(width: int, *, numbered: bool = False) -> "pa.Schema":
    """The columns, for vectors of this width; those of a shard begin with the clip's number among all shards' clips."""
    import pyarrow as pa

    columns = pa.schema(
        {
            "key": pa.string(),
            "path": pa.string(),
            "vector": pa.list_(pa.float32(), width),
            "duration_seconds": pa.float64(),
            "error": pa.string(),
        }
    )
    return columns.insert(0, pa.field(NUMBER, pa.int64())) if numbered else columns


def row_mark(number: int, key: str, path: str) -> bytes:
    """What a row is told from all others by, for a digest of rows in their order."""
    return f"{number}\0{key}\0{path}\n".encode()


def table_of(rows: Sequence[Row], *, width: int) -> "pa.Table":
    """The rows as a table, in their order."""
    import pyarrow as pa

    vectors = np.zeros((len(rows), width), np.float32)
    for number, row in enumerate(rows):
        if row.vector is not None:
            vectors[number] = row.vector
    missing = pa.array([row.vector is None for row in rows], pa.bool_())
    columns: dict[str, Any] = {
        "key": [utf8(row.clip.key) for row in rows],
        "path": [utf8(row.clip.path) for row in rows],
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), width, mask=missing),
        "duration_seconds": [row.duration_seconds for row in rows],
        "error": [None if row.error is None else utf8(row.error) for row in rows],
    }
    return pa.table(columns, schema=schema_of(width))


def utf8(text: str) -> str:
    """The text itself; what is not UTF-8 in the name of a file is escaped, since Parquet holds nothing else."""
    return text.encode("utf-8", "backslashreplace").decode()
