"""The tables of all shards: whether each is whole and every clip of the listing is in them once; and then one table.

Every shard went through the same listing and took its own clips. It tells the digest of the whole listing, by which
shards belong together, and that of its own clips, which its rows are held against here.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lapis.files import atomic_write
from lapis.search.parts import JOB_KEY, LISTED_FAILURES, ROW_GROUP_ROWS, Job, Merged, clear, held, sweep
from lapis.search.rows import NUMBER, row_mark, schema_of
from lapis.search.sharding import FRAGMENT, Shard, fragments_folder

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

SHARED = ("shards", "identity", "width", "sample_rate", "max_seconds", "num_listed", "listing_digest", "format")
"""Of a job: what is the same in all shards that belong together."""
MERGED_NAME = ".merged.json"
"""Among the shards, while they are deleted: what was in them, and which files are in the table already."""
READ_BYTES = 1 << 16
"""Of an open fragment held in memory beside a page of each column, however large its row groups are."""


@dataclass(frozen=True)
class Checked:
    """The shards of a table: how many there are to be, what is in those that are whole, and what is amiss."""

    shards: int
    num_whole: int
    num_listed: int
    num_rows: int
    num_failed: int
    audio_seconds: float
    failures: tuple[tuple[str, str], ...]
    """Path and reason of the first rows without a vector."""
    problems: tuple[str, ...]
    """A sentence for each shard that is not whole, or not of the same job as the first."""

    @property
    def is_whole(self) -> bool:
        """Whether every clip of the listing has its row, once."""
        return not self.problems


def job_of(fragment: Path) -> Job:
    """What a shard's table is the work of.

    Raises:
        ValueError: it is not the whole table of a shard.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        metadata = parquet.read_schema(fragment).metadata or {}
        return Job(**json.loads(metadata[JOB_KEY.encode()]))
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{fragment} is not a whole shard ({error}): delete it and run its shard again") from error


def contents_of(fragment: Path) -> Merged:
    """What is in a shard's table.

    Raises:
        ValueError: it is not whole, or a row is missing, there twice, or of another clip.
    """
    import pyarrow as pa
    from pyarrow import parquet

    job, digest = job_of(fragment), hashlib.sha256()
    failures: list[tuple[str, str]] = []
    num_rows, num_failed, audio_seconds = 0, 0, 0.0
    try:
        with parquet.ParquetFile(fragment, buffer_size=READ_BYTES) as file:
            for rows in file.iter_batches(batch_size=ROW_GROUP_ROWS):
                columns = (rows[name].to_pylist() for name in (NUMBER, "key", "path"))
                for number, key, path in zip(*columns, strict=True):
                    digest.update(row_mark(number, key, path))
                has_vector, has_error = rows["vector"].is_valid(), rows["error"].is_valid()
                if np.any(has_vector.to_numpy(zero_copy_only=False) == has_error.to_numpy(zero_copy_only=False)):
                    raise ValueError("a row has neither a vector nor an error, or both")
                failed = rows.filter(has_error)
                few = failed.slice(0, LISTED_FAILURES - len(failures)).select(["path", "error"])
                failures += [(row["path"], row["error"]) for row in few.to_pylist()]
                num_rows, num_failed = num_rows + len(rows), num_failed + len(failed)
                audio_seconds += float(rows.filter(has_vector)["duration_seconds"].to_numpy(zero_copy_only=False).sum())
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{fragment} is damaged ({error}): delete it and run its shard again") from error
    if num_rows != job.num_clips:
        raise ValueError(f"{fragment} has {num_rows} rows of {job.num_clips}: delete it and run its shard again")
    if digest.hexdigest() != job.rows_digest:
        raise ValueError(f"{fragment} has rows of other clips, or twice: delete it and run its shard again")
    return Merged(num_rows, num_failed, audio_seconds, tuple(failures))


def check(out: Path | str) -> Checked:
    """Look through the shards of a table, one after another; those that a merge has begun to delete were whole.

    Raises:
        ValueError: there is none, not even begun.
    """
    out = Path(out)
    if (merged := _Merged.read(out)) is not None:
        return merged.checked
    count = _count(out)
    problems: list[str] = []
    failures: list[tuple[str, str]] = []
    num_rows, num_failed, num_whole, audio_seconds = 0, 0, 0, 0.0
    first: Job | None = None
    for shard in (Shard(index, count) for index in range(count)):
        try:
            job, contents = _whole(shard, out=out, like=first)
        except ValueError as error:
            problems.append(f"shard {shard}: {error}")
            continue
        first = first or job
        failures += contents.failures[: LISTED_FAILURES - len(failures)]
        num_whole, num_rows = num_whole + 1, num_rows + contents.num_rows
        num_failed, audio_seconds = num_failed + contents.num_failed, audio_seconds + contents.audio_seconds
    num_listed = 0 if first is None else first.num_listed
    if not problems and num_rows != num_listed:
        problems.append(f"expected {num_listed} rows, as many as clips were listed, got {num_rows}")
    return Checked(count, num_whole, num_listed, num_rows, num_failed, audio_seconds, tuple(failures), tuple(problems))


def _count(out: Path) -> int:
    """How many shards there are to be, by the names of those that are there."""
    folder = fragments_folder(out)
    names = [found for path in sorted(folder.glob("shard-*")) if (found := FRAGMENT.match(path.name))]
    counts = sorted({int(found[2]) for found in names})
    if not counts:
        raise ValueError(f"{folder}: expected shards of {out.name}, there are none: lapis embed ... --shard k/n")
    if len(counts) > 1:
        raise ValueError(f"{folder} holds shards of {' and of '.join(map(str, counts))}: delete those of one")
    return counts[0]


def _whole(shard: Shard, *, out: Path, like: Job | None) -> tuple[Job, Merged]:
    """The job of a shard and what is in it, if it is whole and belongs to the first."""
    path = shard.fragment(out)
    if not path.exists():
        done = len(list(path.with_name(f"{path.name}.parts").glob("rows-*")))
        raise ValueError(f"not finished, {done} parts are written" if done else "not finished, or not begun")
    job = job_of(path)
    if (job.shard, job.shards) != (shard.index, shard.count):
        raise ValueError(f"{path} is shard {job.shard}/{job.shards} by what it says of itself")
    first = like or job
    for name in SHARED:
        if getattr(job, name) != getattr(first, name):
            values = f": {getattr(job, name)}, there {getattr(first, name)}" if "digest" not in name else ""
            raise ValueError(f"{path} is of another job than shard {first.shard}: it differs in {name}{values}")
    return job, contents_of(path)


def merge(out: Path | str, *, overwrite: bool = False) -> Checked:
    """Make one table of all shards, with the rows of a single process in its order, and delete them.

    One that was killed while it deleted them is ended by the next.

    Raises:
        ValueError: a shard is not whole or at work, or the table is there already and is not to be replaced.
    """
    out = Path(out)
    merged = _Merged.read(out)
    if merged is None and out.exists() and not overwrite:
        raise ValueError(f"{out} already exists: add --overwrite to replace it")
    count = _count(out) if merged is None else merged.checked.shards
    paths = [Shard(index, count).fragment(out) for index in range(count)]
    with ExitStack() as stack:
        for path in paths:  # so that no process that came back late changes what was checked, or is at work as it goes
            stack.enter_context(held(path.with_name(f"{path.name}.parts")))
        if merged is None:
            checked = check(out)
            if not checked.is_whole:
                raise ValueError("\n".join((f"{out} cannot be merged:", *checked.problems)))
            sweep(out)
            _write_all(paths, out=out, num_listed=checked.num_listed)
            merged = _Merged(checked, _stamp(out), {path.name: _stamp(path) for path in paths})
            with atomic_write(fragments_folder(out) / MERGED_NAME, binary=False) as file:
                json.dump(asdict(merged), file)
        for path in paths:
            clear(path.with_name(f"{path.name}.parts"))
            path.unlink(missing_ok=True)
        (fragments_folder(out) / MERGED_NAME).unlink()
    with suppress(OSError):  # What someone else has put into it stays.
        fragments_folder(out).rmdir()
    return merged.checked


def _stamp(path: Path) -> list[int]:
    """By what a file is recognised as unchanged; empty where there is none."""
    return [path.stat().st_size, path.stat().st_mtime_ns] if path.exists() else []


@dataclass(frozen=True)
class _Merged:
    """What is noted when a table has taken its place, and its shards are to go."""

    checked: Checked
    table: list[int]
    """Its stamp."""
    shards: dict[str, list[int]]
    """The stamp of each, by its name."""

    @classmethod
    def read(cls, out: Path) -> "_Merged | None":
        """The note of this very table and these very shards, as far as they are there; None where there is none."""
        folder = fragments_folder(out)
        if not (folder / MERGED_NAME).exists():
            return None
        values = json.loads((folder / MERGED_NAME).read_text(encoding="utf-8"))
        told = values["checked"]
        failures, problems = tuple(map(tuple, told["failures"])), tuple(told["problems"])
        found = cls(Checked(**told | {"failures": failures, "problems": problems}), values["table"], values["shards"])
        are_these = all(_stamp(folder / name) in ([], stamp) for name, stamp in found.shards.items())
        return found if are_these and found.table == _stamp(out) else None


def _write_all(paths: Sequence[Path], *, out: Path, num_listed: int) -> None:
    """The rows of all shards taking turns, as their clips stood in the listing."""
    import pyarrow as pa
    from pyarrow import parquet

    metadata = dict(parquet.read_schema(paths[0]).metadata)
    del metadata[JOB_KEY.encode()]
    schema = schema_of(int(metadata[b"lapis.width"])).with_metadata(metadata)
    each = max(1, ROW_GROUP_ROWS // len(paths))
    with ExitStack() as stack, atomic_write(out) as file, parquet.ParquetWriter(file, schema) as writer:
        runs = [
            _runs(stack.enter_context(parquet.ParquetFile(path, buffer_size=READ_BYTES)), rows=each) for path in paths
        ]
        waiting, written = schema.empty_table(), 0
        while written + len(waiting) < num_listed:
            turn = pa.concat_tables([next(run) for run in runs]).sort_by(NUMBER).drop_columns([NUMBER])
            waiting = pa.concat_tables([waiting, turn.replace_schema_metadata(schema.metadata)])
            while len(waiting) >= ROW_GROUP_ROWS:
                writer.write_table(waiting.slice(0, ROW_GROUP_ROWS))
                waiting, written = waiting.slice(ROW_GROUP_ROWS), written + ROW_GROUP_ROWS
        if len(waiting):
            writer.write_table(waiting)


def _runs(file: "ParquetFile", *, rows: int) -> Iterator["pa.Table"]:
    """The rows of a shard, so many at a time; none when they are at an end."""
    import pyarrow as pa

    waiting = file.schema_arrow.empty_table()
    for batch in file.iter_batches(batch_size=rows):
        waiting = pa.concat_tables([waiting, pa.Table.from_batches([batch])])
        while len(waiting) >= rows:
            yield waiting.slice(0, rows)
            waiting = waiting.slice(rows)
    while True:
        yield waiting
        waiting = waiting.slice(len(waiting))
