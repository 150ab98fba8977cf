"""How well names fit sounds: each class a vector, a sound of any length the mean of its windows, or window by window.

Without a calibration a name has a cosine alone, and one is always the nearest. With one it has a probability too, names
stand in the order of that, and it may be that none of them is heard.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from lapis import audio
from lapis.calibration import Calibration
from lapis.model import Embedder
from lapis.search.clips import Clip
from lapis.shapes import Vectors, Waveform

WINDOW_SECONDS = 10.0
BATCH_SECONDS = 60.0
MOST_WAITING = 256
"""Windows, and sounds that cannot be read: many of them last no time at all."""


@dataclass(frozen=True)
class Named:
    """A name and how well it fits a sound."""

    label: str
    score: float
    """Cosine."""
    probability: float | None = None
    """That it is heard, where the model has a calibration; so are the next two."""
    percentile: float | None = None
    heard: bool | None = None


@dataclass(frozen=True)
class Classified:
    """A sound, or a window of one, and the names that fit it best; or the reason why it has none."""

    path: str
    begin_seconds: float | None
    end_seconds: float | None
    named: tuple[Named, ...] = ()
    nothing_matches: bool | None = None
    """Whether none of all names is heard; None where the model has no calibration."""
    error: str | None = None


@dataclass(frozen=True, eq=False)
class Classes:
    """Names with unit vectors, and what their scores mean.

    Raises:
        ValueError: there is no name, they are not as many as the vectors, or a vector is not finite.
    """

    labels: Sequence[str]
    vectors: Vectors
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.vectors) or not len(self.labels):
            raise ValueError(f"expected a vector for each label, got {len(self.labels)} and {len(self.vectors)}")
        if not (finite := np.isfinite(self.vectors).all(axis=1)).all():
            raise ValueError(f"the vector of label {self.labels[int(np.argmin(finite))]!r} is not finite")

    def named(self, sound: Float[np.ndarray, "width"]) -> list[Named]:
        """All names for a unit vector of a sound, the best first: by what the calibration makes of it, else by cosine.

        Raises:
            ValueError: the vector is not finite.
        """
        if not np.isfinite(sound).all():
            raise ValueError("the model gave a vector that is not finite")
        labels = list(self.labels)
        scores = self.vectors.astype(np.float64) @ sound.astype(np.float64)
        if self.calibration is None:
            order: list[int] = np.argsort(-scores, kind="stable").tolist()
            return [Named(labels[number], float(scores[number])) for number in order]
        meant = self.calibration.scores(scores, background=self.calibration.background(self.vectors))
        probability, percentile = self.calibration.probability(meant), self.calibration.percentile(meant)
        heard = self.calibration.heard(meant)
        order = np.argsort(-meant, kind="stable").tolist()
        return [
            Named(
                labels[number],
                float(scores[number]),
                float(probability[number]),
                float(percentile[number]),
                bool(heard[number]),
            )
            for number in order
        ]


def ensembled(vectors: Vectors, *, counts: Sequence[int]) -> Vectors:
    """Of the vectors of several sentences a class, a class's after another's, the means brought back to unit length."""
    owner = np.repeat(np.arange(len(counts)), counts)
    sums = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(sums, owner, vectors)
    means = sums / np.bincount(owner)[:, None]
    # A mean of nothing in particular becomes NaN, which is refused when it is compared.
    with np.errstate(invalid="ignore"):
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


def classify_clips(
    clips: Iterable[Clip],
    *,
    classes: Classes,
    embedder: Embedder,
    every_seconds: float | None = None,
    top: int | None = None,
    batch_seconds: float = BATCH_SECONDS,
) -> Iterator[Classified]:
    """Classify sounds of any length in their order, as they are ready; memory holds about `batch_seconds` of them.

    Args:
        clips: to hear (`search/clips.py`).
        classes: with vectors of this embedder.
        embedder: the model.
        every_seconds: a row for each so many seconds of a sound; one for the whole unless told, of the mean vector of
            its windows of 10 s, each counting as much as it lasts.
        top: how many names a row has; all unless told.
        batch_seconds: of sound the model gets at once.

    Raises:
        ValueError: a number is not above zero, or a source is damaged (`find_clips`). A sound that cannot be read or
            that the model refuses is no error here: its row says so, behind the windows that could be.
    """
    if not (every_seconds is None or every_seconds > 0) or not batch_seconds > 0 or (top is not None and top < 1):
        raise ValueError(f"expected numbers above zero, got {every_seconds=}, {top=}, {batch_seconds=}")
    work = _Work(classes, embedder, every_seconds, top)
    for clip in clips:
        one = _Heard(clip)
        work.order.append(one)
        for block in _blocks(clip, sample_rate=embedder.sample_rate, seconds=every_seconds or WINDOW_SECONDS):
            if work.add(one, block) >= batch_seconds or len(work.waiting) >= MOST_WAITING:
                yield from work.flush()
                if one.error:
                    break
        one.whole = True
    yield from work.flush()


@dataclass(eq=False)
class _Heard:
    """A sound on its way."""

    clip: Clip
    total: Any = 0.0
    """Of its windows' vectors, each times its seconds."""
    seconds: float = 0.0
    rows: list[Classified] = field(default_factory=list)
    error: str | None = None
    whole: bool = False


@dataclass(eq=False)
class _Work:
    """What waits for the model, and what waits for its turn to be told."""

    classes: Classes
    embedder: Embedder
    every_seconds: float | None
    top: int | None
    waiting: list[tuple[_Heard, audio.Block | str]] = field(default_factory=list)
    """Windows, or why there are no more of a sound."""
    waiting_seconds: float = 0.0
    order: list[_Heard] = field(default_factory=list)

    def add(self, one: _Heard, block: audio.Block | str) -> float:
        """Let a window wait; how many seconds wait now."""
        self.waiting.append((one, block))
        self.waiting_seconds += 0.0 if isinstance(block, str) else len(block.waveform) / self.embedder.sample_rate
        return self.waiting_seconds

    def flush(self) -> Iterator[Classified]:
        """Embed all that waits, and tell of all that is known."""
        vectors = iter(self._vectors([block.waveform for _, block in self.waiting if not isinstance(block, str)]))
        for one, block in self.waiting:
            vector = block if isinstance(block, str) else next(vectors)
            if one.error:
                continue
            if isinstance(block, str) or isinstance(vector, str):
                one.error = str(vector)
            elif self.every_seconds is not None:
                one.rows.append(self._row(one, block.start_seconds, block.end_seconds, vector))
            else:
                one.total = one.total + vector.astype(np.float64) * (block.end_seconds - block.start_seconds)
                one.seconds = block.end_seconds
        self.waiting.clear()
        self.waiting_seconds = 0.0
        while self.order:
            one = self.order[0]
            yield from one.rows
            one.rows.clear()
            if not (one.whole or one.error):
                return
            self.order.pop(0)
            if one.error:
                yield Classified(one.clip.path, None, None, error=one.error)
            elif self.every_seconds is None:
                # Windows of opposite vectors have no direction together.
                yield self._row(one, 0.0, one.seconds, one.total / max(float(np.linalg.norm(one.total)), 1e-12))

    def _row(
        self, one: _Heard, begin_seconds: float, end_seconds: float, vector: Float[np.ndarray, "width"]
    ) -> Classified:
        named = self.classes.named(vector)
        nothing = None if self.classes.calibration is None else not any(of.heard for of in named)
        return Classified(one.clip.path, begin_seconds, end_seconds, tuple(named[: self.top]), nothing)

    def _vectors(self, waveforms: Sequence[Waveform]) -> list[np.ndarray | str]:
        """Of each its vector, or why the model refuses it; one that is refused costs its neighbours nothing."""
        if not waveforms:
            return []
        try:
            vectors = self.embedder.embed_audio(list(waveforms))
        except ValueError as error:
            if len(waveforms) == 1:
                return [f"the model refuses it: {error}"]
            return [found for waveform in waveforms for found in self._vectors([waveform])]
        wrong = "the model gave a vector that is not finite"
        return [vector if np.isfinite(vector).all() else wrong for vector in vectors]


def _blocks(clip: Clip, *, sample_rate: int, seconds: float) -> "Iterator[audio.Block | str]":
    """The windows of a sound; last the reason, if it cannot be read to its end."""
    if clip.error is not None:
        yield clip.error
        return
    try:
        yield from audio.blocks(clip.audio.open(), sample_rate=sample_rate, block_seconds=seconds)
    except (OSError, ValueError) as error:
        yield str(error)
