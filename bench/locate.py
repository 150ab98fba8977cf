"""When words sound: `lapis locate` on scenes with known event times, beside sliding windows, and whether the place of
the windows matters.

Scenes are clips of the pocket corpus's test split in long noise. A third of the clips is left out: the defaults were
chosen on scenes of these. Thresholds of the F1 come from scenes of the val split, but for those of "as answered", which
are what the command says by itself.

Where the model has a calibration, its probabilities of instants are held to the known events: that of clips, and that
of instants, which is fitted here to mixtures of the val split, as `lapis calibrate --frames` does it, where it is
missing. No clip of a scene may be among those of the fit.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

import lapis
from lapis import recipe
from lapis.calibration import Calibrated, Calibration
from lapis.data.sample import Sample
from lapis.datasets.pocket import Pocket, class_names
from lapis.evaluation.calibrating import among_the_fit
from lapis.evaluation.frame_calibrating import captions_of, fit_frames, mixtures
from lapis.evaluation.instant_reliability import InstantReliability, instant_reliability
from lapis.evaluation.localisation import best_thresholds, localised
from lapis.evaluation.planted import Scene, planted_events
from lapis.evaluation.sound_events import count_events, count_segments, f1_by_class
from lapis.model import Embedder
from lapis.search.events import Event, Events, FrameScores, events_of
from lapis.search.frame_grid import Listening, grid_scores
from lapis.search.frames import Hearing, smoothed
from lapis.search.localise import Rule, locate

SYSTEMS = {
    "locate": Listening(),
    "each instant alone, windows end to end": Listening(overlap=1, around_seconds=(0.0,)),
    "sliding windows of 1 s": Listening(hearing="windows"),
}
HEARINGS: tuple[Hearing, ...] = ("dense", "windows")
SHIFTS = (0.07, 0.77, 2.9)
"""In seconds."""


@dataclass(frozen=True)
class Task:
    """Scenes, and the classes that are asked for in all of them."""

    scenes: Sequence[Scene]
    classes: Sequence[str]
    embedder: Embedder

    @cached_property
    def waveforms(self) -> list[np.ndarray]:
        """The sound of the scenes, at the embedder's rate."""
        return [scene.waveform(sample_rate=self.embedder.sample_rate) for scene in self.scenes]

    @property
    def events(self) -> list[Events]:
        """What sounds in each scene."""
        return [scene.events for scene in self.scenes]

    def frames(self, listening: Listening) -> list[FrameScores]:
        """Smoothed scores, as `locate` has them."""
        vectors = self.embedder.embed_text(list(self.classes))
        heard = [grid_scores(of, texts=vectors, embedder=self.embedder, listening=listening) for of in self.waveforms]
        return [smoothed(of, smooth_seconds=Rule().smooth_seconds) for of in heard]

    def f1(self, found: Sequence[Events]) -> dict[str, float]:
        """The means over classes."""
        figures = {}
        for name, count in (("event F1", count_events), ("segment F1", count_segments)):
            counts = count(self.events, estimated=found, classes=self.classes)
            hits, true, said = (of.sum(axis=0) for of in (counts.hits, counts.reference, counts.estimated))
            figures[name] = float(np.nanmean(f1_by_class(hits, reference=true, estimated=said)))
        return figures


def answered(task: Task, *, listening: Listening, rule: Rule | None = None) -> dict[str, float]:
    """What the command says by itself: of all classes in each scene, and of those alone that sound there."""
    found: list[list[Event]] = []
    for waveform in task.waveforms:
        answer = locate(waveform, texts=task.classes, embedder=task.embedder, listening=listening, rule=rule)
        spans = [(of.text, span) for of in answer.found for span in of.spans]
        found.append([Event(text, span.begin_seconds, span.end_seconds) for text, span in spans])
    there = [{event.label for event in events} for events in task.events]
    present = [[event for event in events if event.label in labels] for events, labels in zip(found, there)]
    asked_well = {f"{name}, asked for what is there": value for name, value in task.f1(present).items()}
    return task.f1(found) | asked_well | {"spans a scene": float(np.mean([len(of) for of in found]))}


def probabilities(task: Task, *, hearing: Hearing) -> InstantReliability:
    """Whether what the model's calibration says of instants comes true."""
    listening = Listening(hearing=hearing)
    answers = [locate(of, texts=task.classes, embedder=task.embedder, listening=listening) for of in task.waveforms]
    return instant_reliability(answers, reference=task.events, classes=task.classes)


def calibrations(calibration: Calibration, embedder: Embedder, *, clips: Sequence[Sample]) -> dict[str, Calibration]:
    """The model's own without what it says of instants, and with that, fitted here where it is missing.

    Raises:
        ValueError: a clip of the scenes is among those of the fit.
    """
    if same := among_the_fit(clips, fitted=calibration.fitted):
        raise ValueError(f"{len(same)} clips of the scenes are among those of the calibration, {same[0].key} for one")
    whole = calibration
    if not calibration.frames:
        held_out = Pocket("val").build()
        texts = captions_of(held_out)
        mixed = mixtures(held_out, seed=1, num_texts=sum(map(len, texts.values())))
        data = f"{len(mixed)} mixtures of clips of the val split of the pocket corpus"
        ways = [fit_frames(embedder, scenes=mixed, texts=texts, hearing=way, data=data) for way in HEARINGS]
        whole = replace(calibration, frames=tuple(ways))
    return {"calibrated to clips": replace(calibration, frames=()), "calibrated to instants": whole}


def stability(
    task: Task, first: Sequence[FrameScores], *, listening: Listening, limits: np.ndarray, shifts: Sequence[float]
) -> dict[str, float]:
    """How far scores and events stay as they are when all windows begin elsewhere.

    `first` is without a shift, `limits` the threshold of each class.
    """

    def events(frames: Sequence[FrameScores]) -> list[list[Event]]:
        moved = [replace(of, scores=of.scores - limits) for of in frames]
        return [events_of(of, classes=task.classes, threshold=0.0) for of in moved]

    correlations, differences, agreements = [], [], []
    known = np.concatenate([of.scores for of in first])
    for shift in shifts:
        frames = task.frames(replace(listening, shift_seconds=shift))
        scores = np.concatenate([of.scores for of in frames])
        correlations += [float(np.corrcoef(one, two)[0, 1]) for one, two in zip(known.T, scores.T)]
        differences.append(float(np.abs(known - scores).mean() / known.std(axis=0).mean()))
        counts = count_events(events(first), estimated=events(frames), classes=task.classes)
        both = float(counts.reference.sum() + counts.estimated.sum())
        agreements.append(2 * float(counts.hits.sum()) / both if both else 1.0)
    return {
        "correlation": float(np.mean(correlations)),
        "difference, in standard deviations": float(np.mean(differences)),
        "the same events": float(np.mean(agreements)),
        "the same events, worst shift": float(min(agreements)),
    }


def measured(task: Task, validation: Task, *, listening: Listening, shifts: Sequence[float]) -> dict[str, float | bool]:
    begin = time.perf_counter()
    frames = task.frames(listening)
    seconds = time.perf_counter() - begin
    known = validation.frames(listening)
    usual = np.concatenate([of.scores for of in known]).mean(axis=0)
    centred, known = ([replace(of, scores=of.scores - usual) for of in scenes] for scenes in (frames, known))
    thresholds = best_thresholds(known, reference=validation.events, classes=task.classes)
    result = localised(
        centred,
        reference=task.events,
        seconds=[scene.seconds for scene in task.scenes],
        classes=task.classes,
        thresholds=thresholds,
        protocol="",
    )
    figures = {name: figure.value for name, figure in result.figures.items()}
    again = all((one.scores == two.scores).all() for one, two in zip(frames, task.frames(listening)))
    stable = stability(task, frames, listening=listening, limits=usual + thresholds.events, shifts=shifts)
    return figures | stable | {"equal on a second run": again, "seconds of work": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="", help="a trained folder; the pocket recipe's untrained model unless told")
    parser.add_argument("--seconds", type=float, default=120.0, help="of a scene")
    parser.add_argument("--events", type=int, default=24, help="in a scene")
    parser.add_argument(
        "--scenes", type=int, help="so many; as many as it takes for each clip to come once unless told"
    )
    parser.add_argument("--quick", action="store_true", help="one short scene, two shifts")
    parser.add_argument("--out", type=Path, default=Path("bench/results/locate.json"))
    options = parser.parse_args()
    embedder = lapis.load(options.model) if options.model else recipe.find("pocket").model.build()
    clips = [clip for number, clip in enumerate(Pocket("test", "sound").build()) if number % 3]
    others, shifts, form = list(Pocket("val", "sound").build()), SHIFTS, {"seconds": options.seconds}
    if options.quick:
        others, shifts, form, options.events = others[:2], SHIFTS[:1], {"seconds": 8.0}, 2
        clips = [clip for clip in clips if clip.label == others[0].label][:2]
    scenes = planted_events(clips, scenes=options.scenes, events=options.events, **form)
    validation = planted_events(others, events=options.events, seed=1, **form)
    names = class_names("sound")
    label_of = {label: names[label]["eng_Latn"] for label in names}
    scenes, validation = (_named(of, label_of) for of in (scenes, validation))
    classes = sorted({event.label for scene in scenes for event in scene.events})
    task, other = Task(scenes, classes, embedder), Task(validation, classes, embedder)
    num_events = sum(len(scene.events) for scene in scenes)
    minutes = sum(scene.seconds for scene in scenes) / 60
    print(f"{len(scenes)} scenes, {minutes:.1f} minutes, {num_events} events of {len(classes)} classes")
    found = {name: measured(task, other, listening=of, shifts=shifts) for name, of in SYSTEMS.items()}
    calibration = getattr(embedder, "calibration", None)
    by_itself = {}
    for name in ("locate", "sliding windows of 1 s"):
        listening = SYSTEMS[name]
        if calibration is not None:
            by_itself[f"{name}, by the calibration"] = answered(task, listening=listening)
            embedder.calibration = None
        by_itself[f"{name}, by the recording"] = answered(task, listening=listening)
        embedder.calibration = calibration
    meant = {}
    if isinstance(embedder, Calibrated) and calibration is not None:
        for name, of in calibrations(calibration, embedder, clips=clips).items():
            embedder.calibration = of
            meant |= {f"{hearing}, {name}": probabilities(task, hearing=hearing) for hearing in HEARINGS}
        embedder.calibration = calibration
    for title, table in (("thresholds from other scenes", found), ("as answered", by_itself)):
        print(title)
        for name, figures in table.items():
            print(f"  {name}")
            for figure, value in figures.items():
                print(f"    {figure:44} {value if isinstance(value, bool) else f'{value:.4f}'}")
    for name, of in meant.items():
        print(
            f"probabilities of instants, {name}: {of.count} instants, {of.base_rate:.3%} have the text, said "
            f"{of.probability:.3%}; ECE {of.calibration_error:.4f}, Brier score {of.brier_score:.5f}, of the base "
            f"rate {of.brier_score_of_base_rate:.5f}"
        )
        for point in of.bins:
            print(f"    said {point.probability:8.3%}  came true {point.matching:8.3%}  instants {point.count:9,}")
        if of.spans is not None:
            said, true = of.spans.probability, of.spans.matching
            print(f"    {of.spans.count} spans: said {said:.1%}, came true at the most probable instant {true:.1%}")
    systems = {name: asdict(listening) for name, listening in SYSTEMS.items()}
    content = {
        "scenes": len(scenes),
        "minutes": minutes,
        "events": num_events,
        "classes": classes,
        "shifts": list(shifts),
        "systems": systems,
        "thresholds from other scenes": found,
        "as answered": by_itself,
        "probabilities of instants": {name: of.to_dict() for name, of in meant.items()},
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(content, indent=1))


def _named(scenes: Sequence[Scene], label_of: dict[str, str]) -> list[Scene]:
    """The same scenes, their events called by the words that are asked for."""
    return [
        replace(
            scene,
            planted=tuple(
                replace(part, event=replace(part.event, label=label_of[part.event.label])) for part in scene.planted
            ),
        )
        for scene in scenes
    ]


if __name__ == "__main__":
    main()
