"""A vector of each of any number of sounds, in one Parquet table, in the order of the sources.

The sources are listed (`clips.py`), made rows of (`embedding.py`), and rows are kept in part files as they come
(`parts.py`): a second run goes on where a first was stopped, however it was. Memory does not grow with the
number of files, nor with their length beyond `max_seconds`. A file that cannot be read is a row that says why, and so
is one that ends the process that reads it (`careful.py`). Several processes share the work as shards (`sharding.py`).
"""

import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from lapis.data.storage import Patience, StorageError, local_path
from lapis.model import Embedder
from lapis.search import fragments
from lapis.search import parts as part_files
from lapis.search.careful import Journal
from lapis.search.clips import Clip, find_clips
from lapis.search.embedding import MOST_CLIPS, Embedding
from lapis.search.parts import Job, Merged, Parts
from lapis.search.reading import MEASURED_CLIPS, READ_CLIPS
from lapis.search.rows import Row, blamed
from lapis.search.sharding import Shard

MAX_SECONDS = 3600.0
BATCH_SECONDS = 120.0
PART_CLIPS = 1000
# Where a part takes long to fill, what is ready is written after so long: about what `kill -9` costs.
PART_PATIENCE_SECONDS = 60.0


def check_options(sources: Sequence[Path | str], *, seconds: tuple[float, float], **counts: int) -> None:
    """Whether a job of these can be done; `seconds` are `max_seconds` and `batch_seconds`.

    Raises:
        ValueError: it cannot.
    """
    if isinstance(sources, str):
        raise ValueError(f"expected a list of sources, got {sources!r}: put it into a list")
    for name, value in zip(("max_seconds", "batch_seconds"), seconds, strict=True):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be a number above zero, got {value}")
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


@dataclass(frozen=True)
class EmbedReport:
    """What is in the table: `written` rows, `failed` of them without a vector; `resumed` were there from before.

    `failures` are path and reason of the first hundred of them; the table's column `error` has them all.
    """

    out: Path
    written: int
    failed: int
    resumed: int
    audio_seconds: float
    """Of all the sound that has a vector."""
    failures: tuple[tuple[str, str], ...]


def check_out(out: Path | str, *, sources: Sequence[Path | str], overwrite: bool = False) -> Path:
    """Where the table is to go, if it may.

    Raises:
        ValueError: it is an address, is not called `.parquet`, is a folder or one of the sources, or exists and is not
            to be replaced.
    """
    out = local_path(out, what="out")
    if out.suffix.lower() != ".parquet" or out.is_dir():
        raise ValueError(f"{out}: expected the name of a file that ends in .parquet")
    if out.resolve() in [Path(source).resolve() for source in sources]:
        raise ValueError(f"{out} is a source: write to another file")
    if out.exists() and not overwrite:
        raise ValueError(f"{out} already exists: add --overwrite to replace it, or choose another --out")
    return out


def embed_files(
    sources: Sequence[Path | str],
    *,
    embedder: Embedder,
    out: Path | str,
    model: str = "",
    audio_column: str = "audio",
    max_seconds: float = MAX_SECONDS,
    batch_seconds: float = BATCH_SECONDS,
    part_clips: int = PART_CLIPS,
    threads: int | None = None,
    shard: Shard | None = None,
    patience: Patience | None = None,
    overwrite: bool = False,
    restart: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> EmbedReport:
    """Embed the sounds of files, folders, tables and tars (`clips.find_clips`) into a Parquet table.

    A row a clip, in the order of the sources: `key`, `path`, `vector` (a fixed-size list of float32, null where there
    is an `error`), `duration_seconds`, `error` (null where there is a vector). The file's metadata say which model made
    the vectors. Beside the table, a folder named as it is with `.parts` holds the work until it is finished.

    Of a shard, every n-th clip is embedded, into a table in the folder named as the whole with `.shards`; when all are
    there, `fragments.merge` makes them one. A shard that is finished already stays as it is.

    Args:
        sources: paths of files and folders, and addresses of stores (`s3://bucket/folder/`), as text.
        embedder: the model.
        out: the table.
        model: its name or folder, noted in the table.
        audio_column: of sources that are tables, with the paths of the sounds.
        max_seconds: a longer sound is not read, but is a row with an error.
        batch_seconds: of sound the model gets at once; a longer sound is a batch by itself. Memory holds about three
            times so much, or the longest sound four times.
        part_clips: rows a part file; written earlier when they take over a minute.
        threads: that read sound; as many as there are processors unless told, eight at most.
        shard: which of several processes this is, each with the same other arguments, on this machine or another.
        patience: with stores.
        overwrite: replace a table that is there; of a shard, begin although the whole table is there.
        restart: throw away the unfinished work of an earlier run; of a shard, the finished too.
        progress: called with the number of clips done and of all.

    Raises:
        ValueError: a source is not there or damaged, the table is there already, or unfinished work beside it is of
            another model or other sources.
        StorageError: a store is away; what was finished is kept, and a later run goes on.
    """
    threads = min(8, os.cpu_count() or 1) if threads is None else threads
    check_options(sources, seconds=(max_seconds, batch_seconds), part_clips=part_clips, threads=threads)
    embedding = Embedding(embedder, max_seconds, batch_seconds, threads, patience)

    def embed_rest(parts: Parts) -> None:
        for begin, end in parts.gaps():
            _embed_gap(parts, begin, end, embedding=embedding, part_clips=part_clips, progress=progress)

    return do_job(
        embed_rest,
        sources=sources,
        identity=embedder.identity,
        width=embedder.width,
        sample_rate=embedder.sample_rate,
        out=out,
        model=model,
        audio_column=audio_column,
        max_seconds=max_seconds,
        shard=shard,
        patience=patience,
        overwrite=overwrite,
        restart=restart,
    )


def do_job(
    embed_rest: Callable[[Parts], None],
    *,
    sources: Sequence[Path | str],
    identity: str,
    width: int,
    sample_rate: int,
    out: Path | str,
    model: str,
    audio_column: str,
    max_seconds: float,
    shard: Shard | None,
    patience: Patience | None,
    overwrite: bool,
    restart: bool,
) -> EmbedReport:
    """Begin a job or go on with it: list the clips, have the rest of the rows written, and make one table of all.

    Args:
        embed_rest: writes a row of every clip in the job's gaps, by whatever means.
        sources: and all the others, as `embed_files` has them; the model's identity, width and rate are told.

    Raises:
        ValueError: as `embed_files` does.
    """
    whole = check_out(out, sources=sources, overwrite=overwrite)
    out = whole if shard is None else shard.fragment(whole)
    folder = out.with_name(f"{out.name}.parts")
    with part_files.held(folder):
        check_out(whole, sources=sources, overwrite=overwrite)  # Another process may just have finished it.
        if restart:
            part_files.clear(folder)
        if restart and shard is not None:
            out.unlink(missing_ok=True)
        parts = Parts.create_or_open(
            folder,
            clips=find_clips(sources, audio_column=audio_column, patience=patience),
            identity=identity,
            width=width,
            sample_rate=sample_rate,
            max_seconds=max_seconds,
            shard=shard,
        )
        if shard is not None and out.exists():
            part_files.clear(folder)
            return _finished(out, job=parts.job)
        resumed = parts.num_rows
        embed_rest(parts)
        part_files.sweep(out)
        merged = parts.merge(out, metadata={"lapis.version": version("lapis-audio"), "lapis.model": model})
        part_files.clear(folder)
    return _report(out, merged, resumed=resumed)


def _report(out: Path, merged: Merged, *, resumed: int) -> EmbedReport:
    return EmbedReport(
        out=out,
        written=merged.num_rows,
        failed=merged.num_failed,
        resumed=resumed,
        audio_seconds=merged.audio_seconds,
        failures=merged.failures,
    )


def _finished(out: Path, *, job: Job) -> EmbedReport:
    """What is in the table of a shard that an earlier run has finished, if it did this job."""
    there = fragments.job_of(out)
    if there != job:
        raise ValueError(part_files.another_job(f"{out} is the finished shard", there=there, asked=job))
    return _report(out, fragments.contents_of(out), resumed=job.num_clips)


def _embed_gap(
    parts: Parts,
    begin: int,
    end: int,
    *,
    embedding: Embedding,
    part_clips: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write rows that are not there yet; those of clips among which processes have been lost one by one."""
    elsewhere = parts.num_rows - begin

    def tell(done: int, total: int) -> None:
        if progress:
            progress(elsewhere + done, total)

    ahead = part_clips + MOST_CLIPS + READ_CLIPS + MEASURED_CLIPS
    journal = Journal(parts.folder, begin=begin, ahead=ahead)
    careful_until, patience = max(begin, min(journal.careful_until, end)), embedding.patience
    try:
        for clip in parts.clips(begin=begin, end=careful_until, patience=patience):
            row = _careful_row(clip, number=begin, parts=parts, embedding=embedding, journal=journal)
            parts.write([row], begin=begin)
            begin += 1
            tell(begin, parts.job.num_clips)
    except BaseException:
        journal.forgive()
        raise
    clips, others = parts.clips(begin=begin, end=end, patience=patience), parts.others(begin, end, patience=patience)
    try:
        with closing(embedding.rows(clips, others=others)) as rows:
            _write(rows, parts=parts, begin=begin, part_clips=part_clips, progress=tell)
    except (KeyboardInterrupt, SystemExit, StorageError, OSError):  # OSError: a full disk
        journal.forgive()
        raise


def _careful_row(clip: Clip, *, number: int, parts: Parts, embedding: Embedding, journal: Journal) -> Row:
    """The row of a clip by itself, or one that says that it ends processes, or that the model fails on it alone."""
    if journal.is_blamed(number):
        return blamed(clip)
    journal.touch(number)
    return embedding.careful_row(clip, others=parts.others(number, number + 1, patience=embedding.patience))


def _write(
    rows: Iterable[Row],
    *,
    parts: Parts,
    begin: int,
    part_clips: int,
    progress: Callable[[int, int], None],
) -> None:
    """Write the rows into parts as they come; those that are ready too when something breaks off the work."""
    ready: list[Row] = []
    written_at = time.monotonic()

    def flush() -> None:
        nonlocal begin, ready, written_at
        if ready:
            parts.write(ready, begin=begin)
            begin, ready = begin + len(ready), []  # In one go: no signal comes between, and no row is written twice.
        written_at = time.monotonic()

    progress(begin, parts.job.num_clips)
    try:
        for row in rows:
            ready.append(row)
            progress(begin + len(ready), parts.job.num_clips)
            if len(ready) >= part_clips or time.monotonic() - written_at > PART_PATIENCE_SECONDS:
                flush()
    finally:
        flush()
