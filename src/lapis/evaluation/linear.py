"""The linear probe: how much one linear layer finds in frozen features, by the protocol of EVAR (arXiv 2210.14648,
section 4.2). Test clips are scored once, at the end; when to stop and which weights to keep is decided on others.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float64

from lapis.data.classes import Kind, class_targets, labels_of
from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.evaluation.bootstrap import alike, interval, mean_of
from lapis.evaluation.classification import METRIC, chance, recognised, score
from lapis.evaluation.classifiers import Embed, Kinds, check_kinds, first_features, plainly
from lapis.evaluation.embeddings import AudioEmbeddings
from lapis.evaluation.figure import Figure
from lapis.evaluation.fitting import Fitting, Labelled, fit, num_held_out
from lapis.evaluation.folds import folds
from lapis.model import Embedder
from lapis.values import check_choice

EVAR = Fitting()
"""As the paper has it."""


@dataclass(frozen=True)
class LinearResult:
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
    """After which the layer of a seed was at its best."""
    chance: float
    num_classes: int
    num_clips: int
    """Of the test."""
    protocol: str
    unreadable: tuple[str, ...] = ()
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
            "unreadable": list(self.unreadable),
            "seeds": list(self.seeds),
            "folds": self.folds,
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
        }


@dataclass(frozen=True)
class LinearProbe:
    """Fits a layer on the clips of `train` and measures it on those that it is given.

    Args:
        train: labelled clips; their labels are the classes. None to test each fold of the clips by the others.
        validation: clips that decide when to stop; None to hold out some of the training clips.
        kind: one label a clip and accuracy, or several and the mean average precision over classes.
        features: what the layer is given; the paper's is "frames" for M2D. Of several the first that a model has.
        fitting: how it is fitted.
    """

    train: SourceConfig | None
    validation: SourceConfig | None = None
    kind: Kind = "single-label"
    features: Kinds = "tokens"
    fitting: Fitting = EVAR

    def __post_init__(self) -> None:
        check_choice(self.kind, Kind, name="kind")
        check_kinds(self.features)
        if self.train is None and self.validation is not None:
            raise ValueError("where folds are tested by each other there are no validation clips: expected train clips")

    def run(self, embedder: Embedder, *, clips: Sequence[Sample], embed: Embed = plainly) -> LinearResult:
        """Measure an embedder on labelled test clips.

        Raises:
            ValueError: it has no such features; none of some clips can be read; or a clip has no label, one that no
                training clip has, or several where there must be one.
        """
        kind, listener = first_features(embedder, kinds=self.features)
        parts = [] if self.train is None else [embed(listener, self.train.build())]
        if self.validation is not None:
            parts.append(embed(listener, self.validation.build()))
        parts.append(embed(listener, clips))
        classes = labels_of(parts[0].samples)
        labelled = [
            Labelled(part.vectors, class_targets(part.samples, classes=classes, kind=self.kind)) for part in parts
        ]
        told = {
            "kind": self.kind,
            "fitting": self.fitting,
            "unreadable": tuple(str(failure) for part in parts for failure in part.failures),
            "of": self._sentence(parts, features=kind),
        }
        if self.train is None:
            found = folds(parts[-1].samples)
            whole = labelled[-1]
            return _over_folds([probe(whole.take(fold.train), test=whole.take(fold.test), **told) for fold in found])
        validation = labelled[1] if self.validation is not None else None
        return probe(labelled[0], test=labelled[-1], validation=validation, **told)

    def _sentence(self, parts: Sequence[AudioEmbeddings], *, features: str) -> str:
        lost = sum(len(part.failures) for part in parts)
        return f"features {features!r}" + (f"; {lost} unreadable clips are not counted" if lost else "")


def probe(
    train: Labelled,
    *,
    test: Labelled,
    validation: Labelled | None = None,
    kind: Kind = "single-label",
    fitting: Fitting = EVAR,
    of: str = "features",
    unreadable: tuple[str, ...] = (),
) -> LinearResult:
    """The linear probe on features that are there already.

    Raises:
        ValueError: a feature is not finite, or there are too few training clips to hold some out.
    """
    for name, part in (("training", train), ("validation", validation), ("test", test)):
        if part is not None and not np.isfinite(part.features).all():
            raise ValueError(f"a {name} clip has features that are not finite numbers")
    decides = test if validation is None and fitting.as_released else validation
    fitted = [fit(train, decides, kind=kind, fitting=fitting, seed=seed) for seed in fitting.seeds]
    answers = [layer(test.features) for layer in fitted]
    scores = tuple(score(of, targets=test.targets, kind=kind) for of in answers)
    held = f"{num_held_out(train, fitting)} of them" if decides is None else f"{len(decides)} others"
    if decides is test:
        held = "the test clips themselves, as the released code does, so that the figure is too good"
    return LinearResult(
        metric=METRIC[kind],
        score=float(np.mean(scores)),
        scores=scores,
        deviation=float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        validation_scores=tuple(layer.validation_score for layer in fitted),
        epochs=tuple(layer.epoch for layer in fitted),
        chance=chance(test.targets, kind=kind),
        num_classes=test.targets.shape[1],
        num_clips=len(test),
        protocol=(
            f"{METRIC[kind]} on {len(test)} clips of one linear layer on standardised, frozen {of}; fitted on "
            f"{len(train)} clips, stopped on {held}; the mean of {len(scores)} seeds."
        ),
        unreadable=unreadable,
        seeds=fitting.seeds,
        correct=()
        if kind == "multi-label"
        else (np.mean([recognised(of, targets=test.targets) for of in answers], axis=0),),
    )


def _over_folds(results: Sequence[LinearResult]) -> LinearResult:
    """One result of several folds: each score is the mean over them."""
    scores = tuple(float(score) for score in np.mean([result.scores for result in results], axis=0))
    clips = sum(result.num_clips for result in results)
    first = results[0]
    return replace(
        first,
        score=float(np.mean(scores)),
        scores=scores,
        deviation=float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
        validation_scores=tuple(score for result in results for score in result.validation_scores),
        epochs=tuple(epoch for result in results for epoch in result.epochs),
        chance=float(np.mean([result.chance for result in results])),
        num_clips=clips,
        protocol=f"Leave one fold out: {clips} clips in {len(results)} folds, the mean over folds; of the first: "
        f"{first.protocol}",
        folds=len(results),
        correct=tuple(part for result in results for part in result.correct),
    )
