"""Classification by a head that was trained with the tower, and the figures of any classifier: accuracy, or the mean
over classes of the average precision.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from lapis.data.classes import Kind, class_names, class_targets
from lapis.data.sample import Sample
from lapis.evaluation.bootstrap import interval, mean_of
from lapis.evaluation.embeddings import AudioEmbeddings, as_embeddings
from lapis.evaluation.features import Features
from lapis.evaluation.figure import Figure
from lapis.evaluation.metrics import average_precisions, chance_average_precision
from lapis.evaluation.ranking import ranking_scores
from lapis.model import Embedder
from lapis.values import check_choice

METRIC: dict[Kind, str] = {"single-label": "accuracy", "multi-label": "mAP"}


@dataclass(frozen=True)
class ClassificationResult:
    """What was measured, in [0, 1], beside what guessing gives: always the commonest class, or a random order."""

    metric: str
    score: float
    chance: float
    num_clips: int
    num_classes: int
    protocol: str
    unreadable: tuple[str, ...] = ()
    answers: Float[np.ndarray, "clips classes"] | None = field(default=None, compare=False, repr=False)
    targets: Float32[np.ndarray, "clips classes"] | None = field(default=None, compare=False, repr=False)

    @cached_property
    def items(self) -> dict[str, Float64[np.ndarray, "_clips"]]:
        """1 where a clip was recognised; none where a clip may have several classes."""
        if self.metric != METRIC["single-label"] or self.answers is None or self.targets is None:
            return {}
        return {self.metric: recognised(self.answers, targets=self.targets).astype(np.float64)}

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """With 95 % intervals over clips."""
        if self.answers is None or self.targets is None:
            return {self.metric: Figure(self.score, self.chance)}
        if correct := self.items:
            of = correct[self.metric]
            return {self.metric: Figure(self.score, self.chance, interval(mean_of(of), clusters=np.arange(len(of))))}
        return dict(ranking_scores(self.answers, relevant=self.targets > 0).figures)

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        return {
            "metric": self.metric,
            "score": self.score,
            "chance": self.chance,
            "num_clips": self.num_clips,
            "num_classes": self.num_classes,
            "protocol": self.protocol,
            "unreadable": list(self.unreadable),
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
        }


@dataclass(frozen=True)
class Classification:
    """Of labelled clips, by the head of the model's own audio tower, whose answers are in the order of `classes`."""

    classes: tuple[str, ...] | str
    kind: Kind = "multi-label"

    def __post_init__(self) -> None:
        check_choice(self.kind, Kind, name="kind")

    @property
    def metric(self) -> str:
        """What is measured."""
        return METRIC[self.kind]

    def run(self, embedder: Embedder, *, clips: Sequence[Sample]) -> ClassificationResult:
        """Measure a model on clips.

        Raises:
            ValueError: it has no head, or one of another number of classes; or no clip can be read, or a clip has no
                label, one that is none of the classes, or several where there must be one.
        """
        names, answers = class_names(self.classes), Features(embedder, kind="logits")
        if answers.width != len(names):
            raise ValueError(f"the tower's head tells {answers.width} classes apart, and {len(names)} are named")
        embeddings: AudioEmbeddings = as_embeddings(answers, clips=clips, unit=False)
        targets = class_targets(embeddings.samples, classes=names, kind=self.kind)
        lost = f"; {len(embeddings.failures)} unreadable clips are not counted" if embeddings.failures else ""
        return ClassificationResult(
            metric=self.metric,
            score=score(embeddings.vectors, targets=targets, kind=self.kind),
            chance=chance(targets, kind=self.kind),
            num_clips=len(targets),
            num_classes=len(names),
            protocol=f"{self.metric} of the tower's own head on {len(targets)} clips; {RULES[self.kind]}{lost}.",
            unreadable=tuple(str(failure) for failure in embeddings.failures),
            answers=embeddings.vectors,
            targets=targets,
        )


RULES: dict[Kind, str] = {
    "single-label": "a clip belongs to the class of the highest answer; ties count against the model",
    "multi-label": "the mean over classes that some clip has of the average precision of all clips; ties count "
    "against the model",
}


def score(
    answers: Float[np.ndarray, "clips classes"], *, targets: Float32[np.ndarray, "clips classes"], kind: Kind
) -> float:
    """Accuracy, or the mean average precision over the classes that some clip has.

    Raises:
        ValueError: an answer is not a finite number.
    """
    if not np.isfinite(answers).all():
        raise ValueError("an answer is not a finite number")
    relevant = targets > 0
    if kind == "single-label":
        return float(recognised(answers, targets=targets).mean())
    present = relevant.any(axis=0)
    return float(average_precisions(answers.T[present], relevant=relevant.T[present], depth=len(answers)).mean())


def recognised(
    answers: Float[np.ndarray, "clips classes"], *, targets: Float32[np.ndarray, "clips classes"]
) -> Bool[np.ndarray, "clips"]:
    """Whether the answer for a clip's one class is higher than all others."""
    relevant = targets > 0
    return answers[relevant] > np.where(relevant, -np.inf, answers).max(axis=1)


def chance(targets: Float32[np.ndarray, "clips classes"], *, kind: Kind) -> float:
    """The share of the commonest class; or, where a clip may have several, what a random order is expected to score."""
    counts = (targets > 0).sum(axis=0)
    if kind == "single-label":
        return float(counts.max() / len(targets))
    return chance_average_precision(counts[counts > 0], num_candidates=len(targets), depth=len(targets))
