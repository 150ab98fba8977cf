"""Figures of detection from scores of frames: events and segments at a threshold, curves over all thresholds.

The F1 have intervals by the jackknife over scenes. Drawing scenes with replacement would leave out classes that have
few, and so be about the mean over fewer classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from lapis.evaluation.metrics import areas_under_curve
from lapis.evaluation.psds import SCENARIOS, detections_of, psds
from lapis.evaluation.sound_events import Counts, count_events, count_segments, f1_by_class, heard_in_frames
from lapis.search.events import Event, Events, FrameScores, events_of

THRESHOLDS = 60
"""That are tried on the validation scenes."""
LEAST_SCENES = 10
"""For an interval. With as many, simulated ones held the true F1 in 90 to 97 % of draws, with 3 to 6 in 85 to 92 %."""


@dataclass(frozen=True)
class Thresholds:
    """From which score on a class is heard, one for all classes; each kind of counting has its own."""

    events: float
    segments: float


@dataclass(frozen=True)
class System:
    """What a system says of scenes, and from which scores on it hears a class."""

    frames: Sequence[FrameScores]
    """Of each scene, as many classes wide as there are."""
    thresholds: Thresholds


@dataclass(frozen=True)
class Detected:
    """How well a system's detections are those of a reference. `events` and `segments` count by scene and class."""

    events: Counts
    segments: Counts
    areas: Mapping[str, float]
    """AUROC over all frames, of each class that sounds in the middle of one."""
    areas_within: Mapping[str, float]
    """AUROC over the frames in whose middle something sounds, of each class that sounds in some of them only."""
    scores: Mapping[str, float]
    """PSDS1 and PSDS2."""

    @property
    def figures(self) -> dict[str, float]:
        """Means over classes; an AUROC is missing where no class has one."""
        found = {"event F1": mean_f1(self.events), "segment F1": mean_f1(self.segments), **self.scores}
        areas = {"AUROC": self.areas, "AUROC within sound": self.areas_within}
        return found | {name: float(np.mean(list(of.values()))) for name, of in areas.items() if of}


def detected(
    system: System, *, reference: Sequence[Events], seconds: Sequence[float], classes: Sequence[str]
) -> Detected:
    """Measure a system on scenes, each of so many seconds; each class has an event somewhere.

    Raises:
        ValueError: a class has no event or sounds in every frame.
    """
    pooled = np.concatenate([of.scores for of in system.frames])
    heard = np.concatenate(
        [heard_in_frames(events, seconds=of.seconds, classes=classes) for of, events in zip(system.frames, reference)]
    )
    sounding = np.asarray(heard.any(axis=1))
    # An event between the middles of two frames sounds in none, so its class may have no curve.
    curved = np.asarray(heard.any(axis=0))
    # What sounds alone throughout has none within sound.
    told_apart = np.asarray(curved & ~heard[sounding].all(axis=0))
    events, segments = (
        detections(system.frames, classes=classes, threshold=of)
        for of in (system.thresholds.events, system.thresholds.segments)
    )
    points = detections_of(system.frames, classes=classes)
    return Detected(
        events=count_events(reference, estimated=events, classes=classes),
        segments=count_segments(reference, estimated=segments, classes=classes),
        areas=_areas(pooled, heard, curved, classes),
        areas_within=_areas(pooled[sounding], heard[sounding], told_apart, classes),
        scores={
            name: psds(reference, detections=points, seconds=seconds, classes=classes, scenario=scenario)
            for name, scenario in SCENARIOS.items()
        },
    )


def _areas(pooled: np.ndarray, heard: np.ndarray, some: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    names = [name for name, there in zip(classes, some) if there]
    return dict(zip(names, areas_under_curve(pooled.T[some], relevant=heard.T[some]).tolist()))


def always_on(reference: Sequence[Events], *, seconds: Sequence[float], classes: Sequence[str]) -> dict[str, float]:
    """The figures of an answer that has every class sound from beginning to end of every scene."""
    said = [[Event(label, 0.0, float(length)) for label in classes] for length in seconds]
    return {
        "event F1": mean_f1(count_events(reference, estimated=said, classes=classes)),
        "segment F1": mean_f1(count_segments(reference, estimated=said, classes=classes)),
        **{
            name: psds(reference, detections=[said], seconds=seconds, classes=classes, scenario=scenario)
            for name, scenario in SCENARIOS.items()
        },
        "AUROC": 0.5,
        "AUROC within sound": 0.5,
    }


def best_thresholds(
    frames: Sequence[FrameScores], *, reference: Sequence[Events], classes: Sequence[str]
) -> Thresholds:
    """Those with the highest mean F1 over the classes that these scenes have; the highest of equals.

    Raises:
        ValueError: there is no scene with an event of one of the classes.
    """
    there = [[event for event in scene if event.label in classes] for scene in reference]
    if not any(there):
        raise ValueError(f"expected validation scenes with events of {len(classes)} classes, got none")
    pooled = np.sort(np.concatenate([of.scores.ravel() for of in frames]))[::-1]
    places = np.unique(np.round(np.geomspace(1, len(pooled), THRESHOLDS)).astype(int)) - 1
    tried = np.unique(pooled[places])[::-1]
    found: tuple[list[float], list[float]] = ([], [])
    for value in tried:
        said = detections(frames, classes=classes, threshold=float(value))
        for of, count in zip(found, (count_events, count_segments)):
            counts = count(there, estimated=said, classes=classes)
            of.append(float(np.nanmean(np.where(counts.reference.sum(axis=0) > 0, f1(counts), np.nan))))
    return Thresholds(*(float(tried[int(np.argmax(of))]) for of in found))


def detections(frames: Sequence[FrameScores], *, classes: Sequence[str], threshold: float) -> list[list[Event]]:
    """What reaches a threshold in each scene."""
    return [events_of(of, classes=classes, threshold=threshold) for of in frames]


def f1(counts: Counts) -> Float64[np.ndarray, "classes"]:
    """Of each class over all scenes; NaN where there is nothing in either list."""
    hits, reference, estimated = (of.sum(axis=0) for of in (counts.hits, counts.reference, counts.estimated))
    return f1_by_class(hits, reference=reference, estimated=estimated)


def mean_f1(counts: Counts) -> float:
    """The mean over classes, each of which has an event somewhere."""
    return float(f1(counts).mean())


def hindrance(counts: Counts) -> str:
    """Why the mean F1 of such scenes has no interval; empty where it can have one."""
    if (num_scenes := len(counts.reference)) < LEAST_SCENES:
        return f"{num_scenes} scenes are fewer than {LEAST_SCENES}"
    if lonely := int(((counts.reference > 0).sum(axis=0) < 2).sum()):
        return f"{lonely} classes sound in one scene only"
    return ""


def f1_interval(counts: Counts) -> tuple[float, float] | None:
    """Around the mean F1, of 95 %, by leaving out each scene in turn: all classes stay in, and so does the figure.

    Returns:
        None where there is a `hindrance`, or no scene makes a difference.
    """
    if hindrance(counts):
        return None
    hits, reference, estimated = (of.sum(axis=0) - of for of in (counts.hits, counts.reference, counts.estimated))
    without = f1_by_class(hits, reference=reference, estimated=estimated).mean(axis=1)
    error = float(np.sqrt((len(without) - 1) / len(without) * np.square(without - without.mean()).sum()))
    if error == 0:
        return None
    mean = mean_f1(counts)
    return max(0.0, mean - 1.96 * error), min(1.0, mean + 1.96 * error)
