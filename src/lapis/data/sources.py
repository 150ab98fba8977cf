"""Where samples come from: tables beside sound files, WebDataset tars, Hugging Face data sets on disk.

A source is a sequence of samples that are cheap to make; no sound is read here. Each source has a frozen `Config`
whose `build()` opens it.
"""

import csv
import glob
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lapis import audio
from lapis.data.sample import Location, Sample
from lapis.data.shards import records
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
    """WebDataset tars; `pattern` is a glob, relative to the data folder. A sample needs a sound and a `.json`."""

    pattern: str
    domain: str | None = None
    """Keep only this domain."""

    def build(self) -> list[Sample]:
        """The samples of all shards that match, in the order of their names.

        Raises:
            ValueError: no shard matches, or a sample has no sound or no readable JSON.
        """
        root = glob.escape(str(data_path("."))) if not Path(self.pattern).is_absolute() else ""
        paths = sorted(glob.glob(str(Path(root, self.pattern))))  # noqa: PTH207  (the pattern may hold folders)
        if not paths:
            raise ValueError(f"no tar matches {data_path(self.pattern)}")
        samples = [sample for path in paths for sample in _samples_of_tar(Path(path))]
        return [sample for sample in samples if self.domain in (None, sample.domain)]


def _samples_of_tar(path: Path) -> Iterator[Sample]:
    with path.open("rb") as file:
        for record in records(path):
            sounds = [member for suffix, member in record.members.items() if audio.is_audio_path(f"x.{suffix}")]
            sound = sounds[0] if sounds else None
            words = record.members.get("json")
            if sound is None or words is None or words.size is None:
                raise ValueError(f"{path}:{record.key} needs a sound and a .json, it has {sorted(record.members)}")
            file.seek(words.offset)
            yield _sample(_json(file.read(words.size), name=str(words)), key=record.key, audio=sound, where=str(words))


@dataclass(frozen=True)
class Table:
    """A CSV, JSONL or Parquet file with a row a clip; paths in it are relative to its folder.

    `caption` names a column with a text, or a list of texts, in `language`; JSONL and Parquet rows may instead carry a
    `captions` column that maps languages to texts. Further columns are taken where they stand: label, seconds, domain.
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
        rows = _rows(path)
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
        audio = Location(path.parent / str(row[self.audio]))
        return _sample(values, key=str(row.get("key") or row[self.audio]), audio=audio, where=where)


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise ValueError(f"{path}: expected a table, there is no such file")
    match path.suffix.lower():
        case ".csv":
            return _csv_rows(path)
        case ".jsonl":
            lines = path.read_bytes().splitlines()
            return [_json(line, name=f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
        case ".parquet":
            try:
                from pyarrow import parquet
            except ImportError as error:
                raise ValueError("Parquet needs an extra: pip install 'lapis-audio[train]'") from error
            return parquet.read_table(path).to_pylist()
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
            samples.append(_sample(values, key=str(number), audio=audio, where=f"{path}, row {number}"))
        return samples


@dataclass(frozen=True)
class TableCell:
    """A sound in a column of a Hugging Face data set."""

    table: Any
    row: int
    column: str
    name: str

    def open(self) -> Path | bytes:
        """The cell's bytes, or the path it names."""
        cell = self.table[self.row][self.column]
        return cell["bytes"] if cell["bytes"] is not None else Path(cell["path"])

    def __str__(self) -> str:
        return f"{self.name}, row {self.row}, {self.column}"


def _json(content: bytes, *, name: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise ValueError(f"{name} is not JSON in UTF-8: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{name}: expected an object, got {type(value).__name__}")
    return value


def _sample(values: Mapping[str, Any], *, key: str, audio: Any, where: str) -> Sample:
    captions = values.get("captions") or {}
    if not isinstance(captions, Mapping):
        raise ValueError(f"{where}: expected captions by language, got {type(captions).__name__}")
    seconds = values.get("seconds")
    try:
        duration = None if seconds in (None, "") else float(seconds)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: expected seconds as a number, got {seconds!r}") from error
    if duration is not None and not 0 < duration < math.inf:
        raise ValueError(f"{where}: expected seconds as a number above zero, got {seconds!r}")
    if isinstance(values.get("label"), list):
        values = {**values, "label": ";".join(map(str, values["label"]))}
    return Sample(
        key=key,
        audio=audio,
        captions={language: _texts(texts) for language, texts in captions.items() if texts is not None},
        seconds=duration,
        **{
            name: str(values[name]) if values.get(name) not in (None, "") else None
            for name in ("label", "domain", "language", "transcript", "speaker", "source", "licence", "split")
        },
    )


def _texts(texts: Any) -> tuple[str, ...]:
    """One text or several, as several."""
    return tuple(str(text or "") for text in ([texts] if isinstance(texts, str) else texts))
