"""What a search finds, and what an index says of a file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import numpy as np

from lapis.calibration import Calibrated
from lapis.model import Embedder
from lapis.shapes import Vectors


@dataclass(frozen=True)
class Hit:
    """A stretch of a file and its cosine to the query."""

    path: Path
    start_seconds: float
    end_seconds: float
    score: float
    probability: float | None = None
    """That the words are heard there, where the model has a calibration; None too of a search by a sound."""
    heard: bool | None = None
    """Whether the words count as heard there, by the decision of the calibration."""


def nothing_matches(hits: Sequence[Hit]) -> bool:
    """Whether the model has a calibration, and the words count as heard in none of the hits."""
    return bool(hits) and all(hit.heard is False for hit in hits)


@dataclass(frozen=True)
class IndexedFile:
    """What an index says of a file."""

    path: Path
    duration_seconds: float
    """The end of its last window: a rest under 0.1 s is not counted."""
    size: int
    """In bytes; -1, with no date and an empty hash, where nobody knows them: of files that were imported."""
    modified: datetime | None
    audio_hash: str
    tags: tuple[str, ...]
    text: str


def with_probabilities(hits: list[Hit], *, text: Vectors, embedder: Embedder, identity: str) -> list[Hit]:
    """The hits of one text with what the model's calibration says of them; as they are where it has none.

    Raises:
        ValueError: the calibration is of other weights than those of this identity.
    """
    of = embedder.calibration if isinstance(embedder, Calibrated) else None
    if of is None:
        return hits
    if of.identity != identity:
        raise ValueError(
            f"the model's calibration was fitted to other weights ({of.identity}) than these "
            f"({identity}): run lapis calibrate again, or set `calibration` to None"
        )
    scores = of.scores(np.array([hit.score for hit in hits], np.float64), background=of.background(text))
    told = zip(hits, of.probability(scores).tolist(), of.heard(scores).tolist())
    return [replace(hit, probability=probability, heard=heard) for hit, probability, heard in told]
