"""The scores of classes on the frames of a sound that is heard at once."""

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
    return FrameScores(cosine_similarity(vectors, candidates=class_vectors), seconds)
