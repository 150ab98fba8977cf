"""Whether two models measured on the same clips differ: a test of it, and its correction for many figures.

The test is the sign-flip permutation test. Were the two models equally good, which of them did better on a clip would
be a coin's choice; the p value is the share of all such choices whose difference is at least as large. Queries of one
clip (its several captions) are chosen together, since they are not independent.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

ENUMERATED = 16  # groups, whose 65,536 choices of signs are all tried
CONVOLVED = 500_000_000  # additions of the exact distribution of whole numbers, under a second
DRAWS_AT_ONCE = 1 << 22  # numbers in memory


def group_sums(items: Float[np.ndarray, "items"], *, groups: Int[np.ndarray, "items"]) -> Float[np.ndarray, "groups"]:
    """The sum of the items of each group, in the order of the groups' numbers."""
    _, place = np.unique(groups, return_inverse=True)
    return np.bincount(place, weights=items)


def sign_flip(differences: Float[np.ndarray, "groups"], *, num_flips: int = 19_999, seed: int = 0) -> float:
    """The two-sided p value of the sum of paired differences.

    Exact for at most 16 groups that differ, and for whole numbers (hits and misses) of any count; else of `num_flips`
    random choices, the observed one counted among them (Phipson and Smyth 2010), so that it is never zero.
    """
    sizes = np.abs(differences[differences != 0]).astype(np.float64)
    if not len(sizes):
        return 1.0
    total = sizes.sum()
    # Sums that are equal on paper differ in their last bits.
    observed = abs(float(differences.sum())) - 1e-9 * total
    if len(sizes) <= ENUMERATED:
        sums = np.zeros(1)
        for size in sizes:
            sums = np.concatenate([sums + size, sums - size])
        return float((np.abs(sums) >= observed).mean())
    if (sizes == np.round(sizes)).all() and len(sizes) * total <= CONVOLVED:
        return _exact(sizes.astype(np.int64), observed=observed)
    random, as_large = np.random.default_rng(seed), 0
    at_once = max(1, DRAWS_AT_ONCE // len(sizes))
    for begin in range(0, num_flips, at_once):
        heads = random.integers(2, size=(min(at_once, num_flips - begin), len(sizes)), dtype=np.int8)
        as_large += int((np.abs(2 * (heads @ sizes) - total) >= observed).sum())
    return (as_large + 1) / (num_flips + 1)


def _exact(sizes: Int[np.ndarray, "groups"], *, observed: float) -> float:
    """From the distribution of the sum of those whose sign is plus, one size after the other."""
    chances = np.zeros(int(sizes.sum()) + 1)
    chances[0], reached = 1.0, 0
    for size in sizes:
        reached += int(size)
        chances[: reached + 1] *= 0.5
        chances[size : reached + 1] += chances[: reached + 1 - size].copy()
    sums = 2 * np.arange(len(chances)) - (len(chances) - 1)
    return min(1.0, float(chances[np.abs(sums) >= observed].sum()))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P values adjusted for their number (Holm 1979): at a level of 5 %, one false alarm in twenty whole families."""
    order = np.argsort(p_values, kind="stable")
    steps = np.asarray(p_values)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return tuple(map(float, adjusted))
