"""Whether what `locate` says of instants comes true: of those called 10 % probable, does the text sound in 10 %?

Nearly all instants are without any one text. So to say the share of those that have it, of every instant, is hard to
beat by the Brier score, and what is probable has bins of its own, however few instants are in them.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lapis.evaluation.reliability import Bin, calibration_error
from lapis.evaluation.sound_events import heard_in_frames
from lapis.search.events import Events
from lapis.search.localise import Locations

EDGES = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of the bins."""


@dataclass(frozen=True)
class InstantReliability:
    """How far the probabilities of instants are from what came true."""

    count: int
    """Of instants, each counted once a text."""
    base_rate: float
    """The share that have the text."""
    probability: float
    """The mean of what was said."""
    calibration_error: float
    """Over bins of equal mass, as for clips."""
    brier_score: float
    brier_score_of_base_rate: float
    """Of whoever says the base rate of every instant."""
    bins: tuple[Bin, ...]
    """Between `EDGES`, those that hold an instant."""
    spans: Bin | None
    """What is said of spans, and the share that have the text at their most probable instant; None without a span."""

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        return asdict(self)


def instant_reliability(
    answers: Sequence[Locations], *, reference: Sequence[Events], classes: Sequence[str]
) -> InstantReliability:
    """Hold the probabilities of answers to known events.

    Args:
        answers: of scenes, each asked for all classes in their order.
        reference: what sounds in each scene.
        classes: the texts.

    Raises:
        ValueError: there is no answer or not one a scene, one was asked for other texts, or has no probabilities.
    """
    if not answers or len(answers) != len(reference):
        raise ValueError(f"expected an answer for each scene, got {len(answers)} for {len(reference)}")
    said, true, of_spans = [], [], []
    for number, (answer, events) in enumerate(zip(answers, reference)):
        if answer.probabilities is None:
            raise ValueError(f"answer {number} has no probabilities: the model has no calibration")
        if (asked := [of.text for of in answer.found]) != list(classes):
            raise ValueError(f"answer {number} is about {asked}, expected {list(classes)}")
        heard = heard_in_frames(events, seconds=answer.frames.seconds, classes=classes)
        said.append(answer.probabilities.ravel()), true.append(heard.ravel())
        begins = answer.frames.seconds[:, 0]
        for text, of in enumerate(answer.found):
            for span in of.spans:
                begin, end = np.searchsorted(begins, [span.begin_seconds, span.end_seconds]).tolist()
                surest = begin + int(answer.probabilities[begin:end, text].argmax())
                of_spans.append((answer.probabilities[surest, text], heard[surest, text]))
    probabilities, truths = np.concatenate(said), np.concatenate(true)
    base_rate = float(truths.mean())
    places = np.digitize(probabilities, EDGES[1:-1])
    return InstantReliability(
        count=len(truths),
        base_rate=base_rate,
        probability=float(probabilities.mean()),
        calibration_error=calibration_error(probabilities, matches=truths),
        brier_score=float(np.square(probabilities - truths).mean()),
        brier_score_of_base_rate=base_rate * (1 - base_rate),
        bins=tuple(_bin(probabilities[places == place], truths[places == place]) for place in np.unique(places)),
        spans=_bin(*(np.array(values, np.float64) for values in zip(*of_spans))) if of_spans else None,
    )


def _bin(probabilities: np.ndarray, truths: np.ndarray) -> Bin:
    return Bin(len(truths), float(probabilities.mean()), float(truths.mean()))
