"""A vector of each of any number of sounds, in one Parquet table, in the order of the sources.

The sources are listed (`clips.py`), threads read ahead of the model (`reading.py`), and rows are kept in part files as
they come (`parts.py`): a second run goes on where a first was stopped, however it was. Memory does not grow with the
number of files, nor with their length beyond `max_seconds`. A file that cannot be read is a row that says why, and so
is one that ends the process that reads it (`careful.py`). Several processes share the work as shards (`sharding.py`).
"""

import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from lapis.data.storage import Patience, StorageError
from lapis.model import Embedder
from lapis.search import fragments
from lapis.search import parts as part_files
from lapis.search.careful import Journal
from lapis.search.clips import Clip, find_clips
from lapis.search.parts import Job, Merged, Parts
from lapis.search.reading import MEASURED_CLIPS, READ_CLIPS, Sound, read_again, read_ahead
from lapis.search.rows import Row
from lapis.search.sharding import Shard
from lapis.search.withheld import given_back
from lapis.shapes import Waveforms

MAX_SECONDS = 3600.0
BATCH_SECONDS = 120.0
PART_CLIPS = 1000
# Where a part takes long to fill, what is ready is written after so long: about what `kill -9` costs.
PART_PATIENCE_SECONDS = 60.0
# So many clips at once, whatever their seconds: a million clips of nothing are not one batch.
MOST_CLIPS = 1024


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
        ValueError: it is not called `.parquet`, is a folder or one of the sources, or exists and is not to be replaced.
    """
    out = Path(out)
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
    if isinstance(sources, str):
        raise ValueError(f"expected a list of sources, got {sources!r}: put it into a list")
    threads = min(8, os.cpu_count() or 1) if threads is None else threads
    for name, value in (("max_seconds", max_seconds), ("batch_seconds", batch_seconds)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be a number above zero, got {value}")
    for name, value in (("part_clips", part_clips), ("threads", threads)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
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
            identity=embedder.identity,
            width=embedder.width,
            sample_rate=embedder.sample_rate,
            max_seconds=max_seconds,
            shard=shard,
        )
        if shard is not None and out.exists():
            part_files.clear(folder)
            return _finished(out, job=parts.job)
        resumed = parts.num_rows
        reading = _Reading(embedder, max_seconds, batch_seconds, threads, patience)
        _embed_rest(parts, begin=resumed, reading=reading, part_clips=part_clips, progress=progress)
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


@dataclass(frozen=True)
class _Reading:
    """How sounds become rows."""

    embedder: Embedder
    max_seconds: float
    batch_seconds: float
    threads: int
    patience: Patience | None

    def rows(self, clips: Iterator[Clip], *, threads: int | None = None) -> Generator[Row, None, None]:
        """Of clips, in their order."""
        options = {"sample_rate": self.embedder.sample_rate, "max_seconds": self.max_seconds}
        ahead_seconds = 2 * self.batch_seconds
        sounds = read_ahead(clips, ahead_seconds=ahead_seconds, threads=threads or self.threads, **options)
        with closing(sounds):
            given = given_back(sounds, again=partial(read_again, **options))
            yield from _embed(given, embedder=self.embedder, batch_seconds=self.batch_seconds)


def _embed_rest(
    parts: Parts,
    *,
    begin: int,
    reading: _Reading,
    part_clips: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write the rows that are not there yet; those of clips among which processes have been lost one by one."""
    ahead = part_clips + MOST_CLIPS + READ_CLIPS + MEASURED_CLIPS
    journal = Journal(parts.folder, begin=begin, ahead=ahead)
    careful_until = min(journal.careful_until, parts.job.num_clips)
    try:
        for clip in islice(parts.clips(begin=begin, patience=reading.patience), max(0, careful_until - begin)):
            parts.write([_careful_row(clip, number=begin, reading=reading, journal=journal)], begin=begin)
            begin += 1
    except BaseException:
        journal.forgive()
        raise
    try:
        with closing(reading.rows(parts.clips(begin=begin, patience=reading.patience))) as rows:
            _write(rows, parts=parts, begin=begin, part_clips=part_clips, progress=progress)
    except (KeyboardInterrupt, SystemExit, StorageError):
        journal.forgive()
        raise


def _careful_row(clip: Clip, *, number: int, reading: _Reading, journal: Journal) -> Row:
    """The row of a clip by itself, or one that says that it ends processes, or that the model fails on it alone."""
    if journal.is_blamed(number):
        return Row(clip, None, None, "the process ended whenever it came to this sound: crashed, or out of memory")
    journal.touch(number)
    try:
        (row,) = reading.rows(iter([clip]), threads=1)
    except StorageError:
        raise
    except Exception as error:
        # A model that fails on anything is no fault of a sound: then this raises too.
        embedder = reading.embedder
        embedder.embed_audio([np.sin(np.arange(embedder.sample_rate, dtype=np.float32) / 8)])
        return Row(clip, None, None, f"the model fails on it: {type(error).__name__}: {error}")
    return row


def _write(
    rows: Iterable[Row],
    *,
    parts: Parts,
    begin: int,
    part_clips: int,
    progress: Callable[[int, int], None] | None,
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

    if progress:
        progress(begin, parts.job.num_clips)
    try:
        for row in rows:
            ready.append(row)
            if progress:
                progress(begin + len(ready), parts.job.num_clips)
            if len(ready) >= part_clips or time.monotonic() - written_at > PART_PATIENCE_SECONDS:
                flush()
    finally:
        flush()


def _embed(sounds: Iterable[Sound], *, embedder: Embedder, batch_seconds: float) -> Iterator[Row]:
    """The row of each sound, in their order; the model gets as many at once as fit into so many seconds."""
    waiting: list[Sound] = []
    waiting_seconds = 0.0

    def flush() -> Iterator[Row]:
        waveforms = [sound.waveform for sound in waiting if sound.waveform is not None]
        answers = iter(_answers(waveforms, embedder=embedder) if waveforms else ())
        for sound in waiting:
            answer = sound.error if sound.waveform is None else next(answers)
            if isinstance(answer, np.ndarray):
                yield Row(sound.clip, answer, sound.seconds)
            else:
                yield Row(sound.clip, None, sound.seconds, answer)
        waiting.clear()

    try:
        for sound in sounds:
            seconds = 0.0 if sound.waveform is None else len(sound.waveform) / embedder.sample_rate
            if waiting and waiting_seconds + seconds > batch_seconds:
                yield from flush()
                waiting_seconds = 0.0
            waiting.append(sound)
            waiting_seconds += seconds
            del sound  # An hour of sound is not to be kept by its name when its batch is done.
            if waiting_seconds >= batch_seconds or len(waiting) == MOST_CLIPS:
                yield from flush()
                waiting_seconds = 0.0
    except StorageError:  # What came before it is not read again.
        yield from flush()
        raise
    yield from flush()


def _answers(waveforms: Waveforms, *, embedder: Embedder) -> list[Float32[np.ndarray, "_width"] | str]:
    """The vector of each clip, or why it has none; a clip that the model refuses costs its neighbours nothing."""
    try:
        vectors = embedder.embed_audio(waveforms)
    except ValueError as error:
        if len(waveforms) == 1:
            return [f"the model refuses it: {error}"]
        return [answer for waveform in waveforms for answer in _answers([waveform], embedder=embedder)]
    if vectors.shape != (len(waveforms), embedder.width):
        expected = (len(waveforms), embedder.width)
        raise ValueError(f"expected vectors of shape {expected} from {embedder.identity}, got {vectors.shape}")
    finite = np.all(np.isfinite(vectors), axis=1)
    return [vector if good else "the model gives no finite vector for it" for vector, good in zip(vectors, finite)]
