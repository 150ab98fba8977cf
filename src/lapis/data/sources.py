"""Where samples come from: tables beside sound files, WebDataset tars, Hugging Face data sets on disk.

A source is a sequence of samples that are cheap to make; no sound is read here. Each source has a frozen `Config`
whose `build()` opens it.
"""

import csv
import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lapis.data.indexed import IndexedSamples
from lapis.data.parquet import ParquetCell, parquet_rows, sound_of_cell
from lapis.data.sample import Location, Sample
from lapis.data.shards import open_shards
from lapis.data.storage import Patience, is_url, store_of
from lapis.data.words import known_text, make_sample, parse_object
from lapis.files import data_path

Source = Sequence[Sample]
"""Samples by number; a list is one, and so is anything that makes them when asked."""


@runtime_checkable
class SourceConfig(Protocol):
    """A frozen value that opens a source. Printing it says what it is."""

    def build(self) -> Source:
        """The source, its list of samples read."""
        ...


@dataclass(frozen=True)
class Tars:
    """WebDataset tars. A sample needs a sound and a `.json`.

    `pattern` is a glob, relative to the data folder, or an address: `s3://bucket/train-*.tar` (gs and az likewise), or
    `https://host/train-{000..123}.tar`, since a web server lists nothing. Tars elsewhere want their index beside them
    (`shards.index_shard`): without one each is read through once.
    """

    pattern: str
    domain: str | None = None
    """Keep only this domain."""
    patience: Patience = field(default=Patience(), repr=False)
    """With a store that does not answer."""

    def build(self) -> IndexedSamples:
        """The samples of all shards that match, in the order of their names.

        Raises:
            ValueError: no shard matches, or a sample has no sound or no readable JSON.
            StorageError: a store does not answer.
        """
        if is_url(self.pattern):
            addresses = store_of(self.pattern, self.patience).find(self.pattern)
            where = self.pattern
        else:
            addresses = self.find()
            where = str(data_path(self.pattern))
        if not addresses:
            raise ValueError(f"no tar matches {where}")
        return IndexedSamples(open_shards(addresses, self.patience), domain=self.domain, patience=self.patience)

    def find(self) -> list[str]:
        """The tars of this machine that match, sorted; a folder that is called as a tar is none."""
        root = glob.escape(str(data_path("."))) if not Path(self.pattern).is_absolute() else ""
        found = sorted(glob.glob(str(Path(root, self.pattern))))  # noqa: PTH207  (the pattern may hold folders)
        return [path for path in found if not Path(path).is_dir()]


@dataclass(frozen=True)
class Table:
    """A CSV, JSONL or Parquet file with a row a clip; paths in it are relative to its folder.

    `caption` names a column with a text, or a list of texts, in `language`; JSONL and Parquet rows may instead carry a
    `captions` column that maps languages to texts. Further columns are taken where they stand: label, seconds, domain.
    In Parquet the sounds themselves may stand in the table, as the hub has them: bytes, or `{"bytes", "path"}`.
    """

    path: str
    audio: str = "audio"
    caption: str = "caption"
    language: str = "eng_Latn"

    def build(self) -> list[Sample]:
        """The rows as samples.

        Raises:
            ValueError: the file is of another kind or cannot be parsed, or a row lacks its sound or its words.
        """
        path = data_path(self.path)
        rows = _rows(path, audio=self.audio)
        if not rows:
            raise ValueError(f"{path} has no rows")
        return [self._sample(row, path=path, number=number) for number, row in enumerate(rows, start=1)]

    def _sample(self, row: Mapping[str, Any], *, path: Path, number: int) -> Sample:
        where = f"{path}, row {number}"
        if not row.get(self.audio):
            raise ValueError(f"{where}: no sound in column {self.audio!r}; the columns are {sorted(row)}")
        if "captions" not in row and self.caption not in row:
            raise ValueError(f"{where}: no column {self.caption!r} or 'captions'; the columns are {sorted(row)}")
        values = dict(row)
        if "captions" not in values:
            values["captions"] = {self.language: values[self.caption]}
        audio, name = row[self.audio], row[self.audio]
        if isinstance(audio, ParquetCell):
            name = audio.sound_name or str(number)
        elif isinstance(audio, str):
            if is_url(audio):
                scheme = audio.partition(":")[0]
                raise ValueError(
                    f"{where}: expected a sound of this machine, got one of {scheme}:// (in stores, tars are read)"
                )
            audio = Location(path.parent / audio)
        else:
            raise ValueError(f"{where}: expected a path in column {self.audio!r}, got {type(audio).__name__}")
        return make_sample(values, key=known_text(row, "key", where=where) or name, audio=audio, where=where)


def _rows(path: Path, *, audio: str) -> list[dict[str, Any]]:
    if not path.is_file():
        raise ValueError(f"{path}: expected a table, there is no such file")
    match path.suffix.lower():
        case ".csv":
            return _csv_rows(path)
        case ".jsonl":
            lines = path.read_bytes().splitlines()
            return [
                parse_object(line, name=f"{path}, line {number}")
                for number, line in enumerate(lines, 1)
                if line.strip()
            ]
        case ".parquet":
            return parquet_rows(path, audio=audio)
        case other:
            raise ValueError(f"{path}: expected a .csv, .jsonl or .parquet table, got {other!r}")


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), start=1):
                if None in row or None in row.values():
                    what = "more" if None in row else "fewer"
                    raise ValueError(f"{path}, row {number} has {what} fields than the header: quote commas in texts")
                rows.append(dict(row))
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a CSV table in UTF-8: {error}") from error
    return rows


@dataclass(frozen=True)
class HuggingFaceFolder:
    """A data set saved by `datasets.Dataset.save_to_disk`, or one split of a saved `DatasetDict`."""

    path: str
    audio: str = "audio"
    caption: str = "caption"
    language: str = "eng_Latn"
    split: str | None = None

    def build(self) -> list[Sample]:
        """The rows as samples; their sound is read from the folder when it is asked for.

        Raises:
            ValueError: the folder is not such a data set, or it lacks a column.
        """
        try:
            import datasets
        except ImportError as error:
            raise ValueError("Hugging Face data sets need an extra: pip install 'lapis-audio[datasets]'") from error
        path = data_path(self.path)
        try:
            table = datasets.load_from_disk(str(path))
        except FileNotFoundError as error:
            raise ValueError(f"{path}: expected a folder that datasets saved to disk: {error}") from error
        if isinstance(table, datasets.DatasetDict):
            if self.split not in table:
                raise ValueError(f"{path}: expected a split among {sorted(table)}, got {self.split!r}")
            table = table[self.split]
        for column in (self.audio, self.caption):
            if column not in table.column_names:
                raise ValueError(f"{path}: no column {column!r}; the columns are {table.column_names}")
        sounds = table.cast_column(self.audio, datasets.Audio(decode=False)).select_columns([self.audio])
        samples = []
        for number, row in enumerate(table.remove_columns([self.audio])):
            assert isinstance(row, dict)
            values = row | {"captions": {self.language: row[self.caption]}}
            audio = TableCell(sounds, number, self.audio, f"{path}:{self.split}" if self.split else str(path))
            samples.append(make_sample(values, key=str(number), audio=audio, where=f"{path}, row {number}"))
        return samples


@dataclass(frozen=True)
class TableCell:
    """A sound in a column of a Hugging Face data set."""

    table: Any
    row: int
    column: str
    name: str

    def open(self) -> Path | bytes:
        """The cell's bytes, or the path it names.

        Raises:
            ValueError: there is neither.
        """
        return sound_of_cell(self.table[self.row][self.column], name=str(self))

    def __str__(self) -> str:
        return f"{self.name}, row {self.row}, {self.column}"
