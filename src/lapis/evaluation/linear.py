"""The linear probe: how much one linear layer finds in frozen features, by the protocol of EVAR (arXiv 2210.14648,
section 4.2). Test clips are scored once, at the end; when to stop and which weights to keep is decided on others.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from lapis.data.classes import Kind, class_targets, labels_of
from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.evaluation.classification import METRIC, chance, recognised, score
from lapis.evaluation.classifiers import Embed, Kinds, check_kinds, first_features, plainly
from lapis.evaluation.embeddings import AudioEmbeddings, Listener, NotFiniteError
from lapis.evaluation.features import FeatureKind, Features
from lapis.evaluation.fitting import Fitting, Labelled, Layer, fit, num_held_out, told
from lapis.evaluation.folds import folds
from lapis.evaluation.seeded import SeededResult, over_folds, over_seeds
from lapis.evaluation.subject import Needs
from lapis.model import Embedder
from lapis.values import check_choice

EVAR = Fitting()
"""As the paper has it."""


@dataclass(frozen=True)
class LinearResult(SeededResult):
    """What layers scored that were fitted with several seeds."""

    layers: tuple[int, ...] = ()
    """Of the tower, counted from 1: that whose features were taken, for each fold; none where there was no choice."""

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        return super().to_dict() | ({"layers": list(self.layers)} if self.layers else {})


@dataclass(frozen=True)
class LinearProbe:
    """Fits a layer on the clips of `train` and measures it on those that it is given.

    Args:
        train: labelled clips; their labels are the classes. None to test each fold of the clips by the others.
        validation: clips that decide when to stop; None to hold out some of the training clips.
        kind: one label a clip and accuracy, or several and the mean average precision over classes.
        features: what the layer is given; the paper's is "frames" for M2D. Of several the first that a model has. Of
            "layers" it is the mean token of one of the tower's: of that with the best validation score, unless `layer`
            tells it. Test clips never choose.
        fitting: how it is fitted.
        layer: which of the tower's, counted from 1.
    """

    needs: ClassVar[Needs] = "clips and embed"
    train: SourceConfig | None
    validation: SourceConfig | None = None
    kind: Kind = "single-label"
    features: Kinds = "tokens"
    fitting: Fitting = EVAR
    layer: int | None = None

    def __post_init__(self) -> None:
        check_choice(self.kind, Kind, name="kind")
        check_kinds(self.features, layered=True)
        kinds = (self.features,) if isinstance(self.features, str) else self.features
        if self.layer is not None and (self.layer < 1 or "layers" not in kinds):
            raise ValueError(f"layer: expected one of features 'layers', counted from 1, got {self.layer} of {kinds}")
        if "layers" in kinds and self.layer is None and self.validation is None and self.fitting.as_released:
            raise ValueError("as_released: the test clips would choose the layer; expected validation clips or a layer")
        if self.train is None and self.validation is not None:
            raise ValueError("where folds are tested by each other there are no validation clips: expected train clips")

    def check(self, embedder: Embedder) -> None:
        """See that a model has one of the kinds of features.

        Raises:
            ValueError: it has none, or fewer layers.
        """
        self._listener(embedder)

    def run(self, embedder: Embedder, *, clips: Sequence[Sample], embed: Embed = plainly) -> LinearResult:
        """Measure an embedder on labelled test clips.

        Raises:
            ValueError: it has no such features; none of some clips can be read; or a clip has no label, one that no
                training clip has, or several where there must be one.
        """
        kind, listener = self._listener(embedder)
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
            "of": self._sentence(parts),
            "chosen": "" if isinstance(self.features, str) else f"Features {kind!r}.",
            "layers": listener.num_layers if isinstance(listener, Features) else 1,
            "layer": self.layer if kind == "layers" else None,
        }
        if self.train is None:
            whole = labelled[-1]
            found = [
                probe(whole.take(fold.train), test=whole.take(fold.test), **told) for fold in folds(parts[-1].samples)
            ]
            return replace(over_folds(found), layers=tuple(layer for result in found for layer in result.layers))
        validation = labelled[1] if self.validation is not None else None
        return probe(labelled[0], test=labelled[-1], validation=validation, **told)

    def _listener(self, embedder: Embedder) -> tuple[FeatureKind, Listener]:
        kind, listener = first_features(embedder, kinds=self.features)
        if kind == "layers" and isinstance(listener, Features) and (self.layer or 1) > listener.num_layers:
            raise ValueError(f"layer: expected one of {listener.num_layers}, got {self.layer}")
        return kind, listener

    def _sentence(self, parts: Sequence[AudioEmbeddings]) -> str:
        lost = sum(len(part.failures) for part in parts)
        several = () if isinstance(self.features, str) else self.features
        of = f"features, the first that the model has of {', '.join(several)}"
        return (of if several else f"features {self.features!r}") + (
            f"; {lost} unreadable clips are not counted" if lost else ""
        )


def probe(
    train: Labelled,
    *,
    test: Labelled,
    validation: Labelled | None = None,
    kind: Kind = "single-label",
    fitting: Fitting = EVAR,
    of: str = "features",
    chosen: str = "",
    unreadable: tuple[str, ...] = (),
    layers: int = 1,
    layer: int | None = None,
) -> LinearResult:
    """The linear probe on features that are there already.

    Args:
        train: to fit on.
        test: to measure on.
        validation: to decide when to stop.
        kind: one label a clip, or several.
        fitting: how it is fitted.
        of: names the features, for the protocol.
        chosen: what of them is the model's own, for the result.
        unreadable: clips, for the result.
        layers: as many features of a clip of equal width stand side by side, of which one is taken.
        layer: which, counted from 1; that with the best validation score unless told, and among equals the one with the
            lowest validation loss.

    Raises:
        ValueError: a feature is not finite, there are too few training clips to hold some out, or test clips would
            choose a layer.
    """
    for name, part in (("training", train), ("validation", validation), ("test", test)):
        if part is not None and not np.isfinite(part.features).all():
            raise NotFiniteError(f"a {name} clip has features that are not finite numbers")
    decides = test if validation is None and fitting.as_released else validation
    choosing = layers > 1 and layer is None
    if choosing and decides is test:
        raise ValueError("as_released: the test clips would choose the layer; expected validation clips or a layer")
    by_layer: dict[int, list[Layer]] = {}
    for number in range(1, layers + 1) if layer is None else (layer,):
        given = train.layer(number, of=layers)
        asked = None if decides is None else decides.layer(number, of=layers)
        by_layer[number] = [fit(given, asked, kind=kind, fitting=fitting, seed=seed) for seed in fitting.seeds]
    best = max(by_layer, key=lambda number: _validated(by_layer[number]))
    fitted, tested = by_layer[best], test.layer(best, of=layers)
    answers = [one(tested.features) for one in fitted]
    scores = [score(of, targets=test.targets, kind=kind) for of in answers]
    if layers > 1:
        chosen += f" Layer {best} of {layers}, {'the best in validation' if choosing else 'as asked for'}."
    held = num_held_out(train, fitting) if decides is None else 0
    who = f"{held} others of the {len(train)} training clips" if decides is None else f"{len(decides)} others"
    if decides is test:
        who = "the test clips themselves, as the released code does, so that the figure is too good"
    return LinearResult(
        metric=METRIC[kind],
        **over_seeds(scores),
        validation_scores=tuple(one.validation_score for one in fitted),
        epochs=tuple(one.epoch for one in fitted),
        chance=chance(test.targets, kind=kind),
        num_classes=test.targets.shape[1],
        num_clips=len(test),
        protocol=(
            f"{METRIC[kind]} on {len(test)} clips of one linear layer on standardised, frozen {of}; fitted on "
            f"{len(train) - held} clips, stopped on {who}; {told(fitting)}; the mean of {len(scores)} seeds."
        ),
        unreadable=unreadable,
        chosen=chosen.lstrip(),
        seeds=fitting.seeds,
        layers=(best,) if layers > 1 else (),
        correct=()
        if kind == "multi-label"
        else (np.mean([recognised(of, targets=test.targets) for of in answers], axis=0),),
    )


def _validated(fitted: Sequence[Layer]) -> tuple[float, float]:
    """How good they were in validation: the mean score over seeds, then the mean loss."""
    scores = [one.validation_score for one in fitted]
    return float(np.mean(scores)), -float(np.mean([one.validation_loss for one in fitted]))
