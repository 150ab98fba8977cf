"""A benchmark: what is measured on which clips, under a name with a version, and a digest by which a test sees that its
definition has not been edited.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol, runtime_checkable

from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.evaluation.few_shot import FewShot
from lapis.evaluation.keywords import Keywords
from lapis.evaluation.linear import LinearProbe
from lapis.evaluation.neighbours import Neighbours
from lapis.evaluation.retrieval import Retrieval
from lapis.evaluation.zeroshot import ZeroShot

Comparing = Retrieval | ZeroShot | Keywords
"""Protocols that compare a model's vectors of sounds and texts."""

Probing = LinearProbe | Neighbours | FewShot
"""Protocols that teach a classifier on features, and need no texts."""


@runtime_checkable
class Made(Protocol):
    """A protocol that depends on the clips: their labels are the classes, or their captions the prompts."""

    def __call__(self, samples: Sequence[Sample]) -> Comparing:
        """The protocol for clips."""
        ...


@dataclass(frozen=True)
class Benchmark:
    """A line of a suite; never edited, only superseded by one with a higher number at the end of its name."""

    name: str
    source: SourceConfig
    protocol: Comparing | Probing | Made
    languages: tuple[str, ...] = ()
    """Of the texts, as FLORES-200 codes; empty where there are none."""
    obtain: str = ""
    """How to get the clips, where the source does not say it itself."""

    @property
    def digest(self) -> str:
        """16 hexadecimal digits over everything that decides what is measured."""
        told = {"name": self.name, "source": _plain(self.source), "protocol": _plain(self.protocol)}
        text = json.dumps(told, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(part: Any) -> Any:
    """A definition as plain values. A field that is off (empty, None, False) is left out, so that a protocol may get a
    new one that is off without every digest changing.
    """
    if is_dataclass(part) and not isinstance(part, type):
        values = {of.name: _plain(getattr(part, of.name)) for of in fields(part) if getattr(part, of.name)}
        beside = {"definition": _plain(definition())} if (definition := getattr(part, "definition", None)) else {}
        return {"class": type(part).__name__, **values, **beside}
    if isinstance(part, Mapping):
        return {str(name): _plain(value) for name, value in part.items()}
    if isinstance(part, tuple | list):
        return [_plain(value) for value in part]
    if part is None or isinstance(part, str | int | float | bool):
        return part
    raise ValueError(f"{part!r} cannot be a part of a benchmark: its definition cannot be told from another")
