"""Clips ranked by each of several classes, where a clip may belong to any number: mAP and AUROC, means over classes.

Both are macro means over the classes that some clip has. A tie counts against the model in mAP and half in AUROC, where
a model that gives all clips one score has a half, as one that guesses has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float64

from lapis.evaluation.bootstrap import Statistic, Weights, interval
from lapis.evaluation.figure import Figure
from lapis.evaluation.metrics import areas_under_curve, average_precisions, chance_average_precision

DRAWS = 200
"""Of the bootstrap: each class is ranked anew in each."""


@dataclass(frozen=True, eq=False)
class RankingScores:
    """Answers of classes for clips, and which are right. `present`: the classes that some clip has."""

    answers: Float[np.ndarray, "classes clips"]
    relevant: Bool[np.ndarray, "classes clips"]
    present: Bool[np.ndarray, "all_classes"]
    precisions: Float64[np.ndarray, "classes"]
    """Of the classes that are present."""

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """With 95 % intervals over clips. AUROC leaves out classes that every clip has."""
        num_clips = self.answers.shape[1]
        chance = chance_average_precision(self.relevant.sum(axis=1), num_candidates=num_clips, depth=num_clips)
        clips = np.arange(num_clips)
        precision, area = self._redrawn()
        figures = {
            "mAP": Figure(float(self.precisions.mean()), chance, interval(precision, clusters=clips, draws=DRAWS))
        }
        some = ~self.relevant.all(axis=1)
        if some.any():
            areas = areas_under_curve(self.answers[some], relevant=self.relevant[some])
            within = interval(area, clusters=clips, draws=DRAWS)
            figures["AUROC"] = Figure(float(areas.mean()), 0.5, within)
        return figures

    def by_class(self, classes: Sequence[str]) -> Mapping[str, float | None]:
        """The average precision of each class; None where no clip has it."""
        values = iter(self.precisions.tolist())
        return {name: next(values) if there else None for name, there in zip(classes, self.present)}

    def _redrawn(self) -> tuple[Statistic, Statistic]:
        """mAP and AUROC as functions of how often each clip was drawn: copies of a clip stand beside it."""
        # Irrelevant before relevant among equals, so that the order of a draw is that of the whole.
        order = np.lexsort((self.relevant, -self.answers), axis=1)
        hits = np.take_along_axis(self.relevant, order, axis=1)

        def precision(weights: Weights) -> Float64[np.ndarray, "draws"]:
            return np.array([np.nanmean([_precision(h, w[o]) for h, o in zip(hits, order)]) for w in weights])

        sorted_answers = np.take_along_axis(self.answers, order, axis=1)
        # Compared and not subtracted: equal infinities are equal.
        ties = [np.flatnonzero(np.r_[True, row[1:] != row[:-1]]) for row in sorted_answers]

        def area(weights: Weights) -> Float64[np.ndarray, "draws"]:
            means = [[_area(h, w[o], of) for h, o, of in zip(hits, order, ties)] for w in weights]
            return np.nanmean(np.array(means), axis=1)

        return precision, area


def ranking_scores(
    answers: Float[np.ndarray, "clips classes"], *, relevant: Bool[np.ndarray, "clips classes"]
) -> RankingScores:
    """How well the answers for each class rank the clips.

    Raises:
        ValueError: an answer is NaN, or no clip has any class.
    """
    present = np.asarray(relevant.any(axis=0))
    if not present.any():
        raise ValueError(f"none of {len(relevant)} clips has any of {relevant.shape[1]} classes")
    answers, relevant = answers.T[present], relevant.T[present]
    precisions = average_precisions(answers, relevant=relevant, depth=answers.shape[1])
    return RankingScores(answers, relevant, present, precisions)


def _precision(hits: Bool[np.ndarray, "clips"], weights: np.ndarray) -> float:
    """The average precision of a ranking in which each clip stands so many times."""
    drawn = np.repeat(hits, weights)
    places = np.flatnonzero(drawn)
    return float((np.arange(1, len(places) + 1) / (places + 1)).mean()) if len(places) else float("nan")


def _area(hits: Bool[np.ndarray, "clips"], weights: np.ndarray, ties: np.ndarray) -> float:
    """The share of pairs in order, in the same ranking, in which a run of equal answers begins at each of `ties`."""
    right, wrong = (np.add.reduceat(np.where(hits == of, weights, 0), ties) for of in (True, False))
    pairs = right.sum() * wrong.sum()
    below = wrong.sum() - wrong.cumsum()
    return float((right * (below + wrong / 2)).sum() / pairs) if pairs else float("nan")
