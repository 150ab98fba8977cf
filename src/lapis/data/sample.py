"""One sample: where its sound is, what is said of it, and where it comes from. Cheap: no sound is read here."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable


@runtime_checkable
class Openable(Protocol):
    """Where a sound is. Printing it names the place for a person."""

    def open(self) -> Path | bytes:
        """What `lapis.audio` reads: a path, or the bytes of a file."""
        ...


@dataclass(frozen=True)
class Location:
    """Where the bytes of a sound lie: a whole file, or `size` bytes from `offset` within one (a member of a tar)."""

    path: Path
    offset: int = 0
    size: int | None = None
    name: str | None = None
    """The member's name, where the file is an archive."""

    def open(self) -> Path | bytes:
        """The path itself, or the member's bytes.

        Raises:
            ValueError: the file ends before the member does.
        """
        if self.size is None:
            return self.path
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = os.pread(descriptor, self.size, self.offset)
        finally:
            os.close(descriptor)
        if len(content) != self.size:
            raise ValueError(f"{self}: expected {self.size} bytes at {self.offset}, only {len(content)} are there")
        return content

    def __str__(self) -> str:
        return f"{self.path}:{self.name}" if self.name else str(self.path)


@dataclass(frozen=True)
class Sample:
    """A clip and its words. Languages are FLORES-200 codes (`eng_Latn`); `captions` maps a language to its texts."""

    key: str
    audio: Openable
    captions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seconds: float | None = None
    label: str | None = None
    """Its class, or several with semicolons between them."""
    domain: str | None = None
    """One of sound, music, speech."""
    language: str | None = None
    """Of the speech."""
    transcript: str | None = None
    """The words spoken, exactly."""
    speaker: str | None = None
    source: str | None = None
    source_id: str | None = None
    """What the source calls the recording."""
    licence: str | None = None
    split: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """Its classes, each once."""
        names = (name.strip() for name in (self.label or "").split(";"))
        return tuple(dict.fromkeys(name for name in names if name))
