"""Balanced sampling: clips of rare classes are drawn as often as those of common ones, an epoch at a time.

A clip's weight is the sum over its classes of one over the number of the class's clips, as usual for AudioSet. An epoch
is so many draws without replacement, in that order: the clips with the smallest of exponential numbers divided by their
weights (Efraimidis and Spirakis 2006). It is made anew from its number, so any draw is a pure function of its own.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from lapis.data.sample import Sample
from lapis.data.usable import UnusableError, Usable


class Balanced:
    """Which sample a draw takes. Holds one number a sample, and the order of one epoch."""

    def __init__(self, samples: Sequence[Sample] | Usable, *, draws: int, seed: tuple[int, ...]) -> None:
        """With `draws` in an epoch.

        Raises:
            ValueError: there are fewer samples than draws of an epoch, or a sample has no label.
        """
        # Once: a sample may be made when asked for.
        labels = [_labels(samples, place) for place in range(len(samples))]
        usable = sum(1 for of_sample in labels if of_sample)
        if not 1 <= draws <= usable:
            raise ValueError(f"balanced_draws: an epoch takes no sample twice, so 1 to {usable}, got {draws}")
        counts = Counter(label for of_sample in labels for label in of_sample)
        self._weights = np.array([sum(1 / counts[label] for label in of_sample) for of_sample in labels])
        self._draws, self._seed = draws, seed
        self._order: tuple[int, np.ndarray] = (-1, np.zeros(0, np.int64))

    def __getitem__(self, number: int) -> int:
        """The place of the sample of draw `number`, from 0 without end."""
        epoch, place = divmod(number, self._draws)
        known, order = self._order
        if epoch != known:
            # Not numpy's own exponential numbers, whose method may change from version to version.
            uniform = np.random.default_rng((*self._seed, epoch)).random(len(self._weights))
            keys = np.full(len(uniform), np.inf)  # what cannot be used comes last, and is never reached
            np.divide(-np.log1p(-uniform), self._weights, out=keys, where=self._weights > 0)
            order = keys.argsort(kind="stable")[: self._draws].copy()
            self._order = epoch, order  # at once, since threads may ask in different epochs
        return int(order[place])


def _labels(samples: Sequence[Sample] | Usable, place: int) -> tuple[str, ...]:
    """Of a sample that was not looked through and cannot be used, none."""
    try:
        sample = samples[place]
    except UnusableError:
        return ()
    if not sample.labels:
        raise ValueError(f"balanced_draws: sample {sample.key} has no label")
    return sample.labels
