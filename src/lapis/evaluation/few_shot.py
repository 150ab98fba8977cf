"""Few-shot classification: a class is the mean of a few of its clips, drawn again for each seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float64, Int

from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.evaluation.classifiers import (
    ClassifierResult,
    Embed,
    Kinds,
    Task,
    check_kinds,
    first_features,
    plainly,
    tasks,
)
from lapis.evaluation.metrics import cosine_similarity
from lapis.evaluation.subject import Needs
from lapis.model import Embedder


@dataclass(frozen=True)
class FewShot:
    """Each clip is of the class whose mean of `shots` training clips is nearest; ties count against the model.

    Args:
        train: labelled clips, of which some are drawn; None to test each fold of the clips by the others.
        shots: clips a class, one or several numbers, each a figure.
        seeds: of the draws; a figure is the mean over them.
        features: what is compared.
    """

    needs: ClassVar[Needs] = "clips and embed"
    train: SourceConfig | None = None
    shots: tuple[int, ...] = (1, 5)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    features: Kinds = "vectors"

    def __post_init__(self) -> None:
        check_kinds(self.features)
        if not self.shots or min(self.shots) < 1 or not self.seeds:
            raise ValueError(f"expected shots above zero and a seed, got {self}")

    def check(self, embedder: Embedder) -> None:
        """See that a model has one of the kinds of features.

        Raises:
            ValueError: it has none.
        """
        first_features(embedder, kinds=self.features)

    def run(self, embedder: Embedder, *, clips: Sequence[Sample], embed: Embed = plainly) -> ClassifierResult:
        """Measure an embedder on labelled test clips.

        Raises:
            ValueError: see `classifiers.tasks`; or a class has fewer training clips than shots.
        """
        given = tasks(embedder, clips=clips, train=self.train, features=self.features, embed=embed)
        for task in given.tasks:
            counts = np.bincount(task.train_classes, minlength=len(given.classes))
            if counts.min() < max(self.shots):
                name, number = given.classes[int(counts.argmin())], int(counts.min())
                raise ValueError(f"class {name!r} has {number} training clips, fewer than {max(self.shots)} shots")
        num_classes = len(given.classes)
        found = {
            shots: [
                np.stack([_correct(task, shots=shots, seed=seed, num_classes=num_classes) for seed in self.seeds])
                for task in given.tasks
            ]
            for shots in self.shots
        }
        return ClassifierResult(
            chance=given.chance,
            classes=given.classes,
            protocol=(
                f"Classes of {given.sentence}; the nearest class mean of {' or '.join(map(str, self.shots))} training "
                f"clips a class by cosine of features {given.features!r}; {len(given.classes)} classes; the mean of "
                f"{len(self.seeds)} draws; ties count against the model."
            ),
            correct={
                f"accuracy {shots}-shot": tuple(of.mean(axis=0) for of in parts) for shots, parts in found.items()
            },
            seeds=self.seeds,
            deviations={
                f"accuracy {shots}-shot": float(np.mean([of.mean(axis=1) for of in parts], axis=0).std(ddof=1))
                for shots, parts in found.items()
                if len(self.seeds) > 1
            },
            unreadable=given.failures,
        )


def _correct(task: Task, *, shots: int, seed: int, num_classes: int) -> Float64[np.ndarray, "clips"]:
    drawn = _drawn(task.train_classes, shots=shots, seed=seed, num_classes=num_classes)
    means = task.train[drawn].astype(np.float64).mean(axis=1)
    # Clips that cancel each other out say nothing of their class, which then lies nowhere.
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    similarity = cosine_similarity(task.test, candidates=means.astype(np.float32))
    rows = np.arange(len(similarity))
    own = similarity[rows, task.test_classes]
    similarity[rows, task.test_classes] = -np.inf
    return (own > similarity.max(axis=1)).astype(np.float64)


def _drawn(
    classes: Int[np.ndarray, "train"], *, shots: int, seed: int, num_classes: int
) -> Int[np.ndarray, "classes shots"]:
    """Training clips of each class; the first shots of more are those of fewer, so that more can only add."""
    random = np.random.default_rng(seed)
    return np.stack([random.permutation(np.flatnonzero(classes == of))[:shots] for of in range(num_classes)])
