"""The classes of a labelled corpus: their names and order, and which of them each clip has."""

from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float32

from lapis.data.sample import Sample
from lapis.files import data_path

Kind = Literal["multi-label", "single-label"]
"""Whether a clip has any number of classes above none, or exactly one."""


def class_names(classes: tuple[str, ...] | str) -> tuple[str, ...]:
    """The names themselves, or those in a file of the data folder, one a line.

    Raises:
        ValueError: there is no such file, or there are fewer than two names, or one stands there twice.
    """
    names, where = classes, "classes"
    if isinstance(names, str):
        path = data_path(names)
        if not path.is_file():
            raise ValueError(f"{path}: expected the names of classes, one a line; there is no such file")
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
        names, where = tuple(line for line in lines if line), str(path)
    if len(names) < 2:
        raise ValueError(f"{where}: expected at least two classes, got {list(names)}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{where}: class {twice!r} stands there twice")
    return names


def class_targets(
    samples: Sequence[Sample], *, classes: Sequence[str], kind: Kind
) -> Float32[np.ndarray, "clips classes"]:
    """1 where a clip is of a class, 0 elsewhere.

    Raises:
        ValueError: a clip has no label, one that is not among the classes, or several where there must be one.
    """
    number_of = {name: number for number, name in enumerate(classes)}
    targets = np.zeros((len(samples), len(classes)), np.float32)
    for row, sample in zip(targets, samples, strict=True):
        if problem := label_problem(sample, classes=number_of, kind=kind):
            raise ValueError(problem)
        row[[number_of[name] for name in sample.labels]] = 1
    return targets


def label_problem(sample: Sample, *, classes: Collection[str], kind: Kind) -> str:
    """Why a clip can be of none of the classes; empty where it can."""
    if unknown := next((name for name in sample.labels if name not in classes), None):
        return f"clip {sample.key} has label {unknown!r}, which is none of the {len(classes)} classes"
    if not sample.labels or (kind == "single-label" and len(sample.labels) > 1):
        wanted = "one label" if kind == "single-label" else "labels"
        return f"clip {sample.key}: expected {wanted}, got {sample.label!r}"
    return ""


def labels_of(samples: Sequence[Sample]) -> tuple[str, ...]:
    """All labels that clips have, sorted."""
    return tuple(sorted({name for sample in samples for name in sample.labels}))
