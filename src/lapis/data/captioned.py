"""A source with further captions, from tables that `lapis data translate` and `lapis data rewrite` write.

A row of such a table is about a text, not about a clip: whichever clips have that caption (or those labels) get what
was made of it. So the table grows with distinct texts only, clips may share keys, and tars stay as they are.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

from lapis.data.ahead import Range
from lapis.data.captions import normalized
from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.data.usable import OnDemand
from lapis.data.words import parse_object
from lapis.files import data_path

TABLE_NAME = "captions.jsonl"
Made = Mapping[tuple[str | None, str], Sequence[tuple[str, tuple[str, ...]]]]
"""By language (None for labels) and text: languages and what was made of it in them."""


@dataclass(frozen=True)
class Row:
    """What was made of a text in `language` (None: of a clip's labels), in the language `to`."""

    text: str
    language: str | None
    to: str
    captions: tuple[str, ...]

    def line(self) -> str:
        """As JSON."""
        values = {"language": self.language, "text": self.text, "to": self.to, "captions": list(self.captions)}
        return json.dumps(values, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Captioned:
    """A source whose clips have the captions of tables beside their own.

    A translation is not added to a clip that has captions of its own in that language.

    Args:
        source: any.
        tables: files `captions.jsonl`, or their folders, in the data folder; a later one is about the captions that an
            earlier one has added, too.
    """

    source: SourceConfig
    tables: tuple[str, ...]

    def build(self) -> "list[Sample] | CaptionedSamples":
        """The samples; made on demand where the source makes them so. The tables are in memory.

        Raises:
            ValueError: a table is not there or damaged, or the source cannot be opened.
        """
        tables = self.read_tables()
        source = self.source.build()
        if isinstance(source, OnDemand):
            return CaptionedSamples(source, tables)
        return [with_captions(sample, tables) for sample in source]

    def read_tables(self) -> "list[Made]":
        """The tables themselves."""
        return [read_table(data_path(table)) for table in self.tables]


class CaptionedSamples(Sequence[Sample]):
    """The samples of a source that makes them on demand, with further captions."""

    def __init__(self, source: OnDemand, tables: Sequence[Made]) -> None:
        self._source, self._tables = source, tables
        self.may_fork = source.may_fork

    def __len__(self) -> int:
        return len(self._source)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        """A sample, or several."""
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        return with_captions(self._source[place], self._tables)

    def seconds(self, place: int) -> float | None:
        """How long a sample is."""
        return self._source.seconds(place)

    def ranges(self, place: int) -> tuple[Range, ...]:
        """What reading a sample will ask of a store."""
        return self._source.ranges(place)

    @property
    def total_seconds(self) -> float:
        """Of all samples."""
        return self._source.total_seconds


def with_captions(sample: Sample, tables: Sequence[Made]) -> Sample:
    """The sample with what the tables, one after another, have of its captions and labels."""
    captions = {language: tuple(texts) for language, texts in sample.captions.items()}
    for table in tables:
        found: dict[str, list[str]] = {}
        asked = [(language, normalized(text)) for language, texts in captions.items() for text in texts]
        asked += [(None, labels_text(sample))] if sample.labels else []
        for language, text in asked:
            for to, made in table.get((language, text), ()):
                if to == language or not any(captions.get(to, ())):
                    found.setdefault(to, []).extend(made)
        for to, made in found.items():
            captions[to] = tuple(dict.fromkeys((*filter(None, captions.get(to, ())), *made)))
    return replace(sample, captions=captions)


def labels_text(sample: Sample) -> str:
    """The labels of a clip as one text, by which a table knows them."""
    return normalized("; ".join(sample.labels))


def read_table(path: Path) -> Made:
    """A table, by text.

    Raises:
        ValueError: it is not there, or a line is no row.
    """
    path = path / TABLE_NAME if path.is_dir() else path
    if not path.is_file():
        raise ValueError(f"{path}: expected a table of captions, there is no such file")
    found: dict[tuple[str | None, str], list[tuple[str, tuple[str, ...]]]] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            where = f"{path}, line {number}"
            values = parse_object(line, name=where)
            text, language, to, captions = (values.get(name) for name in ("text", "language", "to", "captions"))
            if (
                not (isinstance(text, str) and isinstance(to, str) and isinstance(captions, list))
                or not isinstance(language, str | None)
                or not all(isinstance(caption, str) for caption in captions)
            ):
                raise ValueError(
                    f"{where}: expected text, language, to and a list of captions, got {str(values)[:200]}"
                )
            found.setdefault((language, text), []).append((to, tuple(captions)))
    return found
