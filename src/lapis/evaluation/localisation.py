"""Frame-level detection: when is each class heard in a longer sound, asked by texts and measured against known times.

What measures takes the scores of any system (`localised`); `Localisation` makes them of an embedder and its prompts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Float64

from lapis.evaluation.bootstrap import Statistic, Weights, interval
from lapis.evaluation.figure import Figure
from lapis.evaluation.frames import frame_scores
from lapis.evaluation.metrics import areas_under_curve
from lapis.evaluation.planted import Scene
from lapis.evaluation.psds import SCENARIOS, detections_of, psds
from lapis.evaluation.sound_events import Counts, count_events, count_segments, f1_by_class, heard_in_frames
from lapis.evaluation.zeroshot import class_vectors
from lapis.model import Embedder
from lapis.search.events import Events, FrameScores, events_of
from lapis.search.frames import Hearing, smoothed
from lapis.values import check_choice

THRESHOLDS = 60
"""That are tried on the validation scenes."""


@dataclass(frozen=True)
class Thresholds:
    """From which score on a class is heard, one for all classes; each kind of counting has its own."""

    events: float
    segments: float


@dataclass(frozen=True)
class LocalisationResult:
    """What was found where. `events` and `segments` are counts of each scene and class."""

    events: Counts
    segments: Counts
    areas: Mapping[str, float]
    """AUROC over all frames, of each class that sounds in the middle of one."""
    detection_scores: Mapping[str, float]
    """PSDS1 and PSDS2."""
    thresholds: Thresholds
    classes: tuple[str, ...]
    prompts: Mapping[str, tuple[str, ...]]
    num_frames: int
    protocol: str

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """Means over classes; the F1 have 95 % intervals over scenes, which need no new counting."""
        figures = {
            name: Figure(float(np.mean(_f1(counts))), None, _interval(counts))
            for name, counts in (("event F1", self.events), ("segment F1", self.segments))
        }
        figures |= {name: Figure(value) for name, value in self.detection_scores.items()}
        areas = {"AUROC": Figure(float(np.mean(list(self.areas.values()))), 0.5)} if self.areas else {}
        return figures | areas

    @property
    def items(self) -> dict[str, Float64[np.ndarray, "_scenes"]]:
        """None: no figure is a mean over scenes."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        return {
            "classes": list(self.classes),
            "event_f1": dict(zip(self.classes, _f1(self.events).tolist())),
            "segment_f1": dict(zip(self.classes, _f1(self.segments).tolist())),
            "areas": dict(self.areas),
            "thresholds": asdict(self.thresholds),
            "prompts": {name: list(texts) for name, texts in self.prompts.items()},
            "num_scenes": len(self.events.hits),
            "num_frames": self.num_frames,
            "protocol": self.protocol,
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
        }


def localised(
    frames: Sequence[FrameScores],
    *,
    reference: Sequence[Events],
    seconds: Sequence[float],
    classes: Sequence[str],
    thresholds: Thresholds,
    protocol: str,
    prompts: Mapping[str, tuple[str, ...]] | None = None,
) -> LocalisationResult:
    """Measure the scores of any system.

    Args:
        frames: of each scene, as many classes wide as there are.
        reference: what sounds in each.
        seconds: the length of each.
        classes: their labels, each with an event somewhere.
        thresholds: not chosen on these scenes.
        protocol: where the scores are from, in words; how they are measured is added.
        prompts: by which they were made, where they were by texts.

    Raises:
        ValueError: the parts do not fit together, an event's label is not among the classes, or a class has no event
            or sounds in every frame.
    """
    if not len(frames) == len(reference) == len(seconds):
        raise ValueError(f"expected as many scenes, got {len(frames)}, {len(reference)} and {len(seconds)}")
    labels = {event.label for scene in reference for event in scene}
    if odd := sorted(labels ^ set(classes)):
        raise ValueError(f"expected the classes of the events, {odd[0]!r} is among one of the two only")
    for number, scene in enumerate(frames):
        if scene.scores.shape[1] != len(classes):
            raise ValueError(f"scene {number} has scores of {scene.scores.shape[1]} classes, expected {len(classes)}")
    pooled = np.concatenate([scene.scores for scene in frames])
    heard = np.concatenate(
        [heard_in_frames(events, seconds=of.seconds, classes=classes) for of, events in zip(frames, reference)]
    )
    # An event between the middles of two frames sounds in none, so its class may have no curve.
    curved = np.asarray(heard.any(axis=0))
    curves = [name for name, there in zip(classes, curved) if there]
    missed = len(classes) - len(curves)
    detections = detections_of(frames, classes=classes)
    return LocalisationResult(
        events=_event_counts(frames, reference, classes, thresholds.events),
        segments=_segment_counts(frames, reference, classes, thresholds.segments),
        areas=dict(zip(curves, areas_under_curve(pooled.T[curved], relevant=heard.T[curved]).tolist())),
        detection_scores={
            name: psds(reference, detections=detections, seconds=seconds, classes=classes, scenario=scenario)
            for name, scenario in SCENARIOS.items()
        },
        thresholds=thresholds,
        classes=tuple(classes),
        prompts=prompts or {},
        num_frames=len(pooled),
        protocol=(
            f"Localisation of {sum(map(len, reference))} events of {len(classes)} classes in {len(frames)} scenes, "
            f"{sum(seconds) / 60:.1f} minutes, {protocol}; event F1 with a collar of 0.2 s, at the end also 20 % "
            f"of the event, segment F1 of 1 s, means over classes; PSDS over {len(detections)} thresholds a class; "
            f"AUROC of frames by their middles, the mean over classes"
            f"{f' but {missed}, whose events lie between frames' if missed else ''}."
        ),
    )


@dataclass(frozen=True)
class Localisation:
    """Asks by `prompts`, a mapping from the label to sentences, for the frames in which a class is heard.

    A class's mean score over the frames of the validation scenes is subtracted, as some texts lie near all sounds, and
    scores are smoothed by a running median. The thresholds are those that are best on the validation scenes.
    """

    prompts: Mapping[str, tuple[str, ...]]
    hearing: Hearing = "dense"
    window_seconds: float = 1.0
    hop_seconds: float = 0.2
    smooth_seconds: float = 0.5
    languages: tuple[str, ...] = ()
    """Of the prompts; for the record."""

    def __post_init__(self) -> None:
        check_choice(self.hearing, Hearing, name="hearing")

    def run(self, embedder: Embedder, *, scenes: Sequence[Scene], validation: Sequence[Scene]) -> LocalisationResult:
        """Measure an embedder on scenes.

        Raises:
            ValueError: a clip cannot be read, the model has no vectors of frames, or see `localised`.
        """
        classes = tuple(self.prompts)
        vectors = class_vectors(embedder, prompts=self.prompts)
        known = [self._frames(embedder, scene, vectors) for scene in validation]
        usual = np.concatenate([of.scores for of in known]).mean(axis=0)
        known, asked = (
            [replace(of, scores=of.scores - usual) for of in frames]
            for frames in (known, [self._frames(embedder, scene, vectors) for scene in scenes])
        )
        how = (
            "vectors of the tower's instants"
            if self.hearing == "dense"
            else f"windows of {self.window_seconds:g} s each {self.hop_seconds:g} s"
        )
        within = f" in {', '.join(self.languages)}" if self.languages else ""
        return localised(
            asked,
            reference=[scene.events for scene in scenes],
            seconds=[scene.seconds for scene in scenes],
            classes=classes,
            thresholds=best_thresholds(known, reference=[scene.events for scene in validation], classes=classes),
            protocol=(
                f"cosines of prompts{within} and {how}, centred by class, median over {self.smooth_seconds:g} s, "
                f"thresholds from {len(validation)} other scenes"
            ),
            prompts=self.prompts,
        )

    def _frames(self, embedder: Embedder, scene: Scene, vectors: Float[np.ndarray, "classes width"]) -> FrameScores:
        frames = frame_scores(
            embedder,
            scene.waveform(sample_rate=embedder.sample_rate),
            class_vectors=vectors,
            hearing=self.hearing,
            window_seconds=self.window_seconds,
            hop_seconds=self.hop_seconds,
        )
        return smoothed(frames, smooth_seconds=self.smooth_seconds)


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
    best = []
    for count in (_event_counts, _segment_counts):
        counts = (count(frames, there, classes, float(value)) for value in tried)
        scores = [float(np.nanmean(_f1(of, of_reference=True))) for of in counts]
        best.append(float(tried[int(np.argmax(scores))]))
    return Thresholds(*best)


def _event_counts(
    frames: Sequence[FrameScores], reference: Sequence[Events], classes: Sequence[str], threshold: float
) -> Counts:
    found = [events_of(of, classes=classes, threshold=threshold) for of in frames]
    return count_events(reference, estimated=found, classes=classes)


def _segment_counts(
    frames: Sequence[FrameScores], reference: Sequence[Events], classes: Sequence[str], threshold: float
) -> Counts:
    found = [events_of(of, classes=classes, threshold=threshold) for of in frames]
    return count_segments(reference, estimated=found, classes=classes)


def _f1(counts: Counts, *, of_reference: bool = False) -> Float64[np.ndarray, "classes"]:
    """Of each class over all scenes; where asked for, only of classes that the reference has."""
    hits, reference, estimated = (of.sum(axis=0) for of in (counts.hits, counts.reference, counts.estimated))
    values = f1_by_class(hits, reference=reference, estimated=estimated)
    return np.where(reference > 0, values, np.nan) if of_reference else values


def _interval(counts: Counts) -> tuple[float, float] | None:
    parts = [of.astype(np.float64) for of in (counts.hits, counts.reference, counts.estimated)]

    def statistic(weights: Weights) -> Float64[np.ndarray, "draws"]:
        hits, reference, estimated = (weights @ of for of in parts)
        values = f1_by_class(hits, reference=reference, estimated=estimated)
        return np.nanmean(np.where(reference > 0, values, np.nan), axis=1)

    drawn: Statistic = statistic
    return interval(drawn, clusters=np.arange(len(counts.hits)))
