"""Classification by the nearest training clips: nothing is fitted, so nothing can be fitted wrongly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Bool

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

CLIPS_AT_ONCE = 512


@dataclass(frozen=True)
class Neighbours:
    """Each clip is of the class that most of its `k` nearest training clips have, by cosine.

    Ties count against the model twice: among training clips equally near, those of other classes come first; and a
    class with as many votes as the true one wins.

    Args:
        train: labelled clips; None to test each fold of the clips by the others.
        k: one or several, each a figure.
        features: what is compared.
    """

    needs: ClassVar[Needs] = "clips and embed"
    train: SourceConfig | None = None
    k: tuple[int, ...] = (1, 5)
    features: Kinds = "vectors"

    def __post_init__(self) -> None:
        check_kinds(self.features)
        if not self.k or min(self.k) < 1:
            raise ValueError(f"expected numbers of neighbours above zero, got {self.k}")

    def check(self, embedder: Embedder) -> None:
        """See that a model has one of the kinds of features.

        Raises:
            ValueError: it has none.
        """
        first_features(embedder, kinds=self.features)

    def run(self, embedder: Embedder, *, clips: Sequence[Sample], embed: Embed = plainly) -> ClassifierResult:
        """Measure an embedder on labelled test clips.

        Raises:
            ValueError: see `classifiers.tasks`; or there are fewer training clips than neighbours.
        """
        given = tasks(embedder, clips=clips, train=self.train, features=self.features, embed=embed)
        fewest = min(len(task.train) for task in given.tasks)
        if fewest < max(self.k):
            raise ValueError(f"{fewest} training clips are too few for {max(self.k)} neighbours")
        correct = [self._correct(task, num_classes=len(given.classes)) for task in given.tasks]
        return ClassifierResult(
            chance=given.chance,
            classes=given.classes,
            protocol=(
                f"Classes of {given.sentence}; most votes of the {' or '.join(map(str, self.k))} nearest by cosine of "
                f"features {given.features!r}; {len(given.classes)} classes; ties count against the model."
            ),
            correct={
                f"accuracy {k}-NN": tuple(fold[number].astype(np.float64) for fold in correct)
                for number, k in enumerate(self.k)
            },
            unreadable=given.failures,
        )

    def _correct(self, task: Task, *, num_classes: int) -> Bool[np.ndarray, "ks clips"]:
        parts = []
        for begin in range(0, len(task.test), CLIPS_AT_ONCE):
            part = slice(begin, begin + CLIPS_AT_ONCE)
            true = task.test_classes[part]
            similarity = cosine_similarity(task.test[part], candidates=task.train)
            same = task.train_classes[None] == true[:, None]
            order = np.lexsort((same, -similarity), axis=1)[:, : max(self.k)]
            voted = np.eye(num_classes, dtype=np.int64)[task.train_classes[order]].cumsum(axis=1)
            rows = np.arange(len(true))
            found = []
            for k in self.k:
                votes = voted[:, k - 1].copy()
                own = votes[rows, true]
                votes[rows, true] = -1
                found.append(own > votes.max(axis=1))
            parts.append(np.stack(found))
        return np.concatenate(parts, axis=1)
