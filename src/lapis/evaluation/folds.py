"""Leave one fold out: each fold of a corpus is tested once, by what the others taught. A sample's split is its fold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from lapis.data.sample import Sample


@dataclass(frozen=True, eq=False)
class Fold:
    """The numbers of the clips that teach, and of those that are tested."""

    name: str
    train: Int[np.ndarray, "_train"]
    test: Int[np.ndarray, "_test"]


def folds(samples: Sequence[Sample]) -> tuple[Fold, ...]:
    """The folds of clips, by `Sample.split`. That no recording is in two of them is the corpus' promise.

    Raises:
        ValueError: a clip has no split, or all have one.
    """
    for sample in samples:
        if not sample.split:
            raise ValueError(f"clip {sample.key} is in no fold: expected its split to name one")
    names = np.array([sample.split for sample in samples])
    found = sorted(set(names.tolist()))
    if len(found) < 2:
        raise ValueError(f"expected at least two folds, all {len(samples)} clips are in {found}")
    return tuple(Fold(name, np.flatnonzero(names != name), np.flatnonzero(names == name)) for name in found)
