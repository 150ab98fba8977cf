"""When a text is heard: vectors of the frames of a sound, in the space in which texts lie.

"dense" pools the tokens of each instant as if they were a clip: the tower hears the whole sound once, and no part of it
was trained to answer so. "windows" embeds one short piece of the sound after another, as any embedder can.
"""

from typing import Any, Literal, cast

import numpy as np
from jaxtyping import Float32, Float64
from torch import Tensor

from lapis.evaluation.embeddings import check_unit
from lapis.evaluation.metrics import cosine_similarity
from lapis.evaluation.sound_events import FrameScores
from lapis.model import Embedder, JointModel
from lapis.ragged import Ragged
from lapis.shapes import Vectors, Waveform

Hearing = Literal["dense", "windows"]
WINDOWS_AT_ONCE = 256


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


def check_hearing(embedder: Embedder, hearing: Hearing) -> None:
    """See that a model gives vectors of frames in a way.

    Raises:
        ValueError: it does not.
    """
    times = getattr(getattr(embedder, "audio_encoder", None), "token_seconds", None)
    if hearing == "dense" and (not isinstance(embedder, JointModel) or times is None):
        raise ValueError(
            f"dense vectors need a joint model of this package whose tower knows the times of its tokens, got "
            f"{type(embedder).__name__}: use windows"
        )


def dense_vectors(
    embedder: Embedder, waveform: Waveform
) -> tuple[Float32[np.ndarray, "frames width"], Float64[np.ndarray, "frames 2"]]:
    """A unit vector of each instant for which the tower has tokens, and when it begins and ends.

    Raises:
        ValueError: the embedder is no joint model of this package whose tower knows the times of its tokens.
    """
    check_hearing(embedder, "dense")
    model = cast(JointModel, embedder)
    times = cast(Any, model.audio_encoder).token_seconds
    longest = model.config.chunk_seconds
    # As the model itself cuts a sound that is longer than it takes at once.
    num_pieces = 1 if longest is None else -(-len(waveform) // round(longest * embedder.sample_rate))
    vectors, seconds, begin = [], [], 0
    for piece in np.array_split(waveform, num_pieces):
        of_tokens = np.asarray(times(len(piece)))
        instants, counts = np.unique(of_tokens, axis=0, return_counts=True)

        def project(tokens: Ragged, counts: np.ndarray = counts) -> Tensor:
            """All instants of one clip, side by side: what is asked of a clip is one row."""
            return model.project_audio(Ragged(tokens.rows, tuple(counts.tolist()))).reshape(1, -1)

        found = model.audio_features([piece], of=project, width=len(counts) * embedder.width)
        # A tower may complete its last column; what lies behind the end is no frame of this piece.
        within = instants[:, 0] < len(piece) / embedder.sample_rate
        vectors.append(found.reshape(len(counts), embedder.width)[within])
        placed = np.minimum(instants[within], len(piece) / embedder.sample_rate)
        seconds.append(placed + begin / embedder.sample_rate)
        begin += len(piece)
    return np.concatenate(vectors), np.concatenate(seconds)


def window_vectors(
    embedder: Embedder, waveform: Waveform, *, window_seconds: float, hop_seconds: float
) -> tuple[Float32[np.ndarray, "frames width"], Float64[np.ndarray, "frames 2"]]:
    """A unit vector of the sound around each frame, less of it at the edges, and when the frame begins and ends.

    Raises:
        ValueError: a duration is not above zero, or a window shorter than a hop.
    """
    if not 0 < hop_seconds <= window_seconds:
        raise ValueError(f"expected a hop above zero, no longer than a window: got {hop_seconds} and {window_seconds}")
    rate, end = embedder.sample_rate, len(waveform) / embedder.sample_rate
    begins = np.arange(max(1, int(np.ceil(end / hop_seconds - 1e-9)))) * hop_seconds
    seconds = np.stack([begins, np.minimum(begins + hop_seconds, end)], axis=1)
    middles = seconds.mean(axis=1)
    edges = np.stack([middles - window_seconds / 2, middles + window_seconds / 2], axis=1).clip(0, end)
    windows = [waveform[begin:finish] for begin, finish in np.round(edges * rate).astype(int)]
    vectors = [
        embedder.embed_audio(windows[begin : begin + WINDOWS_AT_ONCE])
        for begin in range(0, len(windows), WINDOWS_AT_ONCE)
    ]
    together = np.concatenate(vectors)
    check_unit(together, model=embedder, of=[f"the window around {middle:.2f} s" for middle in middles])
    return together, seconds


def levels(
    waveform: Waveform, *, sample_rate: int, seconds: Float64[np.ndarray, "frames 2"]
) -> Float64[np.ndarray, "frames"]:
    """How loud the sound of each frame is, in decibels below full scale, -100 at least."""
    edges = np.round(seconds * sample_rate).astype(int)
    power = [np.square(waveform[begin:end], dtype=np.float64).mean() if end > begin else 0.0 for begin, end in edges]
    return 10 * np.log10(np.maximum(power, 1e-10))


def smoothed(frames: FrameScores, *, smooth_seconds: float) -> FrameScores:
    """The running median over an odd number of frames, about so many seconds; at the edges the outer frame repeats."""
    if len(frames.seconds) < 2:
        return frames
    half = round(smooth_seconds / float(np.median(np.diff(frames.seconds[:, 0])))) // 2
    padded = np.pad(frames.scores, ((half, half), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0)
    return FrameScores(np.median(windows, axis=-1), frames.seconds)
