"""What is known of published weights before any of them is here: where they lie, their checksums, who may use them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OfficialFile:
    """A published file, and the name it has beside the others of its model."""

    name: str
    address: str | None = None
    """Where to fetch it; None for a file of the Hugging Face repository that the model is named after."""
    sha256: str | None = None
    """None where nobody has told it; the file is taken as it comes then."""
    size_bytes: int | None = None


@dataclass(frozen=True)
class Official:
    """Published weights: the licence in words, the page that says so, the files, and what a user must know of them.

    Without `files`, the model is all that its Hugging Face repository holds.
    """

    licence: str
    homepage: str
    files: tuple[OfficialFile, ...] = ()
    warning: str | None = None
