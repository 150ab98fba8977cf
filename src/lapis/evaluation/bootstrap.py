"""How far a figure may move with another draw of the test's clips: percentile intervals of the bootstrap.

A draw is a weight for each item, how often it was drawn. Items that belong together (the captions of a clip) are drawn
together. The draws are those of a fixed seed, so that an interval is as repeatable as its figure.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float, Float64, Int

DRAWS = 1000
LEVEL = 0.95
SEED = 0
_ENTRIES_AT_ONCE = 4_000_000

Weights = Int[np.ndarray, "draws items"]
Statistic = Callable[[Weights], Float[np.ndarray, "draws"]]
"""From how often each item was drawn to the figure of each draw; NaN where a draw has none."""


def interval(
    statistic: Statistic, *, clusters: Int[np.ndarray, "items"], draws: int = DRAWS, seed: int = SEED
) -> tuple[float, float] | None:
    """Between which values a figure lies in 95 % of draws.

    Args:
        statistic: the figure as a function of the draw; see `mean_of`, `median_of` and `mean_over_groups`.
        clusters: the number of the cluster that an item is drawn with; its own number where it is drawn alone.
        draws: how many.
        seed: of the draws.

    Returns:
        None where there are not two clusters, so that nothing can be told.
    """
    _, cluster = np.unique(clusters, return_inverse=True)
    if (num_clusters := int(cluster.max()) + 1 if len(cluster) else 0) < 2:
        return None
    values = np.concatenate([statistic(drawn[:, cluster]) for drawn in _draws(num_clusters, draws, seed, len(cluster))])
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _draws(num_clusters: int, draws: int, seed: int, num_items: int) -> Iterator[Weights]:
    """Weights of clusters, few enough draws at a time to be held in memory."""
    random = np.random.default_rng(seed)
    at_once = max(1, _ENTRIES_AT_ONCE // max(num_items, num_clusters))
    for begin in range(0, draws, at_once):
        chosen = random.integers(0, num_clusters, (min(at_once, draws - begin), num_clusters))
        # Counted in one go: the numbers of a draw are moved to a range of their own.
        moved = chosen + num_clusters * np.arange(len(chosen))[:, None]
        yield np.bincount(moved.ravel(), minlength=chosen.size).reshape(chosen.shape)


def mean_of(values: Float[np.ndarray, "items"]) -> Statistic:
    """The mean of the items drawn."""
    return lambda weights: (weights @ values) / weights.sum(axis=1)


def median_of(values: Float[np.ndarray, "items"] | Int[np.ndarray, "items"]) -> Statistic:
    """The median of the items drawn, as numpy has it: between the two in the middle where their number is even."""
    order = np.argsort(values, kind="stable")
    ascending = values[order].astype(np.float64)

    def statistic(weights: Weights) -> Float64[np.ndarray, "draws"]:
        reached = weights[:, order].cumsum(axis=1)
        total = reached[:, -1:]
        middle = [(reached > place).argmax(axis=1) for place in ((total - 1) // 2, total // 2)]
        return (ascending[middle[0]] + ascending[middle[1]]) / 2

    return statistic


def mean_over_groups(values: Float[np.ndarray, "items"], *, groups: Int[np.ndarray, "items"]) -> Statistic:
    """The mean over groups (classes, folds, languages) of the mean within each; groups not drawn do not count."""
    # Items of a group side by side, so that its sum is that of a run: no table of items by groups is made.
    order = np.argsort(groups, kind="stable")
    starts = np.unique(groups[order], return_index=True)[1]
    sorted_values = values[order].astype(np.float64)

    def statistic(weights: Weights) -> Float64[np.ndarray, "draws"]:
        drawn = weights[:, order]
        counts = np.add.reduceat(drawn, starts, axis=1)
        sums = np.add.reduceat(drawn * sorted_values, starts, axis=1)
        return np.nanmean(np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0), axis=1)

    return statistic


def alike(parts: Sequence[Float[np.ndarray, "_items"]]) -> Float64[np.ndarray, "all"]:
    """The items of parts of uneven sizes, scaled so that their mean is the mean of the parts' means.

    So a figure that is a mean over folds or languages has items that another model's can be compared with.
    """
    total = sum(map(len, parts))
    return np.concatenate([part.astype(np.float64) * total / (len(parts) * len(part)) for part in parts])
