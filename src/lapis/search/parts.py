"""Rows that are written in order, survive a crash, and become one Parquet table at the end.

Beside the table to be lies a folder with the list of clips, a description of the job, and part files, each named by
the numbers of the rows in it and there whole or not at all. Who comes back finds the same job or is refused, and goes
on with the rows that are not there. The merge streams the parts, so that memory never holds the table.
"""

import contextlib
import glob
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapis.data.sample import Location
from lapis.data.storage import Patience, is_url
from lapis.files import atomic_write, locked
from lapis.search.careful import NAME as PROGRESS_NAME
from lapis.search.clips import Clip
from lapis.search.rows import NUMBER, Row, row_mark, schema_of, table_of, utf8
from lapis.search.sharding import Shard
from lapis.search.stored import Stored

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
JOB_NAME = "job.json"
CLIPS_NAME = "clips.jsonl"
LOCK_NAME = "lock"
JOB_KEY = "lapis.job"
"""Of a shard's table: the job, among its metadata."""
ROW_GROUP_ROWS = 8192
LISTED_FAILURES = 100


@dataclass(frozen=True)
class Job:
    """All that must be the same for rows to belong together."""

    identity: str
    """Of the embedder."""
    width: int
    sample_rate: int
    max_seconds: float
    num_clips: int
    clips_digest: str
    """Of the clips' names and places, and of their files' sizes and modification times."""
    shard: int = 0
    shards: int = 0
    """How many there are; 0 where the job is the whole."""
    num_listed: int = 0
    """Clips of all shards together."""
    listing_digest: str = ""
    """Of the numbers, names and places of all shards' clips; the same where shards belong together."""
    rows_digest: str = ""
    """Of those of this one's: what its rows must be."""
    format: int = FORMAT

    def number(self, row: int) -> int:
        """Of a row's clip, among the clips of all shards."""
        return self.shard + self.shards * row if self.shards else row


@dataclass(frozen=True)
class Merged:
    """What came together in a table; `failures` are the path and the reason of the first `LISTED_FAILURES` of them."""

    num_rows: int
    num_failed: int
    audio_seconds: float
    failures: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Parts:
    """The folder of a job. Made by `Parts.create_or_open`, under a lock that the caller holds."""

    folder: Path
    job: Job

    @classmethod
    def create_or_open(
        cls,
        folder: Path,
        *,
        clips: Iterable[Clip],
        identity: str,
        width: int,
        sample_rate: int,
        max_seconds: float,
        shard: Shard | None = None,
    ) -> "Parts":
        """Begin a job, or go on with one that must be the same; the clips are listed to disk on the way.

        Of a shard, `clips` are those of all shards, and its own are kept.

        Raises:
            ValueError: the folder holds another job, or there is no clip.
        """
        there = _read_job(folder) if (folder / JOB_NAME).exists() else None
        if there is None:
            clear(folder)
        digest, num_clips = hashlib.sha256(), 0
        listed = _Listed(shard)
        with atomic_write(folder / CLIPS_NAME) as file:
            for line in _lines(clips if shard is None else listed.own(clips)):
                file.write(line)
                digest.update(line)
                num_clips += 1
            if not (num_clips or listed.count):
                raise ValueError("expected sounds to embed, but there is none in the sources")
            job = Job(identity, width, sample_rate, float(max_seconds), num_clips, digest.hexdigest(), **listed.told())
            if there is not None and there != job:
                raise ValueError(another_job(f"{folder} holds the unfinished work", there=there, asked=job))
        if there is None:
            with atomic_write(folder / JOB_NAME, binary=False) as file:
                json.dump(asdict(job), file, indent=2)
        return cls(folder, job)

    def spans(self) -> list[tuple[int, int]]:
        """Numbers of the first row, and of the one after the last, of each part.

        Raises:
            ValueError: two parts have a row in common.
        """
        names = [path.stem.split("-") for path in self.folder.glob("rows-*.parquet")]
        spans = sorted((int(begin), int(end)) for _, begin, end in names)
        for (_, end), (begin, after) in zip([(0, 0), *spans], [*spans, (self.job.num_clips, self.job.num_clips)]):
            if begin < end or after < begin:
                raise ValueError(
                    f"{self.folder} is damaged: a part ends before row {end}, the next begins with row {begin}. "
                    f"Throw it away with --restart"
                )
        return spans

    def gaps(self) -> list[tuple[int, int]]:
        """The same of the rows between the parts, and after them, that are to be written yet."""
        spans, end = self.spans(), self.job.num_clips
        gaps = zip((0, *(end for _, end in spans)), (*(begin for begin, _ in spans), end), strict=True)
        return [(begin, end) for begin, end in gaps if begin < end]

    @property
    def num_rows(self) -> int:
        """Rows written so far."""
        return sum(end - begin for begin, end in self.spans())

    def clips(self, *, begin: int, end: int | None = None, patience: Patience | None = None) -> Iterator[Clip]:
        """The clips of the job, from one on, up to the one before `end`; `patience` is with stores."""
        span = (begin, self.job.num_clips if end is None else end)
        return (clip for _, clip in self.numbered_clips([span], patience=patience))

    def numbered_clips(
        self, spans: Iterable[tuple[int, int]], *, patience: Patience | None = None
    ) -> Iterator[tuple[int, Clip]]:
        """The clips of these spans, which ascend, each after its number; the list is gone through once."""
        with (self.folder / CLIPS_NAME).open(encoding="ascii") as file:
            lines = enumerate(file)
            after = 0
            for begin, end in spans:
                for number, line in islice(lines, begin - after, end - after):
                    key, path, offset, size, name, error, _ = json.loads(line)
                    if is_url(path):
                        yield number, Clip(key, Stored(path, offset, size, name, patience or Patience()), error)
                    else:
                        yield number, Clip(key, Location(Path(path), offset, size, name), error)
                after = end

    def others(self, begin: int, end: int, *, patience: Patience | None = None) -> Iterator[Clip]:
        """The clips in stores outside a span: those after it, then those before it."""
        for own_begin, own_end in ((end, self.job.num_clips), (0, begin)):
            for clip in self.clips(begin=own_begin, end=own_end, patience=patience):
                if isinstance(clip.audio, Stored):
                    yield clip

    def write(self, rows: Sequence[Row], *, begin: int) -> None:
        """Write a part: rows in the order of the clips, the first with this number."""
        self.write_table(table_of(rows, width=self.job.width), begin=begin)

    def write_table(self, table: "pa.Table", *, begin: int) -> None:
        """Write a part: the rows as `rows.table_of` gives them, in the order of the clips."""
        from pyarrow import parquet

        with atomic_write(self._part(begin, begin + len(table))) as file:
            parquet.write_table(table, file, use_dictionary=False)

    def merge(self, out: Path, *, metadata: dict[str, str]) -> Merged:
        """Write all rows into one table, a row group at a time, which then takes its place at once.

        That of a shard has the clips' numbers too, and the job itself among its metadata.

        Args:
            out: the table.
            metadata: for its schema; what the job knows of the model is added.

        Raises:
            ValueError: a part is missing or damaged.
        """
        import pyarrow as pa
        from pyarrow import parquet

        spans = self.spans()
        if self.num_rows != self.job.num_clips:
            raise ValueError(f"{self.folder} is not finished: expected {self.job.num_clips} rows, got {self.num_rows}")
        failures: list[tuple[str, str]] = []
        num_failed, audio_seconds = 0, 0.0
        is_shard = self.job.shards > 0
        of_job = {f"lapis.{name}": str(getattr(self.job, name)) for name in ("identity", "width", "sample_rate")}
        if is_shard:
            of_job[JOB_KEY] = json.dumps(asdict(self.job))
        schema = schema_of(self.job.width, numbered=is_shard).with_metadata(metadata | of_job)
        with atomic_write(out) as file, parquet.ParquetWriter(file, schema, use_dictionary=False) as writer:
            waiting = schema.empty_table()
            for begin, end in spans:
                part = self._read(begin, end)
                failed = part.filter(part["error"].is_valid())
                num_failed += failed.num_rows
                few = failed.slice(0, LISTED_FAILURES - len(failures)).select(["path", "error"])
                failures += [(row["path"], row["error"]) for row in few.to_pylist()]
                embedded = part.filter(part["vector"].is_valid())
                audio_seconds += float(embedded["duration_seconds"].to_numpy().sum())
                if is_shard:
                    part = part.add_column(0, NUMBER, pa.array([self.job.number(row) for row in range(begin, end)]))
                waiting = pa.concat_tables([waiting, part.replace_schema_metadata(schema.metadata)])
                while waiting.num_rows >= ROW_GROUP_ROWS:
                    writer.write_table(waiting.slice(0, ROW_GROUP_ROWS))
                    waiting = waiting.slice(ROW_GROUP_ROWS)
            if waiting.num_rows:
                writer.write_table(waiting)
        return Merged(self.job.num_clips, num_failed, audio_seconds, tuple(failures))

    def _part(self, begin: int, end: int) -> Path:
        return self.folder / f"rows-{begin:012d}-{end:012d}.parquet"

    def _read(self, begin: int, end: int) -> "pa.Table":
        import pyarrow as pa
        from pyarrow import parquet

        path = self._part(begin, end)
        try:
            with parquet.ParquetFile(path) as file:
                return file.read()
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path} is damaged ({error}): throw the folder away with --restart") from error


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder while the block runs; remove it after, unless there is a job to go on with.

    Raises:
        ValueError: another process is at work in it.
    """
    with _locked(folder):
        try:
            yield
        finally:
            if not (folder / JOB_NAME).exists():
                clear(folder)
                (folder / LOCK_NAME).unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # What someone else has put into it stays.
                    folder.rmdir()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock file: the one that lies there, not one that its last holder has deleted meanwhile."""
    path = folder / LOCK_NAME
    with contextlib.ExitStack() as stack:
        while True:
            with contextlib.suppress(FileNotFoundError):  # The last holder's folder may go at any moment.
                folder.mkdir(parents=True, exist_ok=True)
                path.touch()
                before = path.stat().st_ino
                stack.enter_context(locked(path))
                if path.stat().st_ino == before:
                    break
            stack.close()
        yield


def clear(folder: Path) -> None:
    """Delete what a job has put into its folder."""
    # The description goes first: without it, nobody goes on with the rest.
    (folder / JOB_NAME).unlink(missing_ok=True)
    for pattern in (CLIPS_NAME, f"*{PROGRESS_NAME}", "rows-*.parquet", ".*.part"):
        for path in folder.glob(pattern):
            path.unlink()


def sweep(out: Path) -> None:
    """Delete what processes that were killed in the midst of writing a table have left of it; nobody is writing it."""
    for path in out.parent.glob(f".{glob.escape(out.name)}.*.part"):
        path.unlink()


def _lines(clips: Iterable[Clip]) -> Iterator[bytes]:
    """A line of JSON a clip, with the stamp of its file, in ASCII: any name of a file can be written so."""
    known, stamp = None, None
    for clip in clips:
        # What lies in a store is known by its address: a question for each would take longer than the listing.
        place = clip.audio.address if isinstance(clip.audio, Stored) else str(clip.audio.path)
        if place != known:  # The members of a tar follow each other.
            known, stamp = place, None if isinstance(clip.audio, Stored) else _stamp(clip.audio.path)
        audio = clip.audio
        values = [clip.key, place, audio.offset, audio.size, audio.name, clip.error, stamp]
        yield json.dumps(values).encode("ascii") + b"\n"


def _stamp(path: Path) -> tuple[int, int] | None:
    """By what a file is recognised as unchanged; None where there is none, or its name cannot be one."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


class _Listed:
    """What a shard knows of the clips of all shards, having gone through them for its own."""

    def __init__(self, shard: Shard | None) -> None:
        self._shard, self.count = shard, 0
        self._all, self._own = hashlib.sha256(), hashlib.sha256()

    def own(self, clips: Iterable[Clip]) -> Iterator[Clip]:
        assert self._shard is not None
        for clip in clips:
            mark = row_mark(self.count, utf8(clip.key), utf8(clip.path))
            is_own = self.count % self._shard.count == self._shard.index
            self.count += 1
            self._all.update(mark)
            if is_own:
                self._own.update(mark)
                yield clip

    def told(self) -> dict[str, Any]:
        """These fields of the job."""
        if self._shard is None:
            return {}
        return {
            "shard": self._shard.index,
            "shards": self._shard.count,
            "num_listed": self.count,
            "listing_digest": self._all.hexdigest(),
            "rows_digest": self._own.hexdigest(),
        }


def _read_job(folder: Path) -> Job:
    path = folder / JOB_NAME
    try:
        return Job(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): throw the folder away with --restart") from error


def another_job(what: str, *, there: Job, asked: Job) -> str:
    """In what two jobs differ, of which the first has left something."""
    names = {
        "identity": "the model",
        "max_seconds": "--max-seconds",
        "num_listed": "the number of clips",
        "num_clips": "the number of clips",
        "clips_digest": "the sources, or files in them",
    }
    values = asdict(asked)
    differing = [name for name, value in asdict(there).items() if value != values[name]]
    first = next((name for name in names if name in differing), differing[0])
    shown = "" if first == "clips_digest" else f": {asdict(there)[first]}, now {values[first]}"
    return (
        f"{what} of another job, it differs in {names.get(first, first)}{shown}. "
        f"Give the same model and sources to go on with it, or throw it away with --restart"
    )
