"""What the corpora share: tables with named columns, lists of lines, and sound files of which some are missing.

Every table is read whole or not at all: a row that has not what it should is an error that names the row. A clip that
is in a table and not on disk is another matter, since clips of the web do go missing: it is counted, and `settle` says
in one warning how many there are.
"""

import csv
import json
import os
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from lapis import audio
from lapis.data.sample import Location, Sample


class MissingClips(UserWarning):
    """Some clips of a corpus cannot be used; the message counts them and says why."""


def rows(
    path: Path,
    columns: Sequence[str],
    *,
    named: bool = True,
    delimiter: str = ",",
    quoted: bool = True,
    comment: str | None = None,
) -> Iterator[dict[str, str]]:
    """The rows of a table as mappings, one at a time.

    Args:
        path: of the table, in UTF-8.
        columns: those that are needed, or, where the table does not name its columns, all of them.
        named: whether the first row names the columns.
        delimiter: between two fields.
        quoted: whether a field may stand in double quotes; where it may not, a quote is a letter as any other.
        comment: how lines begin that are no rows.

    Raises:
        ValueError: there is no such file, it is no such table, it lacks a column, or a row has too many or too few.
    """
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    with _opened(path) as file:
        lines = (line for line in file if not (comment and line.startswith(comment)) and line.strip())
        reader = csv.reader(lines, delimiter=delimiter, quoting=quoting, skipinitialspace=True)
        try:
            header = next(reader, None) if named else list(columns)
            if header is None:
                raise ValueError(f"{path}: expected a table with the columns {list(columns)}, the file is empty")
            for column in columns:
                if column not in header:
                    raise ValueError(f"{path}: no column {column!r}; the columns are {header}")
            for number, row in enumerate(reader, start=1):
                if len(row) != len(header):
                    raise ValueError(f"{path}, row {number}: expected {len(header)} fields, got {len(row)}: {row}")
                yield dict(zip(header, row))
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not a table in UTF-8: {error}") from error


def lines(path: Path) -> Iterator[str]:
    """The lines of a text, without their ends and without the empty ones.

    Raises:
        ValueError: there is no such file, or it is not in UTF-8.
    """
    with _opened(path) as file:
        try:
            for line in file:
                if line.strip():
                    yield line.rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not text in UTF-8: {error}") from error


def pairs(path: Path) -> Iterator[tuple[str, str]]:
    """Of each line the first word, and the rest: how transcripts are written.

    Raises:
        ValueError: there is no such file, it is not in UTF-8, or a line is one word only.
    """
    for number, line in enumerate(lines(path), start=1):
        words = line.split(maxsplit=1)
        if len(words) != 2:
            raise ValueError(f"{path}, line {number}: expected a name and words, got {line!r}")
        yield words[0], words[1].strip()


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: there is no such file, or it is not JSON in UTF-8.
    """
    with _opened(path) as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is not JSON in UTF-8: {error}") from error


def number(text: Any, *, where: str) -> float:
    """A number of a table.

    Raises:
        ValueError: it is none.
    """
    try:
        return float(text)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: expected a number, got {text!r}") from error


def _opened(path: Path) -> IO[str]:
    if not path.is_file():
        raise ValueError(f"{path}: expected a file of the corpus, there is none")
    return path.open(encoding="utf-8-sig", newline="")


class Sounds:
    """The sound files below a folder, listed once, and a count of those that were asked for in vain.

    A file is known by its path within the folder, or, where `anywhere`, by its name alone; both without the suffix,
    since whoever downloads clips chooses the format. Names are compared in one Unicode form, because a table and a
    file system may differ in how they write an accented letter.
    """

    def __init__(self, folder: Path, *, anywhere: bool = False, within: str | None = None) -> None:
        """List them.

        Args:
            folder: where to look, at any depth; where it is not there, there is no file.
            anywhere: whether the name alone counts.
            within: only files with a folder of this name above them.
        """
        self.folder = folder
        self._paths: dict[str, str] = {}
        self._twice: dict[str, str] = {}
        self._missing: list[str] = []
        for path in _sound_files(folder):
            above, _, file = path.rpartition("/")
            if within is not None and within not in above.split("/"):
                continue
            name = _plain(_stem(file if anywhere else path))
            kept = self._paths.setdefault(name, path)
            if kept.rpartition("/")[0] != above:
                self._twice[name] = path

    def __iter__(self) -> Iterator[tuple[str, Location]]:
        """All of them, by name."""
        for name in self._paths:
            yield name, self._location(name)

    def find(self, *candidates: str) -> Location | None:
        """The file with the first of these names that is there; None, and one more missing, where none is.

        Raises:
            ValueError: two files in different folders have the name.
        """
        # As they stand first: most are plain ids, and a corpus has millions of clips.
        for written in (candidates, map(_stem, map(_plain, candidates))):
            for name in written:
                if name in self._paths:
                    return self._location(name)
        self._missing.append(candidates[0])
        return None

    def _location(self, name: str) -> Location:
        path = self.folder / self._paths[name]
        if name in self._twice:
            raise ValueError(f"{path} and {self.folder / self._twice[name]} have one name: expected each clip once")
        return Location(path)

    def settle(self, samples: list[Sample], *, table: Path) -> list[Sample]:
        """The samples, once a warning has said how many clips of the table have no file.

        Raises:
            ValueError: there is no sample at all.
        """
        missing, self._missing = self._missing, []
        if not samples and missing:
            raise ValueError(
                f"{table} has {len(missing):,} such clips, but there is a sound file for none of them below "
                f"{self.folder}; the first would be {missing[0]!r}"
            )
        if not samples:
            raise ValueError(f"{table}: expected clips, there are none")
        if missing:
            warn_missing(
                f"{len(missing):,} of {len(missing) + len(samples):,} clips of {table} have no sound file below "
                f"{self.folder} and are left out; the first is {missing[0]!r}",
                level=4,
            )
        return samples


def warn_missing(sentence: str, *, level: int = 3) -> None:
    """Tell of clips that are left out; the warning points at whoever asked for the samples, `level` calls above."""
    warnings.warn(sentence, MissingClips, stacklevel=level)


def _sound_files(folder: Path) -> Iterator[str]:
    """Paths of sound files within a folder, sorted; hidden ones are left out, links to folders are followed once."""
    seen = set()

    def fail(error: OSError) -> None:
        raise error

    for above, folders, files in os.walk(folder, onerror=fail, followlinks=True) if folder.is_dir() else ():
        real = os.path.realpath(above)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inner = Path(above).relative_to(folder).as_posix()
        for name in sorted(files):
            if not name.startswith(".") and _stem(name) != name:
                yield name if inner == "." else f"{inner}/{name}"


def _stem(name: str) -> str:
    """A name without the suffix of a sound file, if it has one."""
    if "." not in name:
        return name
    stem, _, suffix = name.rpartition(".")
    return stem if f".{suffix.lower()}" in audio.SUFFIXES else name


def _plain(name: str) -> str:
    return name.strip() if name.isascii() else unicodedata.normalize("NFC", name.strip())
