"""What there is to know of a corpus before its files are there, and how its choices and its folder are checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_origin, get_type_hints

from lapis.files import data_path
from lapis.values import check_choice

Domain = Literal["sound", "music", "speech", "all"]


@dataclass(frozen=True)
class About:
    """A published corpus. What could not be made sure of is left out; docs/datasets.md says what was looked up."""

    source: type
    """The class that reads it; its fields are the choices."""
    name: str
    homepage: str
    licence: str
    domain: Domain
    languages: tuple[str, ...]
    """Of the captions or the speech, as FLORES-200 codes; empty where there are labels only."""
    splits: Mapping[str, int | None]
    """The published number of clips of each split, before any have gone missing."""
    obtain: str
    """How to get it, and where to put it."""
    paper: str | None = None
    """`arXiv:...`, `doi:...` or an address."""
    hours: float | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)
    """Of the published files, as `md5:...` or `sha256:...`."""

    def root(self, source: Any) -> Path:
        """The folder of the corpus, once the choices of its source have been looked at.

        Raises:
            ValueError: a choice is none of those there are, or the folder is not there.
        """
        hints = get_type_hints(type(source))
        for choice in fields(source):
            if get_origin(hints[choice.name]) is Literal:
                value = getattr(source, choice.name)
                check_choice(value, hints[choice.name], name=f"{choice.name} of {self.name}")
        path = data_path(source.folder)
        if not path.is_dir():
            raise ValueError(f"{path}: expected the folder of {self.name}, there is none. {self.obtain}")
        return path
