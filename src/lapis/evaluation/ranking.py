"""Clips ranked by each of several classes, where a clip may belong to any number: mAP and AUROC, means over classes.

Both are macro means over the classes that some clip has. A tie counts against the model in mAP and half in AUROC, where
a model that gives all clips one score has a half, as one that guesses has.

Their intervals are of the jackknife and not of the bootstrap: a clip that a bootstrap draws twice puts a relevant copy
beside itself, which lifts the precision of classes with few clips far beyond what was measured. Here groups of clips
are left out in turn, so that no clip is there twice; the interval stands around the figure by Student's t.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from lapis.evaluation.figure import Figure
from lapis.evaluation.metrics import areas_under_curve, average_precisions, chance_average_precision

GROUPS = 40
"""Of clips, each left out once."""
STUDENT = 2.0227
"""95 % of Student's t with 39 degrees of freedom lie between minus and plus this."""
SEED = 0


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
        """With 95 % intervals over clips, where there are `GROUPS` clips or more. AUROC leaves out classes that every
        clip has.
        """
        num_clips = self.answers.shape[1]
        chance = chance_average_precision(self.relevant.sum(axis=1), num_candidates=num_clips, depth=num_clips)
        mean = float(self.precisions.mean())
        precisions, areas = self._left_out() if num_clips >= GROUPS else (None, None)
        figures = {"mAP": Figure(mean, chance, _interval(mean, precisions))}
        some = ~self.relevant.all(axis=1)
        if some.any():
            area = float(areas_under_curve(self.answers[some], relevant=self.relevant[some]).mean())
            figures["AUROC"] = Figure(area, 0.5, _interval(area, areas))
        return figures

    def by_class(self, classes: Sequence[str]) -> Mapping[str, float | None]:
        """The average precision of each class; None where no clip has it."""
        values = iter(self.precisions.tolist())
        return {name: next(values) if there else None for name, there in zip(classes, self.present)}

    def _left_out(self) -> tuple[Float64[np.ndarray, "groups"], Float64[np.ndarray, "groups"]]:
        """mAP and AUROC without each group of clips."""
        num_clips = self.answers.shape[1]
        group = np.random.default_rng(SEED).permutation(num_clips) % GROUPS
        kept = np.arange(GROUPS)[:, None] != group
        precisions, areas = np.zeros((2, GROUPS, len(self.answers)))
        for number, (row, true) in enumerate(zip(self.answers, self.relevant)):
            # Irrelevant before relevant among equals, so that ties count against the model.
            order = np.lexsort((true, -row))
            hits, stays = true[order], kept[:, order]
            # Compared and not subtracted: equal infinities are equal.
            ties = np.flatnonzero(np.r_[True, row[order][1:] != row[order][:-1]])
            precisions[:, number] = _precisions(hits, stays)
            areas[:, number] = _areas(hits, stays, ties)
        return _mean_of_known(precisions), _mean_of_known(areas)


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


def _interval(value: float, left_out: Float64[np.ndarray, "groups"] | None) -> tuple[float, float] | None:
    """Around a share, by how far it moves when each group is left out."""
    if left_out is None or not np.isfinite(left_out).all():
        return None
    error = float(np.sqrt((GROUPS - 1) * left_out.var()))
    return max(0.0, value - STUDENT * error), min(1.0, value + STUDENT * error)


def _precisions(
    hits: Bool[np.ndarray, "clips"], stays: Bool[np.ndarray, "groups clips"]
) -> Float64[np.ndarray, "groups"]:
    """The average precision of a ranking of the clips that stay; NaN where none of them is a hit."""
    places = stays.cumsum(axis=1)[:, hits]
    own = stays[:, hits]
    count = own.cumsum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(own, count / np.maximum(places, 1), 0).sum(axis=1) / own.sum(axis=1)


def _areas(
    hits: Bool[np.ndarray, "clips"], stays: Bool[np.ndarray, "groups clips"], ties: Int[np.ndarray, "runs"]
) -> Float64[np.ndarray, "groups"]:
    """The share of pairs in order, in the same ranking, in which a run of equal answers begins at each of `ties`."""
    right, wrong = (np.add.reduceat(stays & (hits == of), ties, axis=1, dtype=np.int64) for of in (True, False))
    below = wrong.sum(axis=1, keepdims=True) - wrong.cumsum(axis=1)
    with np.errstate(invalid="ignore"):
        return (right * (below + wrong / 2)).sum(axis=1) / (right.sum(axis=1) * wrong.sum(axis=1))


def _mean_of_known(values: Float64[np.ndarray, "groups classes"]) -> Float64[np.ndarray, "groups"]:
    """Over the classes that are not NaN; NaN where all are."""
    known = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=1) / known.sum(axis=1)
