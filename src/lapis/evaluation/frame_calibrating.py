"""Fits what a text's cosine with an instant means, on mixtures of clips whose times are known.

Instants of mixtures score otherwise than whole clips: other sounds are near, and a sound begins and ends. So the curve
is fitted to instants, and the two thresholds are those that find most events of the mixtures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

from lapis.calibration import FrameCalibration, Isotonic, Logistic
from lapis.data.sample import Sample
from lapis.evaluation.calibrating import Numbers, Truths, fit_isotonic, fit_logistic, log_loss
from lapis.evaluation.embeddings import embed_texts
from lapis.evaluation.planted import Scene, planted_events
from lapis.evaluation.sound_events import count_events, count_segments, f1_by_class, heard_in_frames
from lapis.model import Embedder
from lapis.search.events import Event, FrameScores, events_of
from lapis.search.frame_grid import Listening, grid_scores
from lapis.search.frames import Hearing, smoothed
from lapis.search.localise import Rule, locate
from lapis.shapes import Vectors

SCENE_SECONDS = 120.0
EVENTS = 24
"""In a scene, where there are so many clips."""
LEAST_SCENES = 4
MOST_SCENES = 32
"""An hour of sound, whose vectors are held."""
MOST_SCORES = 10_000_000
"""Of texts with instants, which are held several times."""
LEVELS = (0.5, 0.8, 0.9, 0.93, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99, 0.993, 0.996, 0.998, 0.999)
"""Of all instants' scores, at which events may begin."""
LOWER = (1.0, 1.5, 2.0, 3.0, 4.0)
"""Times the share of instants that score higher, where they may end."""
CURVE_DECIMALS = 3
"""Of the scores to which a curve is fitted: finer ones make it no better, and its knots are kept."""


def mixtures(clips: Sequence[Sample], *, seed: int, num_texts: int = 1) -> tuple[Scene, ...]:
    """Scenes of clips with one label each, those of speech left out, in noise.

    Each clip comes once or more often, unless there are so many of them, or of texts that are to be asked, that memory
    would grow with them: then some clips are drawn.

    Raises:
        ValueError: they have fewer than two labels, or cannot be planted.
    """
    usable = [clip for clip in clips if len(clip.labels) == 1 and clip.domain != "speech"]
    if len({clip.labels for clip in usable}) < 2:
        raise ValueError(f"expected clips of two labels or more to make mixtures of, got {len(usable)} clips with one")
    events = min(EVENTS, len(usable))
    most = min(MOST_SCENES, MOST_SCORES // (num_texts * round(SCENE_SECONDS / Listening().step_seconds)))
    scenes = max(LEAST_SCENES, min(most, -(-len(usable) // events)))
    if len(usable) > scenes * events:
        drawn = np.random.default_rng(seed).permutation(len(usable))[: scenes * events]
        usable = [usable[number] for number in sorted(drawn.tolist())]
    seconds = SCENE_SECONDS * events / EVENTS
    return planted_events(usable, scenes=scenes, events=events, seconds=seconds, seed=seed).scenes


def captions_of(clips: Sequence[Sample], *, languages: Sequence[str] = ()) -> dict[str, tuple[str, ...]]:
    """Of each label the first caption of its first clip in each language that is wanted; in all unless told.

    Raises:
        ValueError: a label has none.
    """
    found: dict[str, dict[str, str]] = {}
    for clip in clips:
        if len(clip.labels) == 1 and clip.domain != "speech":
            of = found.setdefault(clip.labels[0], {})
            for language, texts in clip.captions.items():
                if texts and texts[0].strip() and (not languages or language in languages):
                    of.setdefault(language, texts[0])
    if bare := [label for label, of in found.items() if not of]:
        raise ValueError(f"label {bare[0]!r} has no clip with a caption to ask for")
    return {label: tuple(of.values()) for label, of in found.items()}


@dataclass(frozen=True, eq=False)
class _Asked:
    """The texts that are asked of all scenes, and when they are there."""

    texts: tuple[str, ...]
    vectors: Vectors
    frames: list[FrameScores]
    """The vectors of the instants of each scene, a column each coordinate."""
    events: list[list[Event]]
    """Named by their texts: several for each sound."""

    def scores(self) -> list[FrameScores]:
        columns = self.vectors.astype(np.float64).T
        return [
            smoothed(replace(of, scores=of.scores @ columns), smooth_seconds=Rule().smooth_seconds)
            for of in self.frames
        ]


def fit_frames(
    embedder: Embedder, *, scenes: Sequence[Scene], texts: Mapping[str, tuple[str, ...]], hearing: Hearing, data: str
) -> FrameCalibration:
    """What instants mean that are heard so.

    Args:
        embedder: the model.
        scenes: mixtures of clips that it has not learned from.
        texts: by which each label that is heard in them is asked for.
        hearing: how the model hears instants.
        data: what the scenes are made of, in words.

    Raises:
        ValueError: the model cannot hear so; or instants at which texts are heard do not score higher than others.
    """
    asked = _asked(embedder, scenes=scenes, texts=texts, hearing=hearing)
    centre = np.concatenate([of.scores for of in asked.frames]).mean(axis=0)
    plain = FrameCalibration(hearing, Logistic(1.0, 0.0), 0.0, tuple(centre.tolist()), 0.0, 0.0, data)
    scores = asked.scores()
    usual = [
        plain.usual_of(asked.vectors, medians=np.median(of.scores, axis=0), seconds=float(of.seconds[-1, 1]))
        for of in scores
    ]
    inputs = np.concatenate(
        [np.stack([of.scores, np.broadcast_to(known, of.scores.shape)], axis=-1).reshape(-1, 2)
         for of, known in zip(scores, usual)]
    )  # fmt: skip
    matches = [
        heard_in_frames(events, seconds=of.seconds, classes=asked.texts).ravel()
        for events, of in zip(asked.events, scores)
    ]
    slopes, _ = fit_logistic(inputs, matches=np.concatenate(matches))
    if slopes[0] <= 1e-6:
        raise ValueError("instants at which a text is heard do not score higher than others: this model cannot tell")
    weight = float(slopes[1] / slopes[0])
    centred = [replace(of, scores=of.scores + weight * known) for of, known in zip(scores, usual)]
    curve = _curve([of.scores.ravel() for of in centred], matches)
    begin, until, reached = _thresholds(centred, asked)
    return replace(plain, curve=curve, usual_weight=weight, begin_score=begin, continue_score=until, event_f1=reached)


def _curve(
    scores: Sequence[Float64[np.ndarray, "_instants"]], matches: Sequence[Bool[np.ndarray, "_instants"]]
) -> Logistic | Isotonic:
    """Of two curves over the scores of each scene the one with the lower log loss on scenes that it was not fitted to.

    Those that score highest need not be heard much more often than those that score high: some are other sounds.
    """
    halves = (slice(0, None, 2), slice(1, None, 2))
    if not all(any(of.any() for of in matches[half]) for half in halves):
        return _logistic(np.concatenate(scores), np.concatenate(matches))
    losses = {}
    for fit in (_logistic, _isotonic):
        losses[fit] = 0.0
        for seen, unseen in (halves, halves[::-1]):
            curve = fit(np.concatenate(scores[seen]), np.concatenate(matches[seen]))
            truths = np.concatenate(matches[unseen])
            losses[fit] += log_loss(curve(np.concatenate(scores[unseen])), matches=truths) * len(truths)
    best = min(losses, key=lambda fit: losses[fit])
    return best(np.concatenate(scores), np.concatenate(matches))


def _logistic(scores: Numbers, matches: Truths) -> Logistic:
    slopes, offset = fit_logistic(scores[:, None], matches=matches)
    return Logistic(float(slopes[0]), offset)


def _isotonic(scores: Numbers, matches: Truths) -> Isotonic:
    return fit_isotonic(np.round(scores, CURVE_DECIMALS), matches=matches)


def _asked(
    embedder: Embedder, *, scenes: Sequence[Scene], texts: Mapping[str, tuple[str, ...]], hearing: Hearing
) -> _Asked:
    names = tuple(dict.fromkeys(text for of in texts.values() for text in of))
    vectors = embed_texts(embedder, texts=names)
    # Cosines are products with the coordinates: one hearing answers whatever is asked.
    axes = np.eye(embedder.width, dtype=np.float32)
    frames = [
        grid_scores(
            scene.waveform(sample_rate=embedder.sample_rate),
            texts=axes,
            embedder=embedder,
            listening=Listening(hearing=hearing),
        )
        for scene in scenes
    ]
    events = [
        [replace(event, label=text) for event in scene.events for text in texts.get(event.label, ())]
        for scene in scenes
    ]
    return _Asked(names, vectors, frames, events)


def _thresholds(scores: Sequence[FrameScores], asked: _Asked) -> tuple[float, float, float]:
    """Where events begin and end, and the F1 of all events and texts together that these two give."""
    everything = np.concatenate([of.scores.ravel() for of in scores])
    best = (float(everything.max()), float(everything.max()), -1.0)
    for level in LEVELS:
        for lower in LOWER:
            begin, until = np.quantile(everything, [level, max(0.0, 1 - lower * (1 - level))]).tolist()
            found = [events_of(of, classes=asked.texts, threshold=begin, until=until) for of in scores]
            counts = count_events(asked.events, estimated=found, classes=asked.texts)
            both = int(counts.reference.sum() + counts.estimated.sum())
            reached = 2 * float(counts.hits.sum()) / both if both else 0.0
            if reached > best[2]:
                best = (begin, until, reached)
    return best


@dataclass(frozen=True)
class Found:
    """How well a model finds the events of mixtures, each text asked of all of them."""

    event_f1: float
    """Of all texts and events together; `by_text` is the mean over texts."""
    event_f1_by_text: float
    segment_f1: float
    segment_f1_by_text: float
    spans: float
    """In a scene."""
    events: float
    """In a scene, counted once a text."""


def found_in(
    embedder: Embedder,
    *,
    scenes: Sequence[Scene],
    texts: Mapping[str, tuple[str, ...]],
    hearing: Hearing | None = None,
) -> Found:
    """What `locate` answers by itself on mixtures, with the calibration that the model has now."""
    names = tuple(dict.fromkeys(text for of in texts.values() for text in of))
    true = [
        [replace(event, label=text) for event in scene.events for text in texts.get(event.label, ())]
        for scene in scenes
    ]
    said, identity = [], embedder.identity
    for scene in scenes:
        waveform = scene.waveform(sample_rate=embedder.sample_rate)
        answer = locate(
            waveform, texts=names, embedder=embedder, listening=Listening(hearing=hearing), identity=identity
        )
        said.append([Event(of.text, span.begin_seconds, span.end_seconds) for of in answer.found for span in of.spans])

    def f1(counts: tuple[Float64[np.ndarray, "texts"], ...]) -> tuple[float, float]:
        hits, reference, estimated = counts
        by_text = f1_by_class(hits, reference=reference, estimated=estimated)
        both = float((reference + estimated).sum())
        return 2 * float(hits.sum()) / both if both else 0.0, float(np.nanmean(by_text))

    figures = []
    for count in (count_events, count_segments):
        of = count(true, estimated=said, classes=names)
        figures += f1(tuple(table.sum(axis=0).astype(np.float64) for table in (of.hits, of.reference, of.estimated)))
    number = len(scenes)
    return Found(*figures, spans=sum(map(len, said)) / number, events=sum(map(len, true)) / number)
