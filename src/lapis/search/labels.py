"""What people said of sounds: tags and free words, from a table beside them, or from the files' own headers."""

import csv
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import av
import soundfile
from av.error import FFmpegError

from lapis import audio
from lapis.search.columns import Labels

DELIMITERS = {".csv": ",", ".tsv": "\t"}


def read_labels(table: Path) -> dict[Path, Labels]:
    """The labels of files, by full path, from a CSV, TSV, JSONL or Parquet table.

    Columns `path` (relative to the table's folder, or whole), `tags` and `text`, of the last two one at least. Tags are
    a list, or a text with `;` or `,` between them. Of a path told twice, the last row counts.

    Raises:
        ValueError: the table is not there, is no such table, or lacks a column.
    """
    if not table.is_file():
        raise ValueError(f"{table}: expected a table of labels, there is none")
    found: dict[Path, Labels] = {}
    folder = table.resolve().parent
    for number, row in enumerate(_rows(table), start=1):
        path = row.get("path")
        if not isinstance(path, str) or not path:
            raise ValueError(f"{table}, row {number}: expected a path in column `path`, got {path!r}")
        if not {"tags", "text"} & row.keys():
            raise ValueError(f"{table}, row {number}: expected a column `tags` or `text`, got {', '.join(row)}")
        # As the files of a folder are told: its own links followed, those of the files not.
        whole = Path(os.path.normpath(folder / path))
        found[whole] = Labels(_tags(row.get("tags"), table, number), " ".join(str(row.get("text") or "").split()))
    return found


def own_labels(path: Path) -> Labels:
    """From the file's header: genres, and title and comment.

    As libsndfile reads it (wav, flac, aiff, ogg, mp3), or FFmpeg where that cannot (m4a, mp4, webm, wma).
    """
    try:
        opened: Any = os.fsencode(path)
        with soundfile.SoundFile(opened) as file:
            said = file.copy_metadata()
    except UnicodeDecodeError:
        return Labels()
    except (soundfile.SoundFileError, TypeError):  # TypeError: a `.raw` wants to be told more
        said = _of_container(path)
    words = [said.get(name, "").strip() for name in ("title", "comment")]
    return Labels(_split(said.get("genre", "")), " ".join(filter(None, words)))


def _of_container(path: Path) -> dict[str, str]:
    """What the header of a file says that FFmpeg opens; nothing where it does not."""
    try:
        with (
            path.open("rb") as content,
            av.open(content, metadata_errors="replace", options={"format_whitelist": audio.CONTAINERS}) as container,
        ):
            return {name.lower(): value for name, value in container.metadata.items()}
    except (FFmpegError, OSError, ValueError):
        return {}


def _rows(table: Path) -> Iterator[Mapping[str, Any]]:
    suffix = table.suffix.lower()
    if suffix == ".parquet":
        from pyarrow import ArrowException, parquet

        try:
            with parquet.ParquetFile(table) as file:
                wanted = [name for name in ("path", "tags", "text") if name in file.schema_arrow.names]
                for batch in file.iter_batches(columns=wanted):
                    yield from batch.to_pylist()
        except (ArrowException, OSError) as error:
            raise ValueError(f"{table}: expected a Parquet table: {error}") from error
        return
    if suffix not in (*DELIMITERS, ".jsonl"):
        raise ValueError(f"{table}: expected a table that ends in .csv, .tsv, .jsonl or .parquet")
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            if suffix == ".jsonl":
                yield from (_object(line) for line in file if line.strip())
            else:
                yield from csv.DictReader(file, delimiter=DELIMITERS[suffix])
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error, TypeError) as error:
        raise ValueError(f"{table}: expected a table in UTF-8: {error}") from error


def _object(line: str) -> Mapping[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise TypeError(f"expected an object a line, got {line.strip()[:80]}")
    return row


def _tags(value: object, table: Path, number: int) -> tuple[str, ...]:
    if value is None or isinstance(value, str):
        return _split(value or "")
    if isinstance(value, list) and all(isinstance(tag, str) for tag in value):
        return _unique(value)
    raise ValueError(f"{table}, row {number}: expected tags as a text or a list of texts, got {value!r}")


def _split(text: str) -> tuple[str, ...]:
    return _unique(re.split(r"[;,]", text))


def _unique(tags: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tag.strip() for tag in tags if tag.strip()))
