"""The scores of texts over a sound of any length, on frames whose times depend on nothing but the sound.

A tower hears overlapping stretches, and in each its instants lie on a grid of their own. What a frame gets is the mean
over the stretches that hear it, straight between the middles of their instants, and the less the nearer it lies to the
edge of a stretch, where the tower does not hear what comes before or after. So it matters little where they begin.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from jaxtyping import Float, Float64

from lapis import audio
from lapis.model import BATCH_SECONDS, Embedder, JointModel
from lapis.search.events import FrameScores
from lapis.search.frames import WINDOWS_AT_ONCE, Hearing, check_hearing, hears_densely, instant_vectors
from lapis.search.stretches import Stretch, stretches
from lapis.shapes import Vectors
from lapis.values import check_choice

SCORE_DECIMALS = 6
"""What float32 vectors carry; matrix products give equal frames results that differ beyond."""
GOLDEN = 0.618
EDGE_WEIGHT = 1e-3
"""Of an instant at the edge of a stretch, beside 1 in its middle."""


@dataclass(frozen=True)
class Listening:
    """How a model hears a long sound.

    Raises:
        ValueError: a number is out of its range.
    """

    hearing: Hearing | None = None
    """ "dense" where the model can, unless told."""
    window_seconds: float | None = None
    """Of sound that the tower hears at once; 10 where it is heard densely, 1 in windows, unless told."""
    overlap: int | None = None
    """How many windows hear each instant; 4 where it is heard densely, 5 in windows, unless told."""
    around_seconds: tuple[float, ...] = (0.0, 1.0)
    """Of the time around an instant that is heard densely, whose tokens are pooled; its own alone with 0. One token
    knows when, and many know what: the score is the mean of the cosines."""
    step_seconds: float = 0.1
    """From frame to frame of the answer."""
    shift_seconds: float = 0.0
    """By which the first window begins before the sound: to see whether it matters."""

    def __post_init__(self) -> None:
        if self.hearing is not None:
            check_choice(self.hearing, Hearing, name="hearing")
        if self.window_seconds is not None and not self.window_seconds > 0:
            raise ValueError(f"a window must be longer than 0 s, got {self.window_seconds}")
        if self.overlap is not None and self.overlap < 1:
            raise ValueError(f"each instant must be heard once or more, got an overlap of {self.overlap}")
        if not self.step_seconds > 0:
            raise ValueError(f"frames must be longer than 0 s, got {self.step_seconds}")


def grid_scores(
    source: audio.Source, *, texts: Vectors, embedder: Embedder, listening: Listening | None = None
) -> FrameScores:
    """The cosine of each text with each frame, a step long, of a sound that is read once, piece by piece.

    In memory are the windows in hand, and a number for each frame and text.

    Args:
        source: path, content, or array at the embedder's rate.
        texts: unit vectors.
        embedder: the model.
        listening: how it hears.

    Raises:
        ValueError: the sound cannot be read, the model cannot hear so, or a vector is not finite.
    """
    listening = listening or Listening()
    hearing = listening.hearing or ("dense" if hears_densely(embedder) else "windows")
    check_hearing(embedder, hearing)
    heard = _dense if hearing == "dense" else _windows
    return heard(source, texts=texts, embedder=embedder, listening=listening)


def _dense(source: audio.Source, *, texts: Vectors, embedder: Embedder, listening: Listening) -> FrameScores:
    assert isinstance(embedder, JointModel)
    rate = embedder.sample_rate
    overlap = listening.overlap or 4
    longest = min(listening.window_seconds or 10.0, embedder.config.chunk_seconds or np.inf)
    hop = _hop_samples(embedder, longest_seconds=longest, overlap=overlap)
    length = hop * overlap
    begin = -(round(listening.shift_seconds * rate) % hop)
    found = stretches(source, sample_rate=rate, length=length, hop=hop, begin=begin)
    grid, end = _Grid(len(texts), listening.step_seconds), 0.0
    at_once = max(1, int(BATCH_SECONDS * rate) // length)
    for group in _of_one_length(found, most=at_once):
        vectors, instants = instant_vectors(
            embedder, [stretch.waveform for stretch in group], around_seconds=listening.around_seconds
        )
        middles = instants.mean(axis=1)
        for stretch, own in zip(group, vectors):
            end = (stretch.begin_sample + len(stretch.waveform)) / rate
            grid.add(
                _cosines(own, texts),
                middles=middles + stretch.begin_sample / rate,
                window=(stretch.planned_sample / rate, length / rate),
                heard=(stretch.begin_sample / rate, end),
                last=stretch.last,
            )
    return grid.scores(end)


def _hop_samples(model: JointModel, *, longest_seconds: float, overlap: int) -> int:
    """About a part of the longest window, such that the instants of windows that hear one time lie between each other.

    The hop is whole instants and a golden part of one, so that neighbours differ most, and no two alike. Where windows
    begin between instants then matters less: some window has an instant there either way.
    """
    times: Any = model.audio_encoder
    begins = np.unique(times.token_seconds(round(longest_seconds * model.sample_rate))[:, 0])
    hop = longest_seconds / overlap
    if len(begins) > 1 and overlap > 1:
        instant = float(np.median(np.diff(begins)))
        hop = max(np.floor(hop / instant - GOLDEN), 0.0) * instant + GOLDEN * instant
    return max(1, round(hop * model.sample_rate))


def _windows(source: audio.Source, *, texts: Vectors, embedder: Embedder, listening: Listening) -> FrameScores:
    rate = embedder.sample_rate
    hop = max(1, round((listening.window_seconds or 1.0) * rate / (listening.overlap or 5)))
    length = hop * (listening.overlap or 5)
    # The first window is the half that lies in the sound of one around its beginning.
    begin = -(length // 2) - round(listening.shift_seconds * rate) % hop
    found = stretches(source, sample_rate=rate, length=length, hop=hop, begin=max(begin, 1 - length))
    scores, middles, end = [], [], 0.0
    while group := list(islice(found, WINDOWS_AT_ONCE)):
        scores.append(_cosines(embedder.embed_audio([stretch.waveform for stretch in group]), texts))
        middles += [(stretch.planned_sample + length / 2) / rate for stretch in group]
        end = (group[-1].begin_sample + len(group[-1].waveform)) / rate
    seconds = _frame_seconds(end, listening.step_seconds)
    columns = np.concatenate(scores).T
    return FrameScores(np.stack([np.interp(seconds.mean(axis=1), middles, of) for of in columns], axis=1), seconds)


def _cosines(vectors: Vectors, texts: Vectors) -> Float64[np.ndarray, "frames texts"]:
    if not np.isfinite(vectors).all():
        raise ValueError("the model gave a vector that is not finite")
    return np.round(vectors.astype(np.float64) @ texts.astype(np.float64).T, SCORE_DECIMALS)


def _of_one_length(found: Iterator[Stretch], *, most: int) -> Iterator[list[Stretch]]:
    group: list[Stretch] = []
    for stretch in found:
        if group and (len(group) == most or len(group[0].waveform) != len(stretch.waveform)):
            yield group
            group = []
        group.append(stretch)
    yield group


def _frame_seconds(end: float, step_seconds: float) -> Float64[np.ndarray, "frames 2"]:
    edges = np.round(np.arange(max(1, int(np.ceil(end / step_seconds - 1e-9))) + 1) * step_seconds, SCORE_DECIMALS)
    edges[-1] = end
    return np.stack([edges[:-1], edges[1:]], axis=1)


class _Grid:
    """The weighted sums of all frames so far."""

    def __init__(self, num_texts: int, step_seconds: float) -> None:
        self.step_seconds = step_seconds
        self.sums = np.zeros((1024, num_texts))
        self.weights = np.zeros(1024)

    def add(
        self,
        scores: Float[np.ndarray, "instants texts"],
        *,
        middles: Float[np.ndarray, "instants"],
        window: tuple[float, float],
        heard: tuple[float, float],
        last: bool,
    ) -> None:
        """What one stretch heard: instants with their middles, the beginning and length planned, and what was there."""
        step = self.step_seconds
        first = 0 if heard[0] == 0 else int(np.ceil(heard[0] / step - 0.5))
        # A frame belongs to the stretches that hear its middle; the last frame of a sound may be cut short.
        end = max(first, int(np.ceil(heard[1] / step - (1e-9 if last else 0.5))))
        while end > len(self.weights):
            self.sums = np.concatenate([self.sums, np.zeros_like(self.sums)])
            self.weights = np.concatenate([self.weights, np.zeros_like(self.weights)])
        times = (np.arange(first, end) + 0.5) * step
        inside = np.clip((times - window[0]) / window[1], 0, 1)
        weights = np.maximum(np.sin(np.pi * inside), EDGE_WEIGHT)
        for column, of in zip(self.sums.T, scores.T):
            column[first:end] += weights * np.interp(times, middles, of)
        self.weights[first:end] += weights

    def scores(self, end_seconds: float) -> FrameScores:
        """The means, rounded so that the order of sums does not show."""
        seconds = _frame_seconds(end_seconds, self.step_seconds)
        number = len(seconds)
        return FrameScores(np.round(self.sums[:number] / self.weights[:number, None], SCORE_DECIMALS), seconds)
