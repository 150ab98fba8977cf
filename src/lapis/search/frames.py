"""When a text is heard: vectors of the frames of a sound, in the space in which texts lie.

"dense" pools the tokens of each instant as if they were a clip: the tower hears the whole sound once, and no part of it
was trained to answer so. "windows" embeds one short piece of the sound after another, as any embedder can.
"""

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from lapis.model import Embedder, JointModel
from lapis.ragged import Ragged
from lapis.search.events import FrameScores
from lapis.shapes import Waveform, Waveforms

Hearing = Literal["dense", "windows"]
WINDOWS_AT_ONCE = 256


def check_hearing(embedder: Embedder, hearing: Hearing) -> None:
    """See that a model gives vectors of frames in a way.

    Raises:
        ValueError: it does not.
    """
    if hearing == "dense" and not hears_densely(embedder):
        raise ValueError(
            f"dense vectors need a joint model of this package whose tower knows the times of its tokens, got "
            f"{type(embedder).__name__}: use windows"
        )


def hears_densely(embedder: Embedder) -> bool:
    """Whether it is a joint model of this package whose tower knows the times of its tokens."""
    return isinstance(embedder, JointModel) and hasattr(embedder.audio_encoder, "token_seconds")


def dense_vectors(
    embedder: Embedder, waveform: Waveform
) -> tuple[Float32[np.ndarray, "frames width"], Float64[np.ndarray, "frames 2"]]:
    """A unit vector of each instant for which the tower has tokens, and when it begins and ends.

    Raises:
        ValueError: the embedder is no joint model of this package whose tower knows the times of its tokens.
    """
    check_hearing(embedder, "dense")
    longest = cast(JointModel, embedder).config.chunk_seconds
    # As the model itself cuts a sound that is longer than it takes at once.
    num_pieces = 1 if longest is None else -(-len(waveform) // round(longest * embedder.sample_rate))
    vectors, seconds, begin = [], [], 0
    for piece in np.array_split(waveform, num_pieces):
        found, instants = instant_vectors(embedder, [piece])
        vectors.append(found[0])
        seconds.append(instants + begin / embedder.sample_rate)
        begin += len(piece)
    return np.concatenate(vectors), np.concatenate(seconds)


def instant_vectors(
    embedder: Embedder, waveforms: Waveforms, *, around_seconds: Sequence[float] = (0.0,)
) -> tuple[Float32[np.ndarray, "clips frames width"], Float64[np.ndarray, "frames 2"]]:
    """The same of clips of one length, none longer than the model takes at once; their instants are the same.

    Args:
        embedder: the model.
        waveforms: the clips.
        around_seconds: of how long a time around the middle of an instant tokens are pooled, 0 for its own alone; of
            several times the mean vector, which has no unit length.

    Raises:
        ValueError: as `dense_vectors`; or the clips are not of one length.
    """
    check_hearing(embedder, "dense")
    model = cast(JointModel, embedder)
    if len({len(waveform) for waveform in waveforms}) != 1:
        raise ValueError(f"expected clips of one length, got {sorted({len(waveform) for waveform in waveforms})}")
    length = len(waveforms[0])
    of_tokens = cast(Any, model.audio_encoder).token_seconds(length)
    instants, first = np.unique(of_tokens, axis=0, return_index=True)
    # A tower may complete its last column; what lies behind the end is no frame of this clip.
    within = instants[:, 0] < length / model.sample_rate
    middles, edges = instants.mean(axis=1), np.append(first, len(of_tokens))
    begins, ends = (
        np.concatenate(
            [edges[np.searchsorted(middles, middles[within] + side * (around + 1e-6))] for around in around_seconds]
        )
        for side in (-0.5, 0.5)
    )
    rows = np.concatenate([np.arange(begin, end) for begin, end in zip(begins, ends)])
    counts = tuple((ends - begins).tolist())

    def project(tokens: Ragged) -> Tensor:
        """All instants of one clip, side by side: what is asked of a clip is one row."""
        clips = [of_clip[rows] for of_clip in tokens.split()]
        vectors = model.project_audio(Ragged(torch.cat(clips), counts * len(clips)))
        return vectors.reshape(len(clips), len(around_seconds), -1).mean(1)

    found = model.audio_features(waveforms, of=project, width=int(within.sum()) * model.width)
    vectors = found.reshape(len(waveforms), -1, model.width)
    return vectors, np.minimum(instants[within], length / model.sample_rate)


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
    return np.concatenate(vectors), seconds


def smoothed(frames: FrameScores, *, smooth_seconds: float) -> FrameScores:
    """The running median over an odd number of frames, about so many seconds; at the edges the outer frame repeats."""
    if len(frames.seconds) < 2:
        return frames
    half = round(smooth_seconds / float(np.median(np.diff(frames.seconds[:, 0])))) // 2
    padded = np.pad(frames.scores, ((half, half), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1, axis=0)
    return FrameScores(np.median(windows, axis=-1), frames.seconds)
