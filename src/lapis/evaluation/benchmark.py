"""A benchmark: what is measured on which clips, under a name with a version, and a digest by which a test sees that its
definition has not been edited.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from lapis.data.sources import SourceConfig
from lapis.evaluation.subject import Made, Measuring


@dataclass(frozen=True)
class Beside:
    """Published figures of the same clips and the same task; how each was measured stands with its source."""

    benchmark: str
    """As `lapis.evaluation.published` knows it."""
    split: str = ""
    """Of a figure whose source tells one; those of other splits stand elsewhere."""


@dataclass(frozen=True)
class Benchmark:
    """A line of a suite; never edited, only superseded by one with a higher number at the end of its name."""

    name: str
    source: SourceConfig
    protocol: Measuring | Made
    languages: tuple[str, ...] = ()
    """Of the texts, as FLORES-200 codes; empty where there are none."""
    obtain: str = ""
    """How to get the clips, where the source does not say it itself."""
    published: Beside | None = field(default=None, repr=False)
    """What others have measured of it; None where nothing is known. No part of the digest."""

    @property
    def digest(self) -> str:
        """16 hexadecimal digits over everything that decides what is measured."""
        told = {"name": self.name, "source": _plain(self.source), "protocol": _plain(self.protocol)}
        text = json.dumps(told, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(part: Any) -> Any:
    """A definition as plain values. A field that is off (empty, None, False) is left out, so that a protocol may get a
    new one that is off without every digest changing; so is one that is not printed, as it decides no figure.
    """
    if is_dataclass(part) and not isinstance(part, type):
        values = {of.name: _plain(getattr(part, of.name)) for of in fields(part) if of.repr and getattr(part, of.name)}
        beside = {"definition": _plain(definition())} if (definition := getattr(part, "definition", None)) else {}
        return {"class": type(part).__name__, **values, **beside}
    if isinstance(part, Mapping):
        return {str(name): _plain(value) for name, value in part.items()}
    if isinstance(part, tuple | list):
        return [_plain(value) for value in part]
    if part is None or isinstance(part, str | int | float | bool):
        return part
    raise ValueError(f"{part!r} cannot be a part of a benchmark: its definition cannot be told from another")
