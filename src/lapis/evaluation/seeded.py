"""What a classifier that was trained with several seeds scored on test clips, or on each fold by the others."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float64

from lapis.evaluation.bootstrap import alike, interval, mean_of
from lapis.evaluation.figure import Figure


@dataclass(frozen=True)
class SeededResult:
    """The mean over seeds of what was measured on the test clips, in [0, 1], beside what guessing gives.

    Where there are folds every figure is the mean over them too.
    """

    metric: str
    score: float
    scores: tuple[float, ...]
    """By seed."""
    deviation: float | None
    """Standard deviation over seeds; None for one seed."""
    validation_scores: tuple[float, ...]
    epochs: tuple[int, ...]
    """After which what was trained with a seed was at its best."""
    chance: float
    num_classes: int
    num_clips: int
    """Of the test."""
    protocol: str
    unreadable: tuple[str, ...] = ()
    chosen: str = ""
    """In words, what was the model's own; not in `protocol`, which is the same for every model."""
    seeds: tuple[int, ...] = ()
    folds: int = 0
    correct: tuple[Float64[np.ndarray, "_clips"], ...] = field(default=(), compare=False, repr=False)
    """Of each fold's clips the share of seeds that recognised them; none where a clip may have several classes."""

    @cached_property
    def items(self) -> dict[str, Float64[np.ndarray, "_clips"]]:
        """Of each clip the share of seeds that recognised it, scaled so that every fold counts alike."""
        return {self.metric: alike(self.correct)} if self.correct else {}

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """With a 95 % interval over test clips where the figure is a mean over them."""
        of = self.items.get(self.metric)
        within = interval(mean_of(of), clusters=np.arange(len(of))) if of is not None else None
        return {self.metric: Figure(self.score, self.chance, within)}

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        return {
            "metric": self.metric,
            "score": self.score,
            "scores": list(self.scores),
            "deviation": self.deviation,
            "validation_scores": list(self.validation_scores),
            "epochs": list(self.epochs),
            "chance": self.chance,
            "num_classes": self.num_classes,
            "num_clips": self.num_clips,
            "protocol": self.protocol,
            "chosen": self.chosen,
            "unreadable": list(self.unreadable),
            "seeds": list(self.seeds),
            "folds": self.folds,
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
        }


Seeded = TypeVar("Seeded", bound=SeededResult)


def over_seeds(scores: Sequence[float]) -> dict[str, Any]:
    """The fields of a result that follow from the score of each seed."""
    return {
        "score": float(np.mean(scores)),
        "scores": tuple(float(score) for score in scores),
        "deviation": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
    }


def over_folds(results: Sequence[Seeded]) -> Seeded:
    """One result of several folds: each score is the mean over them."""
    clips = sum(result.num_clips for result in results)
    first = results[0]
    return replace(
        first,
        **over_seeds(np.mean([result.scores for result in results], axis=0).tolist()),
        validation_scores=tuple(score for result in results for score in result.validation_scores),
        epochs=tuple(epoch for result in results for epoch in result.epochs),
        chance=float(np.mean([result.chance for result in results])),
        num_clips=clips,
        protocol=f"Leave one fold out: {clips} clips in {len(results)} folds, the mean over folds; of the first: "
        f"{first.protocol}",
        unreadable=tuple(dict.fromkeys(reason for result in results for reason in result.unreadable)),
        chosen=" ".join(dict.fromkeys(result.chosen for result in results if result.chosen)),
        folds=len(results),
        correct=tuple(part for result in results for part in result.correct),
    )
