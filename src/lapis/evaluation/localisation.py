"""Frame-level detection: when is each class heard in a longer sound, asked by texts and measured against known times.

What measures takes the scores of any system (`localised`); `Localisation` makes them of an embedder and its prompts.
Whoever only hears that something sounds finds much of what is asked for. So each figure stands beside that of systems
which know no class: one says that all classes always sound, and one that they do where it is loud.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Float64

from lapis.evaluation.detection import (
    Detected,
    System,
    Thresholds,
    always_on,
    best_thresholds,
    detected,
    f1,
    f1_interval,
    hindrance,
)
from lapis.evaluation.figure import Figure
from lapis.evaluation.frames import frame_scores, levels
from lapis.evaluation.planted import PlantedScenes, Scene
from lapis.evaluation.psds import OPERATING_POINTS
from lapis.evaluation.zeroshot import class_vectors
from lapis.model import Embedder
from lapis.search.events import Events, FrameScores
from lapis.search.frames import Hearing, smoothed
from lapis.values import check_choice

__all__ = ["Localisation", "LocalisationResult", "System", "Thresholds", "best_thresholds", "localised"]


@dataclass(frozen=True)
class LocalisationResult:
    """What was found where."""

    found: Detected
    baselines: Mapping[str, Mapping[str, float]]
    """The same figures of systems that know no class, by their names."""
    thresholds: Thresholds
    classes: tuple[str, ...]
    prompts: Mapping[str, tuple[str, ...]]
    num_frames: int
    protocol: str
    unreadable: tuple[str, ...] = ()
    """Clips that are in no scene, and why."""

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """Means over classes, whose `chance` is the best of the baselines; the F1 have 95 % intervals over scenes."""
        within = {"event F1": f1_interval(self.found.events), "segment F1": f1_interval(self.found.segments)}
        return {
            name: Figure(value, max(of[name] for of in self.baselines.values()), within.get(name))
            for name, value in self.found.figures.items()
        }

    @property
    def items(self) -> dict[str, Float64[np.ndarray, "_scenes"]]:
        """None: no figure is a mean over scenes."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        return {
            "classes": list(self.classes),
            "event_f1": dict(zip(self.classes, f1(self.found.events).tolist())),
            "segment_f1": dict(zip(self.classes, f1(self.found.segments).tolist())),
            "areas": dict(self.found.areas),
            "areas_within": dict(self.found.areas_within),
            "baselines": {name: dict(figures) for name, figures in self.baselines.items()},
            "thresholds": asdict(self.thresholds),
            "prompts": {name: list(texts) for name, texts in self.prompts.items()},
            "num_scenes": len(self.found.events.hits),
            "num_frames": self.num_frames,
            "protocol": self.protocol,
            "unreadable": list(self.unreadable),
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
    baselines: Mapping[str, System] | None = None,
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
        baselines: systems that know no class, with scores of the same frames; "all classes always" is added.

    Raises:
        ValueError: the parts do not fit together, an event's label is not among the classes, or a class has no event
            or sounds in every frame.
    """
    labels = {event.label for scene in reference for event in scene}
    if odd := sorted(labels ^ set(classes)):
        raise ValueError(f"expected the classes of the events, {odd[0]!r} is among one of the two only")
    systems = [System(frames, thresholds), *(baselines or {}).values()]
    for system in systems:
        if not len(system.frames) == len(reference) == len(seconds):
            raise ValueError(f"expected as many scenes, got {len(system.frames)}, {len(reference)} and {len(seconds)}")
        for number, scene in enumerate(system.frames):
            if (width := scene.scores.shape[1]) != len(classes):
                raise ValueError(f"scene {number} has scores of {width} classes, expected {len(classes)}")
    found, *others = (detected(of, reference=reference, seconds=seconds, classes=classes) for of in systems)
    always = always_on(reference, seconds=seconds, classes=classes)
    names = ["all classes always", *(baselines or {})]
    missed = len(classes) - len(found.areas)
    reasons = {name: hindrance(of) for name, of in (("event F1", found.events), ("segment F1", found.segments))}
    untold = dict.fromkeys(reason for reason in reasons.values() if reason)
    return LocalisationResult(
        found=found,
        baselines=dict(zip(names, [always, *(of.figures for of in others)])),
        thresholds=thresholds,
        classes=tuple(classes),
        prompts=prompts or {},
        num_frames=sum(len(of.seconds) for of in frames),
        protocol=(
            f"Localisation of {sum(map(len, reference))} events of {len(classes)} classes in {len(frames)} scenes, "
            f"{sum(seconds) / 60:.1f} minutes, {protocol}; event F1 with a collar of 0.2 s, at the end also 20 % "
            f"of the event, segment F1 of 1 s, means over classes; PSDS over at most {OPERATING_POINTS} thresholds a "
            f"class; AUROC of frames by their middles, the mean over classes"
            f"{f' but {missed}, whose events lie between frames' if missed else ''}, and of the frames in which "
            f"something sounds; intervals of the F1 by the jackknife over scenes"
            f"{f', none here as {next(iter(untold))}' if untold else ''}; chance is the best that "
            f"{' or '.join(names)} reaches, knowing no class."
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
        known, known_levels = self._heard(embedder, validation, vectors)
        usual = np.concatenate([of.scores for of in known]).mean(axis=0)
        asked, levels_asked = self._heard(embedder, scenes, vectors)
        known, asked = ([replace(of, scores=of.scores - usual) for of in frames] for frames in (known, asked))
        events = [scene.events for scene in validation]
        how = (
            "vectors of the tower's instants"
            if self.hearing == "dense"
            else f"windows of {self.window_seconds:g} s each {self.hop_seconds:g} s"
        )
        within = f" in {', '.join(self.languages)}" if self.languages else ""
        left_out = [of for part in (scenes, validation) if isinstance(part, PlantedScenes) for of in part.failures]
        result = localised(
            asked,
            reference=[scene.events for scene in scenes],
            seconds=[scene.seconds for scene in scenes],
            classes=classes,
            thresholds=best_thresholds(known, reference=events, classes=classes),
            protocol=(
                f"cosines of prompts{within} and {how}, centred by class, median over {self.smooth_seconds:g} s, "
                f"thresholds from {len(validation)} other scenes"
                f"{f'; {len(left_out)} clips that cannot be read or are silent are in no scene' if left_out else ''}"
            ),
            prompts=self.prompts,
            baselines={
                "all classes where it is loud": System(
                    levels_asked, best_thresholds(known_levels, reference=events, classes=classes)
                )
            },
        )
        return replace(result, unreadable=tuple(map(str, left_out)))

    def _heard(
        self, embedder: Embedder, scenes: Sequence[Scene], vectors: Float[np.ndarray, "classes width"]
    ) -> tuple[list[FrameScores], list[FrameScores]]:
        """The scores of each scene, and in the same frames the level of the sound as the score of every class."""
        scores, loud = [], []
        for scene in scenes:
            waveform = scene.waveform(sample_rate=embedder.sample_rate)
            frames = frame_scores(
                embedder,
                waveform,
                class_vectors=vectors,
                hearing=self.hearing,
                window_seconds=self.window_seconds,
                hop_seconds=self.hop_seconds,
            )
            level = levels(waveform, sample_rate=embedder.sample_rate, seconds=frames.seconds)
            alike = FrameScores(np.repeat(level[:, None], len(vectors), axis=1), frames.seconds)
            scores.append(smoothed(frames, smooth_seconds=self.smooth_seconds))
            loud.append(smoothed(alike, smooth_seconds=self.smooth_seconds))
        return scores, loud
