"""The polyphonic sound detection score (PSDS, arXiv 1910.08440), as psds_eval defines it.

A detection is right if enough of it lies within events of its class, and an event is found if enough of it is covered
by right detections. The score is the area under the curve of found events over false alarms an hour, with one point a
threshold, less a part of how much the classes differ. So no threshold is chosen, and no collar asks for exact edges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from lapis.search.events import Event, Events, FrameScores, events_of

HOUR_SECONDS = 3600.0
OPERATING_POINTS = 50


@dataclass(frozen=True)
class Scenario:
    """What counts, as DCASE's task 4 names it. The first asks for times, the second for the right class."""

    detection_share: float
    """Of a detection, that must lie within events of its class."""
    event_share: float
    """Of an event, that right detections must cover."""
    cross_trigger_share: float = 0.3
    """Of a wrong detection within events of another class, from which on it is held against it."""
    cross_trigger_weight: float = 0.0
    instability_weight: float = 1.0
    """Of the standard deviation over classes, which is subtracted."""
    most_false_alarms: float = 100.0
    """An hour; the curve ends there."""


SCENARIOS: Mapping[str, Scenario] = {
    "PSDS1": Scenario(0.7, 0.7),
    "PSDS2": Scenario(0.1, 0.1, 0.3, cross_trigger_weight=0.5),
}


@dataclass(frozen=True)
class OperatingPoints:
    """Of every class and threshold: the share of its events that are found, and false alarms an hour."""

    found: Float64[np.ndarray, "_classes _points"]
    false_alarms: Float64[np.ndarray, "_classes _points"]
    """Those within events of other classes weighed in."""


def psds(
    reference: Sequence[Events],
    *,
    detections: Sequence[Sequence[Events]],
    seconds: Sequence[float],
    classes: Sequence[str],
    scenario: Scenario,
) -> float:
    """The score in [0, 1].

    Args:
        reference: what sounds, of each scene.
        detections: what a system says, of each operating point and scene.
        seconds: the length of each scene.
        classes: their labels, each with an event at least.
        scenario: what counts.

    Raises:
        ValueError: a class has no event, or there are not as many scenes everywhere.
    """
    points = operating_points(reference, detections=detections, seconds=seconds, classes=classes, scenario=scenario)
    return area(points, scenario=scenario)


def operating_points(
    reference: Sequence[Events],
    *,
    detections: Sequence[Sequence[Events]],
    seconds: Sequence[float],
    classes: Sequence[str],
    scenario: Scenario,
) -> OperatingPoints:
    """Where a system stands at each of its thresholds; see `psds`."""
    if not all(len(of) == len(reference) == len(seconds) for of in detections):
        raise ValueError(f"expected {len(reference)} scenes at every operating point, with {len(seconds)} lengths")
    number_of = {label: number for number, label in enumerate(classes)}
    events = np.zeros(len(classes))
    event_seconds = np.zeros(len(classes))
    for scene in reference:
        for event in scene:
            events[number_of[event.label]] += 1
            event_seconds[number_of[event.label]] += event.end_seconds - event.begin_seconds
    if not events.all():
        raise ValueError(f"class {classes[int(np.argmin(events))]!r} has no event, so none of it can be found")
    found, wrong = np.zeros((2, len(classes), len(detections)))
    for point, scenes in enumerate(detections):
        tally = _Tally(found[:, point], wrong[:, point], np.zeros((len(classes), len(classes))))
        for true, said in zip(reference, scenes):
            tally.add(true, said, number_of=number_of, scenario=scenario)
        others = np.maximum(len(classes) - 1, 1)
        wrong[:, point] *= HOUR_SECONDS / sum(seconds)
        cross_rate = (tally.crossed * HOUR_SECONDS / event_seconds).sum(axis=1) / others
        wrong[:, point] += scenario.cross_trigger_weight * cross_rate
    return OperatingPoints(found / events[:, None], wrong)


def area(points: OperatingPoints, *, scenario: Scenario) -> float:
    """Under the staircase of found events over false alarms, up to the most of these, as a share of the whole."""
    limit = scenario.most_false_alarms
    places = np.unique(np.concatenate([[0.0], points.false_alarms.ravel(), [limit]]))
    places = places[places <= limit]
    steps = np.zeros((len(points.found), len(places)))
    for of, found, alarms in zip(steps, points.found, points.false_alarms):
        order = np.lexsort((found, alarms))
        best = np.concatenate([[0.0], np.maximum.accumulate(found[order])])
        of[:] = best[np.searchsorted(alarms[order], places, side="right")]
    height = np.maximum(steps.mean(axis=0) - scenario.instability_weight * steps.std(axis=0), 0.0)
    return float((np.diff(places) * height[:-1]).sum() / limit)


def detections_of(
    frames: Sequence[FrameScores], *, classes: Sequence[str], points: int = OPERATING_POINTS
) -> list[list[list[Event]]]:
    """What is detected at each operating point, in each scene, from scores of any scale.

    The thresholds of a class are those that so many of all frames reach: one in as many as there are, up to all, in
    equal ratios, so that the points lie close where false alarms are rare.
    """
    pooled = np.concatenate([of.scores for of in frames])
    counts = np.unique(np.round(np.geomspace(1, len(pooled), points)).astype(int))
    thresholds = -np.sort(-pooled, axis=0)[counts - 1]
    return [[events_of(of, classes=classes, threshold=row) for of in frames] for row in thresholds]


@dataclass(frozen=True)
class _Tally:
    """Of one operating point, what is found and what is wrong, added up over scenes."""

    found: Float64[np.ndarray, "classes"]
    wrong: Float64[np.ndarray, "classes"]
    crossed: Float64[np.ndarray, "classes classes"]
    """Wrong detections of a class (rows) within events of another one (columns)."""

    def add(self, true: Events, said: Events, *, number_of: Mapping[str, int], scenario: Scenario) -> None:
        """Count one scene."""
        of_true, of_said = (np.array([number_of[event.label] for event in of], int) for of in (true, said))
        spans_true, spans_said = (
            np.array([(event.begin_seconds, event.end_seconds) for event in of]).reshape(-1, 2) for of in (true, said)
        )
        begins = np.maximum(spans_said[:, None, 0], spans_true[:, 0])
        overlaps = np.maximum(np.minimum(spans_said[:, None, 1], spans_true[:, 1]) - begins, 0.0)
        lengths = np.diff(spans_said)[:, 0]
        within = np.zeros((len(said), len(number_of)))
        for number, overlap in zip(of_true, overlaps.T):
            within[:, number] += overlap / lengths
        own = within[np.arange(len(said)), of_said]
        # A detection that meets no event of its class is wrong however little is asked.
        right = (own >= scenario.detection_share) & (own > 0)
        np.add.at(self.wrong, of_said[~right], 1)
        others = (within >= scenario.cross_trigger_share) & (within > 0)
        others[np.arange(len(said)), of_said] = False
        np.add.at(self.crossed, of_said[~right], others[~right])
        covered = (overlaps * (right[:, None] & (of_said[:, None] == of_true))).sum(axis=0)
        enough = (covered > 0) & (covered / np.diff(spans_true)[:, 0] >= scenario.event_share)
        np.add.at(self.found, of_true[enough], 1)
