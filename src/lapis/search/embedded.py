"""What `lapis embed` has written, read back: one table, a shard by itself, or all shards, each row looked at.

Nothing is taken on trust: the table says which model made its vectors, shards are held against their listing as
`lapis embed --check` does it, and a row has a path and either a whole vector or a reason why there is none.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64, Int64

from lapis.search import fragments
from lapis.search.parts import JOB_KEY
from lapis.search.recall import vectors_of
from lapis.search.rows import schema_of
from lapis.search.sharding import Shard, fragments_folder
from lapis.shapes import Vectors

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 8192
SHARDS_SUFFIX = ".parquet.shards"
UNIT_WITHIN = 1e-2
"""How far from one the length of a vector may be; half precision is off by less than a thousandth."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows that follow each other: those with a vector, and apart from them those without."""

    num_rows: int
    numbers: Int64[np.ndarray, "found"]
    """Of the rows with a vector, counted from 0 through all files of the table."""
    paths: list[str]
    vectors: Vectors
    seconds: Float64[np.ndarray, "found"]
    failures: list[tuple[str, str]]
    """Of the others, path and reason."""


@dataclass(frozen=True)
class Embedded:
    """A table of vectors on the disk. Made by `Embedded.open`."""

    files: tuple[Path, ...]
    identity: str
    """Of the model."""
    width: int
    model: str
    """Its name or folder, as whoever embedded called it; may be empty."""
    num_rows: int
    mark: str
    """What is another when a file is."""

    @classmethod
    def open(cls, table: Path | str) -> "Embedded":
        """Look at a Parquet file, or at the folder of a table's shards (`NAME.parquet.shards`), which is then checked.

        Raises:
            ValueError: it is not there, not what `lapis embed` writes, or shards are missing, damaged or do not belong
                together.
        """
        files = _files(Path(table))
        heads = [_head(file) for file in files]
        if files == (Path(table),) and heads[0].is_shard:
            fragments.contents_of(files[0])
        digest = hashlib.sha256()
        for file in files:
            status = file.stat()
            digest.update(f"{file.name}\n{status.st_size}\n{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
        first = heads[0]
        num_rows = sum(head.num_rows for head in heads)
        return cls(files, first.identity, first.width, first.model, num_rows, digest.hexdigest())

    def batches(self) -> Iterator[Batch]:
        """All rows, a file after another, some thousands at a time.

        Raises:
            ValueError: a row is not as such a table's are, or a file is damaged.
        """
        import pyarrow as pa
        from pyarrow import parquet

        columns = ["path", "vector", "duration_seconds", "error"]
        before = 0
        for path in self.files:
            done = 0
            try:
                with parquet.ParquetFile(path) as file:
                    for rows in file.iter_batches(batch_size=BATCH_ROWS, columns=columns):
                        yield _batch(rows, path=path, done=done, before=before)
                        done += len(rows)
            except (pa.ArrowException, OSError) as error:
                raise ValueError(f"{path} is damaged after row {done}: {error}") from error
            before += done


@dataclass(frozen=True)
class _Head:
    identity: str
    width: int
    model: str
    num_rows: int
    is_shard: bool


def _files(table: Path) -> tuple[Path, ...]:
    """The table itself, or its shards, which are whole."""
    if table.is_dir():
        if not table.name.endswith(SHARDS_SUFFIX):
            raise ValueError(f"{table}: expected a table, or the folder of its shards, NAME{SHARDS_SUFFIX}")
        out = table.with_suffix("")
        checked = fragments.check(out)
        if not checked.is_whole:
            raise ValueError("\n".join((f"{table} is not whole:", *checked.problems)))
        files = tuple(Shard(index, checked.shards).fragment(out) for index in range(checked.shards))
        if not all(file.exists() for file in files):
            raise ValueError(f"{table}: these shards have been merged into {out}: import that")
        return files
    if not table.exists():
        shards = fragments_folder(table)
        hint = f"; its shards lie in {shards}: import that folder" if shards.is_dir() else ""
        raise ValueError(f"{table}: expected a table that `lapis embed` has written, there is none{hint}")
    return (table,)


def _head(path: Path) -> _Head:
    """What a file says of itself.

    Raises:
        ValueError: it is no such table.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            schema, num_rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a whole Parquet table: {error}") from error
    metadata = (schema.metadata or {}).items()
    said = {key.decode(errors="replace"): value.decode(errors="replace") for key, value in metadata}
    missing = [name for name in ("lapis.identity", "lapis.width") if not said.get(name)]
    if missing:
        raise ValueError(f"{path}: expected a table that `lapis embed` has written, but it does not say {missing[0]}")
    if not said["lapis.width"].isdecimal():
        raise ValueError(f"{path}: lapis.width: expected a number, got {said['lapis.width']!r}")
    width = int(said["lapis.width"])
    for field in schema_of(width):
        if field.name not in schema.names or schema.field(field.name).type != field.type:
            has = schema.field(field.name).type if field.name in schema.names else "none"
            raise ValueError(f"{path}: expected a column `{field.name}` of {field.type}, got {has}")
    return _Head(said["lapis.identity"], width, said.get("lapis.model", ""), num_rows, JOB_KEY in said)


def _batch(rows: "pa.RecordBatch", *, path: Path, done: int, before: int) -> Batch:
    """Look at rows, of which so many of the file, and of the files before it, are done."""

    def refuse(wrong: np.ndarray, what: str) -> None:
        if wrong.any():
            raise ValueError(f"{path}, row {done + int(np.argmax(wrong)) + 1}: {what}")

    def valid(name: str) -> np.ndarray:
        return rows[name].is_valid().to_numpy(zero_copy_only=False)

    paths, has_vector = rows["path"].to_pylist(), valid("vector")
    refuse(np.array([not name for name in paths], bool), "expected a path, got none")
    refuse(has_vector == valid("error"), "expected either a vector or an error")
    kept = np.flatnonzero(has_vector)
    found = rows.take(kept)
    vectors = vectors_of(found["vector"])
    wrong = np.zeros(len(rows), bool)
    wrong[kept] = ~(np.abs(np.linalg.norm(vectors, axis=1) - 1) <= UNIT_WITHIN)  # not a number is wrong too
    refuse(wrong, "expected a vector of length one")
    seconds = found["duration_seconds"].to_numpy(zero_copy_only=False).astype(np.float64)
    wrong[kept] = ~((seconds >= 0) & np.isfinite(seconds))
    refuse(wrong, "expected a duration in seconds beside the vector")
    failed = np.flatnonzero(~has_vector).tolist()
    errors = rows["error"]
    return Batch(
        num_rows=len(rows),
        numbers=kept + done + before,
        paths=[paths[number] for number in kept.tolist()],
        vectors=vectors,
        seconds=seconds,
        failures=[(paths[number], errors[number].as_py()) for number in failed],
    )
