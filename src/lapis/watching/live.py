"""When words sound in a stream that has no end: windows of it, their cosines with texts, and events with hysteresis.

The stream is heard in windows a step apart, and a window speaks for its middle; the scores pass a running median. An
event begins where a score reaches one threshold and ends where it falls below another. What is usual for a text is its
median over the last minutes. In memory are a window, and a number for each text and step of those minutes. How the
stream is cut into pieces changes nothing.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64

from lapis.calibration import Calibrated
from lapis.model import Embedder, check_texts
from lapis.search.frames import WINDOWS_AT_ONCE
from lapis.search.localise import stands_out
from lapis.shapes import Vectors, Waveform

LIMITS_EVERY = 5
"""Steps, after which the thresholds are looked at anew."""
UNKNOWN_SECONDS = 10.0
"""For which a model without a calibration only listens, to know what is usual."""

Scores = Float64[np.ndarray, "texts"]


@dataclass(frozen=True)
class StreamListening:
    """How a stream is heard.

    Raises:
        ValueError: a number is out of its range.
    """

    window_seconds: float = 1.0
    step_seconds: float = 0.2
    smooth_steps: int = 3
    """Of the running median, an odd number."""
    usual_seconds: float = 300.0
    """Over which the median is taken that is usual."""
    threshold: float | None = None
    """The cosine from which on a text is heard; of the calibration, or by `spreads`, unless told."""
    spreads: float = 3.0
    """Above the median, of a model without a calibration."""

    def __post_init__(self) -> None:
        if not 0 < self.step_seconds <= self.window_seconds <= self.usual_seconds or not self.spreads > 0:
            raise ValueError(f"expected 0 < step <= window <= usual_seconds, and spreads above 0, got {self}")
        if self.smooth_steps < 1 or self.smooth_steps % 2 == 0:
            raise ValueError(f"smooth_steps must be odd, got {self.smooth_steps}")

    @property
    def delay_seconds(self) -> float:
        """From an instant to the sound that its score waits for, the time of the model aside."""
        return self.window_seconds / 2 + self.step_seconds * (self.smooth_steps // 2 + 1)


@dataclass(frozen=True)
class Heard:
    """A text that begins to be heard, or was heard, in seconds of the stream."""

    text: str
    begin_seconds: float
    end_seconds: float | None
    """None as it begins."""
    score: float
    """The highest cosine so far."""
    probability: float | None
    """What the model's calibration makes of that; None where there is none."""


@dataclass
class _Open:
    """An event that is heard now."""

    begin_seconds: float
    end_seconds: float
    score: float
    probability: float | None


@dataclass(frozen=True)
class _Limits:
    """From which cosine on texts are heard, and down to which they are heard on; and what is usual for each."""

    begin: Scores
    until: Scores
    usual: Scores


class Live:
    """Hears a stream piece by piece."""

    def __init__(self, embedder: Embedder, *, texts: Sequence[str], listening: StreamListening | None = None) -> None:
        """`embedder.calibration`, if it has one, decides, and must be of its weights.

        Raises:
            ValueError: a text is empty, or there is none.
        """
        check_texts(texts)
        if not len(texts):
            raise ValueError("expected a text to listen for, got none")
        self.embedder, self.texts, self.listening = embedder, tuple(texts), listening or StreamListening()
        self.vectors: Vectors = embedder.embed_text(list(texts))
        self.calibration = embedder.calibration if isinstance(embedder, Calibrated) else None
        self.of_instants = self.calibration.frames_of("windows") if self.calibration else None
        rate = embedder.sample_rate
        self._length, self._hop = (
            max(1, round(seconds * rate)) for seconds in (self.listening.window_seconds, self.listening.step_seconds)
        )
        self._known: deque[Scores] = deque(maxlen=round(self.listening.usual_seconds / self.listening.step_seconds))
        self._number = 0
        self._limits: _Limits | None = None
        self._begin(0.0)

    def _begin(self, seconds: float) -> None:
        """Hear what comes as the beginning of a stretch without gaps, at this second of the stream."""
        self._origin = seconds
        self._held = np.zeros(0, np.float32)
        self._held_from = 0  # in samples from the origin
        self._recent: list[Scores] = []
        self._recent_from = 0  # the step of the first of these
        self._told = 0  # steps of this stretch whose score is final
        self._open: dict[int, _Open] = {}

    @property
    def seconds(self) -> float:
        """Of the stream, heard or lost."""
        return self._origin + (self._held_from + len(self._held)) / self.embedder.sample_rate

    def hear(self, waveform: Waveform) -> list[Heard]:
        """What begins and ends with the next piece, at the embedder's rate.

        Raises:
            ValueError: the model refuses it.
        """
        self._held = np.concatenate([self._held, waveform.astype(np.float32, copy=False)])
        windows = []
        begin = 0
        while begin + self._length <= len(self._held):
            windows.append(self._held[begin : begin + self._length])
            begin += self._hop
        found = []
        for first in range(0, len(windows), WINDOWS_AT_ONCE):
            found += self._scored(windows[first : first + WINDOWS_AT_ONCE])
        self._held = self._held[begin:].copy()
        self._held_from += begin
        return found

    def lost(self, seconds: float) -> list[Heard]:
        """What ends since so much of the stream was not heard, or since it is over."""
        found = []
        if not self._recent and len(self._held) and not self._held_from:
            found += self._scored([self._held])  # shorter than one window
        found += self._final(ended=True)
        for number in sorted(self._open):
            found.append(self._ended(number))
        self._begin(self.seconds + seconds)
        return found

    def _scored(self, windows: list[Waveform]) -> list[Heard]:
        vectors = self.embedder.embed_audio(windows)
        if not np.isfinite(vectors).all():
            raise ValueError("the model gave a vector that is not finite")
        found = []
        for cosines in vectors.astype(np.float64) @ self.vectors.astype(np.float64).T:
            self._recent.append(cosines)
            found += self._final(ended=False)
        return found

    def _final(self, *, ended: bool) -> list[Heard]:
        """Tell of the steps whose neighbours are known; of the others too, where no more come."""
        half = self.listening.smooth_steps // 2
        found = []
        while self._told < self._recent_from + len(self._recent):
            last = self._recent_from + len(self._recent) - 1
            if self._told + half > last and not ended:
                break
            around = np.arange(self._told - half, self._told + half + 1).clip(0, last) - self._recent_from
            found += self._stepped(np.median(np.stack([self._recent[at] for at in around]), axis=0))
            self._told += 1
            while self._recent_from < self._told - half:
                self._recent.pop(0)
                self._recent_from += 1
        return found

    def _stepped(self, scores: Scores) -> list[Heard]:
        """One more step."""
        self._known.append(scores)
        if self._limits is None or self._number % LIMITS_EVERY == 0:
            self._limits = self._limits_now()
        self._number += 1
        limits = self._limits
        middle = self._origin + (self._told * self._hop + self._length / 2) / self.embedder.sample_rate
        # The first window speaks for what comes before its middle too.
        begin = self._origin if self._told == 0 else middle - self.listening.step_seconds / 2
        end = middle + self.listening.step_seconds / 2
        found = []
        for number, score in enumerate(scores.tolist()):
            now = self._open.get(number)
            if now is None and score >= limits.begin[number]:
                self._open[number] = _Open(begin, end, score, self._probability(number, score))
                found.append(self._told_of(number, end_seconds=None))
            elif now is not None and score >= limits.until[number]:
                now.end_seconds = end
                if score > now.score:
                    now.score, now.probability = score, self._probability(number, score)
            elif now is not None:
                found.append(self._ended(number))
        return found

    def _ended(self, number: int) -> Heard:
        found = self._told_of(number, end_seconds=min(self._open[number].end_seconds, self.seconds))
        del self._open[number]
        return found

    def _told_of(self, number: int, *, end_seconds: float | None) -> Heard:
        of = self._open[number]
        return Heard(self.texts[number], of.begin_seconds, end_seconds, of.score, of.probability)

    def _limits_now(self) -> _Limits:
        scores: Float[np.ndarray, "steps texts"] = np.stack(self._known)
        usual = np.zeros(len(self.texts))
        seconds = len(scores) * self.listening.step_seconds
        if self.of_instants is not None:
            usual = self.of_instants.usual_of(self.vectors, medians=np.median(scores, axis=0), seconds=seconds)
        if self.listening.threshold is not None:
            begin = until = np.full(len(self.texts), self.listening.threshold)
        elif self.of_instants is not None:
            lift = -self.of_instants.usual_weight * usual
            begin, until = self.of_instants.begin_score + lift, self.of_instants.continue_score + lift
        elif self.calibration is not None:
            lift = -self.calibration.background_weight * self.calibration.background(self.vectors)
            begin = until = self.calibration.least_score + lift
        elif seconds < UNKNOWN_SECONDS:
            begin = until = np.full(len(self.texts), np.inf)
        else:
            begin, until = (
                stands_out(scores, spreads=of) for of in (self.listening.spreads, self.listening.spreads / 2)
            )
        return _Limits(begin, until, usual)

    def _probability(self, number: int, score: float) -> float | None:
        assert self._limits is not None
        if self.of_instants is not None:
            meant = score + self.of_instants.usual_weight * self._limits.usual[number]
            return float(self.of_instants.probability(np.array([meant]))[0])
        if self.calibration is None:
            return None
        background = float(self.calibration.background(self.vectors[number : number + 1])[0])
        meant = self.calibration.scores(np.array([score]), background=background)
        return float(self.calibration.probability(meant)[0])
