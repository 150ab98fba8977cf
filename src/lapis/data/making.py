"""One shard made: its clips read, resampled, written, one at a time; what a worker process of `prepare` does.

Whatever goes wrong with reading a clip is that clip's problem; whatever goes wrong with writing (a full disk) ends the
shard, and the job.
"""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lapis import audio
from lapis.data.ahead import Range
from lapis.data.encoding import Codec
from lapis.data.journal import Done, Problem
from lapis.data.keys import in_utf8
from lapis.data.listing import Unreadable
from lapis.data.parquet import ParquetCell
from lapis.data.sample import Sample
from lapis.data.sources import TableCell
from lapis.data.storage import StorageError
from lapis.data.workers import Tick
from lapis.data.writing import ShardWriter, index_path, shard_writer

Place = Sample | Unreadable


@dataclass(frozen=True)
class Task:
    """A shard to make, of these places of the source; the first is place number `first`."""

    number: int
    first: int
    places: Sequence[Place]
    codec: Codec
    folder: Path
    name: str
    plan: str


def make_shard(task: Task, tick: Tick) -> Done:
    """Write a shard and its index, and tell what is in it.

    Raises:
        OSError: it could not be written; nothing of it is there.
    """
    path = task.folder / f"{task.name}-{task.number:06d}.tar"
    problems: list[Problem] = []
    num_samples = 0
    with shard_writer(path) as shard:
        for number, place in enumerate(task.places, start=task.first):
            num_samples += _add(place, number=number, shard=shard, codec=task.codec, problems=problems)
            tick()
    if not len(shard):  # An empty tar would say nothing that the journal does not.
        path.unlink(missing_ok=True)
        index_path(path).unlink(missing_ok=True)
        return Done(task.number, task.plan, None, 0, 0.0, 0, None, problems)
    written = shard.written()
    seconds = num_samples / task.codec.sample_rate
    return Done(task.number, task.plan, path.name, len(shard), seconds, written.size, written.sha256, problems)


def _add(place: Place, *, number: int, shard: ShardWriter, codec: Codec, problems: list[Problem]) -> int:
    """Write a sample if it can be read; gives the number of its samples of sound."""
    if isinstance(place, Unreadable):
        problems.append(Problem(number, "", place.name, place.reason))
        return 0
    where = str(place.audio)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            content, num_samples = codec.encode(audio.chunks(place.audio.open(), sample_rate=codec.sample_rate))
        if not num_samples:
            raise ValueError(f"expected sound, but it is shorter than one sample at {codec.sample_rate} Hz")
    except (
        StorageError
    ):  # An object store that is away is no fault of the clip: the job stops, and goes on another day.
        raise
    except Exception as error:  # Any: one file in a million must not stop the others, and is named.
        problems.append(Problem(number, place.key, where, reason_of(error)))
        return 0
    problems += [Problem(number, place.key, where, str(warning.message), left_out=False) for warning in caught]
    words = describe(place, seconds=num_samples / codec.sample_rate)
    shard.add(place.key, content, suffix=codec.name, words=words)
    return num_samples


def reason_of(error: Exception) -> str:
    """What is said of a file; an error that a damaged file is not known to cause is named by its kind too."""
    return str(error) if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {error}"


def describe(sample: Sample, *, seconds: float | None) -> dict[str, Any]:
    """What the JSON of a sample says: all that is known of it but where its sound was."""
    known = {field.name: getattr(sample, field.name) for field in fields(sample) if field.name != "audio"}
    known |= {"captions": {language: list(texts) for language, texts in sample.captions.items()}, "seconds": seconds}
    known["key"] = in_utf8(sample.key)  # By which `original_key` knows it.
    return {name: value for name, value in known.items() if value is not None}


def plan_digest(places: Sequence[Place]) -> str:
    """A digest of what is to be in a shard: what is known of the clips, and what changes with their sound."""
    digest = hashlib.sha256()
    stamps: dict[Any, Any] = {}
    for place in places:
        if isinstance(place, Unreadable):
            planned: Sequence[Any] = (place.name, place.reason)
        else:
            planned = (describe(place, seconds=place.seconds), str(place.audio), _stamp(place.audio, known=stamps))
        digest.update(json.dumps(planned, default=_plain).encode())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"expected plain values in a sample, got {type(value).__name__}")


def _stamp(place: Any, *, known: dict[Any, Any]) -> Any:
    """By what a sound is recognised as unchanged, and its place within a file; None where nothing can be looked at."""
    if isinstance(place, Range):
        return place.thing.mark, place.thing.size, place.offset, place.size
    if isinstance(place, TableCell):
        return _table_stamp(place, known=known)
    path = getattr(place, "path", None)
    if not isinstance(path, Path):
        return None
    if isinstance(place, ParquetCell) and place.sound_name:  # It may name a file, and not hold the sound itself.
        return _file_stamp(path, known=known), _file_stamp(path.parent / place.sound_name, known=known)
    return _file_stamp(path, known=known), getattr(place, "offset", None), getattr(place, "size", None)


def _file_stamp(path: Path, *, known: dict[Any, Any]) -> tuple[int, int] | None:
    if path not in known:
        try:
            status = path.stat()
            known[path] = status.st_size, status.st_mtime_ns
        except (OSError, ValueError):
            known[path] = None
    return known[path]


def _table_stamp(cell: TableCell, *, known: dict[Any, Any]) -> Any:
    """The files of the whole table, or what `datasets` knows it by if it is in memory; and the file a cell names."""
    table = cell.table
    if id(table) not in known:
        files = [_file_stamp(Path(file["filename"]), known=known) for file in table.cache_files]
        known[id(table)] = files or table._fingerprint, table.with_format("arrow")
    stamp, columns = known[id(table)]
    value = columns[cell.row].column(cell.column)[0]  # As Arrow, so that no sound is copied.
    if not value.is_valid or value["bytes"].is_valid or not value["path"].is_valid:
        return stamp
    return stamp, _file_stamp(Path(value["path"].as_py()), known=known)
