"""When do words sound? The times of a text in one recording of any length, and how often it is heard.

Scores of frames (`frame_grid`) are smoothed by a running median, and a text is heard where they reach a threshold, and
on while they reach a lower one. A model's calibration decides both, and then a text may well be heard nowhere. A model
without one cannot say whether a text is heard at all: there the threshold lies some spreads above what is usual in this
recording, which finds what stands out from the rest of it and misses what sounds most of the time.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Float64

from lapis import audio
from lapis.calibration import Calibrated, Calibration, FrameCalibration
from lapis.model import Embedder, check_texts
from lapis.search.events import FrameScores, events_of
from lapis.search.frame_grid import Listening, grid_scores
from lapis.search.frames import hears_densely, smoothed

LEAST_SPREAD = 0.01
"""Of cosines: in a recording where nothing ever changes, noise does not stand out."""
ROUNDING_SECONDS = 1e-6
"""1.4 - 1.1 is less than 0.3."""
NORMAL_SPREAD = 1.4826
"""Times the median absolute deviation: the standard deviation, where scores are normally distributed."""


@dataclass(frozen=True)
class Rule:
    """How scores become spans.

    Raises:
        ValueError: a number is out of its range.
    """

    smooth_seconds: float = 0.5
    """Of the running median."""
    threshold: float | None = None
    """The cosine from which on a text is heard; of the calibration, or by `spreads`, unless told."""
    spreads: float = 3.0
    """Above the recording's median score, for a model without a calibration."""
    shortest_seconds: float = 0.0
    """A shorter span is left out."""

    def __post_init__(self) -> None:
        if not (self.smooth_seconds >= 0 and self.shortest_seconds >= 0 and self.spreads > 0):
            raise ValueError(f"expected no duration below 0 s and spreads above 0, got {self}")


@dataclass(frozen=True)
class Span:
    """A time at which a text is heard."""

    begin_seconds: float
    end_seconds: float
    score: float
    """The highest smoothed cosine within."""
    probability: float | None
    """What the model's calibration makes of that score; None where there is none."""


@dataclass(frozen=True)
class Located:
    """When one text is heard in a recording."""

    text: str
    spans: tuple[Span, ...]
    threshold: float
    rule: str
    """Where the threshold comes from, in words."""
    nearest: Span
    """The frame with the highest score, heard or not."""

    @property
    def count(self) -> int:
        """How often it is heard."""
        return len(self.spans)

    @property
    def heard_seconds(self) -> float:
        """How long it is heard in all."""
        return sum((span.end_seconds - span.begin_seconds for span in self.spans), 0.0)


@dataclass(frozen=True)
class Locations:
    """What was heard when in a recording, text by text."""

    found: tuple[Located, ...]
    frames: FrameScores
    """The smoothed cosines of all texts with all frames."""
    probabilities: Float64[np.ndarray, "_frames _texts"] | None = None
    """That each text is heard in each frame, as the model's calibration has it; None where there is none."""

    @property
    def seconds(self) -> float:
        """The length of the recording."""
        return float(self.frames.seconds[-1, 1])

    def to_dict(self) -> dict[str, Any]:
        """Without the frames, as plain values, ready for JSON."""
        found = [{**asdict(of), "count": of.count, "heard_seconds": round(of.heard_seconds, 6)} for of in self.found]
        return {"seconds": self.seconds, "found": found}

    def labels(self) -> str:
        """As Audacity reads them: a line a span with begin, end and text, in the order of time."""
        rows = sorted((span.begin_seconds, span.end_seconds, of.text) for of in self.found for span in of.spans)
        return "".join(f"{begin:.6f}\t{end:.6f}\t{' '.join(text.split())}\n" for begin, end, text in rows)


def locate(
    source: audio.Source,
    *,
    texts: Sequence[str],
    embedder: Embedder,
    listening: Listening | None = None,
    rule: Rule | None = None,
    identity: str | None = None,
) -> Locations:
    """Say when texts are heard in a recording, which is read once and never held whole.

    Args:
        source: path, content, or array at the embedder's rate.
        texts: in any language the model knows.
        embedder: the model; `calibration`, where it has one, decides.
        listening: how it hears the recording.
        rule: how scores become spans.
        identity: the embedder's, where it was asked for before: it is a digest of all weights.

    Raises:
        ValueError: a text is empty or there is none, the sound cannot be read, the model cannot hear so, or its
            calibration is of other weights.
    """
    check_texts(texts)
    if not len(texts):
        raise ValueError("expected a text to locate, got none")
    rule = rule or Rule()
    calibration = embedder.calibration if isinstance(embedder, Calibrated) else None
    if calibration is not None and calibration.identity != (identity := identity or embedder.identity):
        raise ValueError(
            f"the model's calibration was fitted to other weights ({calibration.identity}) than these "
            f"({identity}): run lapis calibrate again, or set `calibration` to None"
        )
    vectors = embedder.embed_text(list(texts))
    listening = listening or Listening()
    frames = grid_scores(source, texts=vectors, embedder=embedder, listening=listening)
    of_frames = None
    if calibration is not None:
        of_frames = calibration.frames_of(listening.hearing or ("dense" if hears_densely(embedder) else "windows"))
    frames = smoothed(frames, smooth_seconds=rule.smooth_seconds)
    if of_frames is not None:
        usual = of_frames.usual_of(
            vectors, medians=np.median(frames.scores, axis=0), seconds=float(frames.seconds[-1, 1])
        )
        meant = _OfFrames(of_frames, usual)
    else:
        meant = None if calibration is None else _OfClips(calibration, calibration.background(vectors))
    limits = _limits(frames, meant=meant, rule=rule)
    probabilities = None
    if meant is not None:
        probabilities = np.empty(frames.scores.shape)
        for number in range(len(texts)):  # one after another, since on the way to them there is more than they are
            probabilities[:, number] = meant.probabilities(frames.scores[:, number], text=number)
    found = []
    for number, text in enumerate(texts):
        one = FrameScores(frames.scores[:, [number]], frames.seconds)
        of_text = _Spans(one, None if probabilities is None else probabilities[:, number])
        spans = [
            of_text.span(event.begin_seconds, event.end_seconds)
            for event in events_of(one, classes=[text], threshold=limits.begin[number], until=limits.until[number])
            if event.end_seconds - event.begin_seconds >= rule.shortest_seconds - ROUNDING_SECONDS
        ]
        nearest = frames.seconds[int(one.scores.argmax())]
        begin = float(limits.begin[number])
        found.append(Located(text, tuple(spans), begin, limits.rule, of_text.span(*nearest.tolist())))
    return Locations(tuple(found), frames, probabilities)


Limits = Float64[np.ndarray, "texts"]
OfText = Float[np.ndarray, "frames"]


@dataclass(frozen=True)
class _OfClips:
    """What cosines mean by a calibration that was fitted to whole clips."""

    calibration: Calibration
    background: Limits

    def limits(self) -> "_Limits":
        of = self.calibration
        begin = of.least_score - of.background_weight * self.background
        rule = f"by the model's calibration an instant stands out where {of.decision.rule}"
        return _Limits(begin, begin, f"{rule}, of whole clips (lapis calibrate --frames fits it to instants)")

    def probabilities(self, cosines: OfText, *, text: int) -> OfText:
        return self.calibration.probability(self.calibration.scores(cosines, background=self.background[text]))


@dataclass(frozen=True)
class _OfFrames:
    """The same of one that was fitted to instants."""

    calibration: FrameCalibration
    usual: Limits

    def limits(self) -> "_Limits":
        of = self.calibration
        lift = -of.usual_weight * self.usual
        rule = (
            f"by the model's calibration of instants, which finds events with an F1 of {of.event_f1:.1%} in the "
            f"mixtures it was fitted to"
        )
        return _Limits(of.begin_score + lift, of.continue_score + lift, rule)

    def probabilities(self, cosines: OfText, *, text: int) -> OfText:
        return self.calibration.probability(cosines + self.calibration.usual_weight * self.usual[text])


@dataclass(frozen=True)
class _Limits:
    """From which cosine on each text is heard, down to which it is heard on, and the reason in words."""

    begin: Limits
    until: Limits
    rule: str


def _limits(frames: FrameScores, *, meant: _OfClips | _OfFrames | None, rule: Rule) -> _Limits:
    if rule.threshold is not None:
        given = np.full(frames.scores.shape[1], rule.threshold)
        return _Limits(given, given, "the threshold was given")
    if meant is not None:
        return meant.limits()
    begin = stands_out(frames.scores, spreads=rule.spreads)
    return _Limits(
        begin,
        begin,
        f"the model has no calibration: an instant stands out where its score lies {rule.spreads:g} spreads above the "
        f"recording's median, which tells what stands out and not whether it is there",
    )


def stands_out(scores: Float[np.ndarray, "frames texts"], *, spreads: float) -> Limits:
    """The cosine of each text so many spreads above its median."""
    median = np.median(scores, axis=0)
    spread = NORMAL_SPREAD * np.median(np.abs(scores - median), axis=0)
    return median + spreads * np.maximum(spread, LEAST_SPREAD)


@dataclass(frozen=True)
class _Spans:
    """Makes the spans of one text."""

    frames: FrameScores
    probabilities: Float64[np.ndarray, "frames"] | None

    def span(self, begin_seconds: float, end_seconds: float) -> Span:
        """From the beginning of a frame to the end of one."""
        begins = self.frames.seconds[:, 0]
        within = slice(*np.searchsorted(begins, [begin_seconds, end_seconds]))
        score = float(self.frames.scores[within].max())
        probability = None if self.probabilities is None else float(self.probabilities[within].max())
        return Span(begin_seconds, end_seconds, score, probability)
