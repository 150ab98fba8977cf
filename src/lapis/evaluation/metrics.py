"""Figures from a similarity matrix: ranks, recall, mean average precision, and what a random order would score.

A tie counts against the model: an irrelevant candidate with an equal score stands before a relevant one, so that a
collapsed model, which gives every pair one score, never looks good. In the area under the curve alone it counts half,
as is the custom: there such a model has the half that guessing has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from lapis.evaluation.bootstrap import interval, mean_of, median_of
from lapis.evaluation.embeddings import NotFiniteError
from lapis.evaluation.figure import Figure
from lapis.shapes import Vectors

SIMILARITY_DECIMALS = 6
_ENTRIES_AT_ONCE = 8_000_000


def cosine_similarity(queries: Vectors, *, candidates: Vectors) -> Float64[np.ndarray, "queries candidates"]:
    """Cosines of unit vectors, rounded to the precision that float32 vectors carry.

    Matrix products give equal columns results that differ in the last bits; without the rounding such noise, and not
    the model, would order equal candidates.

    Raises:
        NotFiniteError: a vector is not finite.
    """
    for name, vectors in (("query", queries), ("candidate", candidates)):
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            raise NotFiniteError(f"the vector of {name} {int(np.argmin(finite))} is not finite")
    return np.round(queries.astype(np.float64) @ candidates.astype(np.float64).T, SIMILARITY_DECIMALS)


def ranks(
    similarity: Float[np.ndarray, "queries candidates"], *, relevant: Bool[np.ndarray, "queries candidates"]
) -> Int[np.ndarray, "queries"]:
    """The rank of each query's best relevant candidate, from 1.

    Raises:
        ValueError: a similarity is NaN, or a query has no relevant candidate.
    """
    _check(similarity, relevant)
    best = np.where(relevant, similarity, -np.inf).max(axis=1, keepdims=True)
    return 1 + ((similarity >= best) & ~relevant).sum(axis=1)


def average_precisions(
    similarity: Float[np.ndarray, "queries candidates"], *, relevant: Bool[np.ndarray, "queries candidates"], depth: int
) -> Float64[np.ndarray, "queries"]:
    """The average precision at `depth` of each query, over min(depth, number of its relevant candidates).

    Raises:
        ValueError: a similarity is NaN, or a query has no relevant candidate.
    """
    _check(similarity, relevant)
    at_once = max(1, _ENTRIES_AT_ONCE // similarity.shape[1])
    parts = []
    for begin in range(0, len(similarity), at_once):
        part, true = similarity[begin : begin + at_once], relevant[begin : begin + at_once]
        # The last key is the first to sort by; False before True puts the irrelevant first among equals.
        order = np.lexsort((true, -part), axis=1)[:, :depth]
        hits = np.take_along_axis(true, order, axis=1)
        precisions = hits.cumsum(axis=1) / np.arange(1, hits.shape[1] + 1)
        parts.append((precisions * hits).sum(axis=1) / np.minimum(depth, true.sum(axis=1)))
    return np.concatenate(parts) if parts else np.zeros(0)


def areas_under_curve(
    similarity: Float[np.ndarray, "queries candidates"], *, relevant: Bool[np.ndarray, "queries candidates"]
) -> Float64[np.ndarray, "queries"]:
    """How often a relevant candidate of a query stands before an irrelevant one, a tie counting half: AUROC.

    Raises:
        ValueError: a similarity is NaN, or a query has no relevant candidate, or no other one.
    """
    _check(similarity, relevant)
    if (alone := relevant.all(axis=1)).any():
        raise ValueError(f"query {int(np.argmax(alone))} has relevant candidates only, so it has no curve")
    areas = []
    for row, true in zip(similarity, relevant):
        others = np.sort(row[~true])
        below, not_above = (np.searchsorted(others, row[true], side=side) for side in ("left", "right"))
        areas.append((below.sum() + not_above.sum()) / (2 * len(others) * true.sum()))
    return np.array(areas)


def chance_recall(num_relevant: Int[np.ndarray, "queries"], *, num_candidates: int, depth: int) -> float:
    """The expected recall at `depth` of a random order: one minus the hypergeometric chance of no hit."""
    drawn = np.arange(min(depth, num_candidates))
    misses = np.maximum(num_candidates - num_relevant[:, None] - drawn, 0) / (num_candidates - drawn)
    return float(1 - misses.prod(axis=1).mean())


def chance_average_precision(num_relevant: Int[np.ndarray, "queries"], *, num_candidates: int, depth: int) -> float:
    """The expected mean average precision at `depth` of a random order.

    A place is relevant with chance r/n; given that, each earlier one is with chance (r-1)/(n-1).
    """
    earlier = np.arange(min(depth, num_candidates))
    share = num_relevant[:, None] / num_candidates
    share_of_others = (num_relevant[:, None] - 1) / max(num_candidates - 1, 1)
    expected = (share * (1 + earlier * share_of_others) / (earlier + 1)).sum(axis=1)
    return float((expected / np.minimum(depth, num_relevant)).mean())


def chance_best_rank(num_relevant: Int[np.ndarray, "queries"], *, num_candidates: int) -> float:
    """The expected mean rank of the best relevant candidate in a random order."""
    return float(((num_candidates + 1) / (num_relevant + 1)).mean())


def chance_median_rank(num_relevant: Int[np.ndarray, "queries"], *, num_candidates: int) -> float:
    """The median, over queries and random orders, of the rank of the best relevant candidate.

    Half of all ranks are at or below it; where a rank has exactly half, it lies in the middle before the next one.
    """
    different, counts = np.unique(num_relevant, return_counts=True)
    beyond = np.zeros(num_candidates + 1)  # the share of queries with a rank above 0, 1, 2, ...
    for relevant, count in zip(different, counts):
        drawn = np.arange(num_candidates)
        misses = np.maximum(num_candidates - relevant - drawn, 0) / (num_candidates - drawn)
        beyond += np.r_[1.0, misses.cumprod()] * count / counts.sum()
    # A cumulated product may be off in its last bits.
    at_most, below = (beyond <= 0.5 + 1e-12).argmax(), (beyond < 0.5 - 1e-12).argmax()
    return float(at_most + below) / 2


@dataclass(frozen=True)
class RetrievalScores:
    """One direction of retrieval. Shares in [0, 1]; `chance_*` are the exact expectations under a random order."""

    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    mean_average_precision_at_10: float
    median_rank: float
    num_queries: int
    num_candidates: int
    chance_recall_at_1: float
    chance_recall_at_5: float
    chance_recall_at_10: float
    chance_mean_average_precision_at_10: float
    mean_rank: float
    chance_mean_rank: float
    chance_median_rank: float
    ranks: Int[np.ndarray, "queries"] = field(compare=False, repr=False)
    precisions: Float64[np.ndarray, "queries"] = field(compare=False, repr=False)
    """At 10."""
    clusters: Int[np.ndarray, "queries"] = field(compare=False, repr=False)
    """The clip or label that a query belongs to; those of one are drawn together for the intervals."""

    @cached_property
    def items(self) -> dict[str, Float64[np.ndarray, "queries"]]:
        """What each query gives to a figure that is their mean."""
        recall = {f"R@{depth}": (self.ranks <= depth).astype(np.float64) for depth in (1, 5, 10)}
        return recall | {"mAP@10": self.precisions, "mean rank": self.ranks.astype(np.float64)}

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """By metric, with 95 % intervals over queries."""
        within = {name: interval(mean_of(of), clusters=self.clusters) for name, of in self.items.items()}
        median = interval(median_of(self.ranks), clusters=self.clusters)
        return {
            "R@1": Figure(self.recall_at_1, self.chance_recall_at_1, within["R@1"]),
            "R@5": Figure(self.recall_at_5, self.chance_recall_at_5, within["R@5"]),
            "R@10": Figure(self.recall_at_10, self.chance_recall_at_10, within["R@10"]),
            "mAP@10": Figure(
                self.mean_average_precision_at_10, self.chance_mean_average_precision_at_10, within["mAP@10"]
            ),
            "median rank": Figure(self.median_rank, self.chance_median_rank, median, unit="rank"),
            "mean rank": Figure(self.mean_rank, self.chance_mean_rank, within["mean rank"], unit="rank"),
        }

    def to_dict(self) -> dict[str, Any]:
        """The numbers as plain values, without those of single queries."""
        return {of.name: getattr(self, of.name) for of in fields(self) if of.compare}


def retrieval_scores(
    similarity: Float[np.ndarray, "queries candidates"],
    *,
    relevant: Bool[np.ndarray, "queries candidates"],
    query_names: Sequence[str] | None = None,
    clusters: Int[np.ndarray, "queries"] | None = None,
) -> RetrievalScores:
    """Score one direction of retrieval; a query may have several relevant candidates.

    Recall at k is the share of queries with a relevant candidate among the first k. `query_names` are for messages,
    `clusters` for intervals: what a query belongs to, where not to itself alone.

    Raises:
        ValueError: there is no query, a similarity is NaN, or a query has no relevant candidate.
    """
    if not similarity.size:
        raise ValueError(f"nothing to rank: {similarity.shape[0]} queries and {similarity.shape[1]} candidates")
    _check(similarity, relevant, query_names)
    best = ranks(similarity, relevant=relevant)
    num_relevant, num_candidates = relevant.sum(axis=1), similarity.shape[1]
    precisions = average_precisions(similarity, relevant=relevant, depth=10)
    recall = {depth: float((best <= depth).mean()) for depth in (1, 5, 10)}
    chance = {depth: chance_recall(num_relevant, num_candidates=num_candidates, depth=depth) for depth in (1, 5, 10)}
    return RetrievalScores(
        recall_at_1=recall[1],
        recall_at_5=recall[5],
        recall_at_10=recall[10],
        mean_average_precision_at_10=float(precisions.mean()),
        median_rank=float(np.median(best)),
        num_queries=similarity.shape[0],
        num_candidates=num_candidates,
        chance_recall_at_1=chance[1],
        chance_recall_at_5=chance[5],
        chance_recall_at_10=chance[10],
        chance_mean_average_precision_at_10=chance_average_precision(
            num_relevant, num_candidates=num_candidates, depth=10
        ),
        mean_rank=float(best.mean()),
        chance_mean_rank=chance_best_rank(num_relevant, num_candidates=num_candidates),
        chance_median_rank=chance_median_rank(num_relevant, num_candidates=num_candidates),
        ranks=best,
        precisions=precisions,
        clusters=np.arange(len(best)) if clusters is None else clusters,
    )


def _check(
    similarity: Float[np.ndarray, "queries candidates"],
    relevant: Bool[np.ndarray, "queries candidates"],
    query_names: Sequence[str] | None = None,
) -> None:
    if np.isnan(similarity).any():
        query, candidate = np.argwhere(np.isnan(similarity))[0]
        raise ValueError(f"the similarity of query {query} and candidate {candidate} is NaN")
    answered = relevant.any(axis=1)
    if not answered.all():
        query = int(np.argmin(answered))
        name = f"query {query}" if query_names is None else f"query {query} ({query_names[query]!r})"
        raise ValueError(f"{name} has no relevant candidate, so its rank is not defined")
