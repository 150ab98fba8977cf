"""The clips of files, folders, tables, listings, tars and stores: what each is called and where its sound lies.

No sound is read here. A table is read row by row and a tar by its index; only the names of one folder, or of one tar,
are in memory together.
"""

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lapis import audio
from lapis.data.sample import Location
from lapis.data.shards import open_shard, records
from lapis.data.storage import Patience, is_url
from lapis.search.stored import Stored, sounds_below

DELIMITERS = {".csv": ",", ".tsv": "\t"}
LISTING = ".txt"
TABLES = (*DELIMITERS, ".jsonl", ".parquet", LISTING)
KEY_COLUMN = "key"
PATH = "path"
"""What the only column of a listing is called."""


@dataclass(frozen=True)
class Clip:
    """A sound to embed, by its name within its source."""

    key: str
    audio: Location | Stored
    error: str | None = None
    """Why there is none, where the source itself shows it: an empty cell, a record of a tar without sound."""

    @property
    def path(self) -> str:
        """Where the sound is, for a person: a file or address, `TAR:MEMBER`, or `TABLE:row N` for an empty cell."""
        return str(self.audio)


def find_clips(
    sources: Sequence[Path | str], *, audio_column: str = "audio", patience: Patience | None = None
) -> Iterator[Clip]:
    """The clips of each source in turn; the folder's in the order of their paths, the others' in their own.

    A folder gives the sound files in it (`lapis.audio.find_audio`), named by their path below it. A CSV, TSV, JSONL or
    Parquet table gives a clip a row, whose path is relative to the table's folder, named by the row's `key`, else by
    the path as it stands there; in a listing (`.txt`) every line is such a path. A tar gives every sound in it, named
    by its WebDataset key. Any other file is a sound.

    An address (`s3://bucket/...`, also in a table) is an object; one that ends in `/`, or has `*` or braces in it, is
    those of the sounds below it, or that match; one that ends in `.tar` is a tar.

    Args:
        sources: paths of files and folders, and addresses, as text.
        audio_column: of the tables, with the paths of the sounds.
        patience: with stores.

    Raises:
        ValueError: a source is not there, a table cannot be parsed or lacks the column, or a tar is damaged.
        StorageError: a store does not list what it has.
    """
    patience = patience or Patience()
    for source in sources:
        if is_url(str(source)):
            yield from _clips_at(str(source), patience=patience)
        else:
            yield from _clips_of(Path(source), audio_column=audio_column, patience=patience)


def _clips_of(source: Path, *, audio_column: str, patience: Patience) -> Iterator[Clip]:
    if source.is_dir():
        for path in audio.find_audio(source):
            yield Clip(path.relative_to(source).as_posix(), Location(path))
    elif not source.exists():
        raise ValueError(f"{source}: expected a sound file, a folder, a table or a tar, but there is none")
    elif source.suffix.lower() in TABLES:
        yield from _clips_of_table(source, audio_column=audio_column, patience=patience)
    elif source.suffix.lower() == ".tar":
        yield from _clips_of_tar(source)
    else:
        yield Clip(str(source), Location(source))


def _clips_at(address: str, *, patience: Patience) -> Iterator[Clip]:
    suffix = PurePosixPath(address).suffix.lower()
    if suffix in TABLES:
        raise ValueError(f"{address}: expected a table of this machine: copy it here; it may hold addresses")
    if address.endswith("/") or any(sign in address for sign in "*[{"):
        below = re.split(r"[*\[{]", address)[0].rpartition("/")[0]
        for found in sounds_below(address, patience):
            yield Clip(found.removeprefix(f"{below}/"), Stored(found, patience=patience))
    elif suffix == ".tar":
        yield from _clips_of_distant_tar(address, patience=patience)
    else:
        yield Clip(address, Stored(address, patience=patience))


def _clips_of_distant_tar(address: str, *, patience: Patience) -> Iterator[Clip]:
    for entry in open_shard(address, has_words=False, patience=patience).entries():
        sounds = [suffix for suffix in entry.members if audio.is_audio_path(f"x.{suffix}")]
        for suffix in sounds:
            yield Clip(entry.key, Stored(address, *entry.members[suffix], f"{entry.key}.{suffix}", patience))
        if not sounds:
            error = f"{address}:{entry.key}: expected a sound, this record has {sorted(entry.members)}"
            yield Clip(entry.key, Stored(address, name=entry.key, patience=patience), error)


def _clips_of_tar(path: Path) -> Iterator[Clip]:
    for record in records(path):
        sounds = [member for suffix, member in record.members.items() if audio.is_audio_path(f"x.{suffix}")]
        for sound in sounds:
            yield Clip(record.key, sound)
        if not sounds:
            error = f"{path}:{record.key}: expected a sound, this record has {sorted(record.members)}"
            yield Clip(record.key, Location(path, name=record.key), error)


def _clips_of_table(path: Path, *, audio_column: str, patience: Patience) -> Iterator[Clip]:
    if path.suffix.lower() == LISTING:
        audio_column = PATH
    for number, row in enumerate(_rows(path, audio_column=audio_column), start=1):
        where = f"{path}, row {number}"
        if audio_column not in row:
            raise _no_column(where, audio_column=audio_column, columns=row)
        cell, key = row[audio_column], row.get(KEY_COLUMN)
        if not isinstance(cell, str | None):
            raise ValueError(f"{where}: expected a path in column {audio_column!r}, got {type(cell).__name__}")
        name = f"row {number}"
        named = str(cell or name) if key in (None, "") else str(key)
        if cell and is_url(cell):
            yield Clip(named, Stored(cell, patience=patience))
        elif cell:
            yield Clip(named, Location(path.parent / cell))
        else:
            yield Clip(named, Location(path, name=name), f"{where}: expected a path in column {audio_column!r}")


def _rows(path: Path, *, audio_column: str) -> Iterator[Mapping[str, Any]]:
    """The rows of a table one by one; of a Parquet file only the columns that matter here."""
    kind = path.suffix.lower()
    if kind == ".jsonl":
        yield from _rows_of_jsonl(path)
    elif kind == LISTING:
        yield from _rows_of_listing(path)
    elif kind == ".parquet":
        yield from _rows_of_parquet(path, audio_column=audio_column)
    else:
        yield from _rows_of_csv(path, delimiter=DELIMITERS[kind])


def _rows_of_csv(path: Path, *, delimiter: str) -> Iterator[Mapping[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file, delimiter=delimiter), start=1):
                if None in row or None in row.values():
                    what = "more" if None in row else "fewer"
                    raise ValueError(
                        f"{path}, row {number} has {what} fields than the header: quote texts that hold {delimiter!r}"
                    )
                yield row
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a table in UTF-8: {error}") from error


def _rows_of_jsonl(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number} is not JSON in UTF-8: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: expected an object, got {type(row).__name__}")
            yield row


def _rows_of_listing(path: Path) -> Iterator[Mapping[str, Any]]:
    """A path a line; it need not be UTF-8, as names of files need not."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for line in file:
            if name := line.rstrip("\r\n"):
                yield {PATH: name}


def _rows_of_parquet(path: Path, *, audio_column: str) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            if audio_column not in columns:
                raise _no_column(str(path), audio_column=audio_column, columns=columns)
            for batch in file.iter_batches(columns=[name for name in columns if name in (audio_column, KEY_COLUMN)]):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a whole Parquet table: {error}") from error


def _no_column(where: str, *, audio_column: str, columns: Sequence[str] | Mapping[str, Any]) -> ValueError:
    return ValueError(
        f"{where}: no column {audio_column!r} with paths of sounds; the columns are {sorted(columns)}: "
        f"say which with --audio-column"
    )
