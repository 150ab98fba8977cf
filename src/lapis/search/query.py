"""What to search for: words and sounds, more like these and less like those, as one vector."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lapis import audio
from lapis.model import Embedder

UNLIKE_WEIGHT = 0.5

Vector = Float[np.ndarray, "_width"]


@dataclass(frozen=True)
class Query:
    """Words and sounds that are wanted, and those that are not."""

    texts: tuple[str, ...] = ()
    sounds: tuple[audio.File, ...] = ()
    unlike_texts: tuple[str, ...] = ()
    unlike_sounds: tuple[audio.File, ...] = ()

    def __post_init__(self) -> None:
        if not (self.texts or self.sounds):
            raise ValueError("expected words to search for, or a sound: what is unlike something is nearly everything")
        if not all(text.strip() for text in (*self.texts, *self.unlike_texts)):
            raise ValueError("expected words to search for, got an empty text")

    @property
    def is_one_text(self) -> bool:
        """Whether it is a text and nothing else, of which a calibration can tell the probability."""
        return len(self.texts) == 1 and not (self.sounds or self.unlike_texts or self.unlike_sounds)

    def vector(self, embedder: Embedder, *, window_seconds: float) -> Vector:
        """wanted - unwanted / 2, where each of the two is a unit vector: the ranking is that of the cosine to what is
        wanted less half the cosine to what is not.

        Each side is the mean of the mean of its texts and the mean of its sounds, all of them at length 1: texts and
        sounds lie in different parts of the space, and three texts must not drown one sound. A sound of several
        windows is the mean of its windows' vectors.

        Raises:
            ValueError: a sound cannot be read.
        """
        wanted = _side(self.texts, self.sounds, embedder=embedder, window_seconds=window_seconds)
        if not (self.unlike_texts or self.unlike_sounds):
            return wanted
        unwanted = _side(self.unlike_texts, self.unlike_sounds, embedder=embedder, window_seconds=window_seconds)
        return wanted - UNLIKE_WEIGHT * unwanted


def mean_of_windows(source: audio.File, *, embedder: Embedder, window_seconds: float) -> Vector:
    """Of a sound of any length, in the direction of the mean of its windows' vectors.

    Raises:
        ValueError: it cannot be read.
    """
    blocks = audio.blocks(source, sample_rate=embedder.sample_rate, block_seconds=window_seconds)
    total = np.zeros(embedder.width, dtype=np.float64)
    for block in blocks:
        total += embedder.embed_audio([block.waveform])[0]
    return total


def _side(texts: Sequence[str], sounds: Sequence[audio.File], *, embedder: Embedder, window_seconds: float) -> Vector:
    kinds: list[np.ndarray] = []
    if texts:
        kinds.append(np.stack([_unit(vector) for vector in embedder.embed_text(list(texts)).astype(np.float64)]))
    if sounds:
        heard = (mean_of_windows(sound, embedder=embedder, window_seconds=window_seconds) for sound in sounds)
        kinds.append(np.stack([_unit(vector) for vector in heard]))
    return _unit(np.stack([_unit(kind.mean(axis=0)) for kind in kinds]).mean(axis=0))


def _unit(vector: Vector) -> Vector:
    length = float(np.linalg.norm(vector))
    return vector / length if length else vector  # of two that cancel out nothing is left; the search says so
