"""The scores of classes on the frames of a sound that is heard at once."""

import numpy as np
from jaxtyping import Float64

from lapis.evaluation.embeddings import check_unit
from lapis.evaluation.metrics import cosine_similarity
from lapis.model import Embedder
from lapis.search.events import FrameScores
from lapis.search.frames import Hearing, dense_vectors, window_vectors
from lapis.shapes import Vectors, Waveform


def frame_scores(
    embedder: Embedder,
    waveform: Waveform,
    *,
    class_vectors: Vectors,
    hearing: Hearing = "dense",
    window_seconds: float = 1.0,
    hop_seconds: float = 0.2,
) -> FrameScores:
    """The cosine of each class with each frame of a sound.

    Args:
        embedder: the model; a joint model of this package, where `hearing` is dense.
        waveform: at its sample rate.
        class_vectors: of texts, unit length.
        hearing: how frames get their vectors.
        window_seconds: of sound around the middle of a frame, where they are windows.
        hop_seconds: from frame to frame, where they are windows.

    Raises:
        ValueError: the model gives no vectors of frames, or a vector is not finite.
    """
    if hearing == "dense":
        vectors, seconds = dense_vectors(embedder, waveform)
    else:
        vectors, seconds = window_vectors(embedder, waveform, window_seconds=window_seconds, hop_seconds=hop_seconds)
        check_unit(vectors, model=embedder, of=[f"the window around {middle:.2f} s" for middle in seconds.mean(axis=1)])
    return FrameScores(cosine_similarity(vectors, candidates=class_vectors), seconds)


def levels(
    waveform: Waveform, *, sample_rate: int, seconds: Float64[np.ndarray, "frames 2"]
) -> Float64[np.ndarray, "frames"]:
    """How loud the sound of each frame is, in decibels below full scale, -100 at least."""
    edges = np.round(seconds * sample_rate).astype(int)
    power = [np.square(waveform[begin:end], dtype=np.float64).mean() if end > begin else 0.0 for begin, end in edges]
    return 10 * np.log10(np.maximum(power, 1e-10))
