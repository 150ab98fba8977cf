"""What the probes without training share: labelled features of training and test clips, and accuracy clip by clip."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int

from lapis.data.classes import class_targets, labels_of
from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.evaluation.bootstrap import alike, interval, mean_of
from lapis.evaluation.embeddings import AudioEmbeddings, Listener, NotFiniteError, as_embeddings
from lapis.evaluation.features import FeatureKind, Features
from lapis.evaluation.figure import Figure
from lapis.evaluation.folds import folds
from lapis.model import Embedder
from lapis.shapes import Vectors
from lapis.values import check_choice

Embed = Callable[[Listener, Sequence[Sample]], AudioEmbeddings]
"""How clips become features; a suite gives one that remembers."""

Kinds = FeatureKind | tuple[FeatureKind, ...]
"""The features, or several kinds of which the first counts that a model has."""


def plainly(listener: Listener, clips: Sequence[Sample]) -> AudioEmbeddings:
    """Embed clips, at least one of which must be readable; features need not be of unit length."""
    return as_embeddings(listener, clips=clips, unit=False)


def first_features(embedder: Embedder, *, kinds: Kinds) -> tuple[FeatureKind, Listener]:
    """The first of several kinds of features that a model has; vectors are its own, shared with what compares texts.

    Raises:
        ValueError: it has none of them.
    """
    reasons = []
    for kind in (kinds,) if isinstance(kinds, str) else kinds:
        if kind == "vectors":
            return kind, embedder
        try:
            return kind, Features(embedder, kind=kind)
        except ValueError as error:
            reasons.append(str(error))
    raise ValueError("; ".join(reasons))


def check_kinds(kinds: Kinds, *, layered: bool = False) -> None:
    """See that all are kinds of features; those of all layers side by side are for what can choose one: `layered`.

    Raises:
        ValueError: one is not, or there is none.
    """
    if not kinds:
        raise ValueError("expected at least one kind of features")
    for kind in (kinds,) if isinstance(kinds, str) else kinds:
        check_choice(kind, FeatureKind, name="features")
        if kind == "layers" and not layered:
            raise ValueError("features 'layers' are those of all layers, of which only the linear probe chooses one")


@dataclass(frozen=True, eq=False)
class Task:
    """Unit features and classes of clips that teach and of clips that are tested."""

    train: Vectors
    train_classes: Int[np.ndarray, "train"]
    test: Vectors
    test_classes: Int[np.ndarray, "test"]


@dataclass(frozen=True, eq=False)
class Tasks:
    """One task, or one a fold, and what the result has to tell of them."""

    tasks: tuple[Task, ...]
    classes: tuple[str, ...]
    features: FeatureKind
    folded: bool
    failures: tuple[str, ...]

    @property
    def chance(self) -> float:
        """The share of the commonest class in the tests, where it is always answered."""
        counts = [np.bincount(task.test_classes, minlength=len(self.classes)) for task in self.tasks]
        return float(np.mean([count.max() / count.sum() for count in counts]))

    @property
    def sentence(self) -> str:
        """How many clips teach and are tested, for the protocol's sentence."""
        test = sum(len(task.test) for task in self.tasks)
        lost = f"; {len(self.failures)} unreadable clips are not counted" if self.failures else ""
        if self.folded:
            return f"{test} clips, each fold of {len(self.tasks)} by the others, the mean over folds{lost}"
        return f"{test} clips by {len(self.tasks[0].train)} others{lost}"


def tasks(
    embedder: Embedder,
    *,
    clips: Sequence[Sample],
    train: SourceConfig | None,
    features: Kinds,
    embed: Embed = plainly,
) -> Tasks:
    """Features of clips, and those of the clips that teach; without `train` each fold is tested by the others.

    Raises:
        ValueError: none of some clips can be read, a feature is not finite, a model has no such features, or a clip
            has not one label, or one that no training clip has.
    """
    kind, listener = first_features(embedder, kinds=features)
    tested = embed(listener, clips)
    taught = embed(listener, train.build()) if train is not None else tested
    classes = labels_of(taught.samples)
    rows = {"test": _unit(tested), "training": _unit(taught)}
    numbers = {
        name: class_targets(part.samples, classes=classes, kind="single-label").argmax(axis=1)
        for name, part in (("test", tested), ("training", taught))
    }
    if train is not None:
        made = (Task(rows["training"], numbers["training"], rows["test"], numbers["test"]),)
    else:
        made = tuple(
            Task(rows["test"][f.train], numbers["test"][f.train], rows["test"][f.test], numbers["test"][f.test])
            for f in folds(tested.samples)
        )
    parts = (taught, tested) if train is not None else (tested,)
    failures = tuple(str(failure) for part in parts for failure in part.failures)
    return Tasks(made, classes, kind, train is None, failures)


def _unit(part: AudioEmbeddings) -> Vectors:
    for sample, row in zip(part.samples, part.vectors):
        if not np.isfinite(row).all():
            raise NotFiniteError(f"the features of clip {sample.key} are not finite numbers")
    norms = np.linalg.norm(part.vectors, axis=1, keepdims=True)
    return (part.vectors / np.maximum(norms, np.finfo(np.float32).tiny)).astype(np.float32)


@dataclass(frozen=True)
class ClassifierResult:
    """Accuracies on test clips. `seeds`: of what was drawn, where something was."""

    chance: float
    classes: tuple[str, ...]
    protocol: str
    correct: Mapping[str, tuple[Float[np.ndarray, "_clips"], ...]] = field(compare=False, repr=False)
    """By figure: of each fold's clips the share of seeds that recognised them."""
    seeds: tuple[int, ...] = ()
    deviations: Mapping[str, float] = field(default_factory=dict)
    """Of a figure over seeds."""
    unreadable: tuple[str, ...] = ()

    @cached_property
    def items(self) -> dict[str, Float64[np.ndarray, "_clips"]]:
        """Of each clip, scaled so that every fold counts alike."""
        return {name: alike(parts) for name, parts in self.correct.items()}

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """With 95 % intervals over test clips; what other training clips would give is in `deviations`, if anywhere."""
        return {
            name: Figure(float(of.mean()), self.chance, interval(mean_of(of), clusters=np.arange(len(of))))
            for name, of in self.items.items()
        }

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        return {
            "classes": list(self.classes),
            "seeds": list(self.seeds),
            "deviations": dict(self.deviations),
            "protocol": self.protocol,
            "unreadable": list(self.unreadable),
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
        }
