"""The linear probe: how much one linear layer finds in frozen features, by the protocol of EVAR (arXiv 2210.14648,
section 4.2). Test clips are scored once, at the end; when to stop and which weights to keep is decided on others.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from lapis.data.classes import Kind, class_targets, labels_of
from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.evaluation.classification import METRIC, chance, score
from lapis.evaluation.embeddings import AudioEmbeddings, as_embeddings
from lapis.evaluation.features import FeatureKind, Features
from lapis.model import Embedder
from lapis.values import check_choice


@dataclass(frozen=True)
class Labelled:
    """Features of clips, and 1 where a clip is of a class, 0 elsewhere."""

    features: Float32[np.ndarray, "clips width"]
    targets: Float32[np.ndarray, "clips classes"]

    def __len__(self) -> int:
        return len(self.features)

    def take(self, clips: Int[np.ndarray, "_taken"]) -> "Labelled":
        """The clips of these numbers."""
        return Labelled(self.features[clips], self.targets[clips])


@dataclass(frozen=True)
class Fitting:
    """How the layer is fitted: Adam, and an end when the validation score has not risen for `patience` epochs.

    Among epochs of equal validation score the one with the lowest validation loss counts, since few clips soon are all
    right (our choice).

    Where there are no validation clips, `held_out` of the training clips are taken for it, at random by the seed; the
    scores of all `seeds` are averaged.
    """

    learning_rate: float = 3e-5
    clips: int = 200
    epochs: int = 200
    patience: int = 20
    held_out: float = 0.1
    seeds: tuple[int, ...] = (42, 43, 44)

    def __post_init__(self) -> None:
        if min(self.clips, self.epochs, self.patience) < 1 or not 0 < self.held_out < 1 or not self.seeds:
            raise ValueError(f"expected clips, epochs, patience above zero, held_out within (0, 1), a seed; got {self}")


@dataclass(frozen=True)
class LinearResult:
    """The mean over seeds of what was measured on the test clips, in [0, 1], beside what guessing gives."""

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

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class LinearProbe:
    """Fits a layer on the clips of `train` and measures it on those that it is given.

    Args:
        train: labelled clips; their labels are the classes.
        validation: clips that decide when to stop; None to hold out some of the training clips.
        kind: one label a clip and accuracy, or several and the mean average precision over classes.
        features: what the layer is given; the paper's is "frames" for M2D.
        fitting: how it is fitted.
    """

    train: SourceConfig
    validation: SourceConfig | None = None
    kind: Kind = "single-label"
    features: FeatureKind = "tokens"
    fitting: Fitting = Fitting()

    def __post_init__(self) -> None:
        check_choice(self.kind, Kind, name="kind")

    def run(self, embedder: Embedder, *, clips: Sequence[Sample]) -> LinearResult:
        """Measure an embedder on labelled test clips.

        Raises:
            ValueError: it has no such features; none of some clips can be read; or a clip has no label, one that no
                training clip has, or several where there must be one.
        """
        listener = Features(embedder, kind=self.features)
        parts = [as_embeddings(listener, clips=self.train.build())]
        if self.validation is not None:
            parts.append(as_embeddings(listener, clips=self.validation.build()))
        parts.append(as_embeddings(listener, clips=clips))
        classes = labels_of(parts[0].samples)
        labelled = [
            Labelled(part.vectors, class_targets(part.samples, classes=classes, kind=self.kind)) for part in parts
        ]
        return probe(
            labelled[0],
            test=labelled[-1],
            validation=labelled[1] if self.validation is not None else None,
            kind=self.kind,
            fitting=self.fitting,
            unreadable=tuple(str(failure) for part in parts for failure in part.failures),
            of=self._sentence(parts),
        )

    def _sentence(self, parts: Sequence[AudioEmbeddings]) -> str:
        lost = sum(len(part.failures) for part in parts)
        return f"features {self.features!r}" + (f"; {lost} unreadable clips are not counted" if lost else "")


def probe(
    train: Labelled,
    *,
    test: Labelled,
    validation: Labelled | None = None,
    kind: Kind = "single-label",
    fitting: Fitting = Fitting(),
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
    fitted = [_fit(train, validation, kind=kind, fitting=fitting, seed=seed) for seed in fitting.seeds]
    scores = tuple(score(layer(test.features), targets=test.targets, kind=kind) for layer in fitted)
    held = f"{_num_held_out(train, fitting)} of them" if validation is None else f"{len(validation)} others"
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
    )


@dataclass(frozen=True)
class _Layer:
    """A fitted layer, the standardisation before it, and how it came about."""

    mean: Float[np.ndarray, "1 width"]
    deviation: Float[np.ndarray, "1 width"]
    weight: Float32[np.ndarray, "classes width"]
    bias: Float32[np.ndarray, "classes"]
    epoch: int
    validation_score: float
    validation_loss: float

    def __call__(self, features: Float32[np.ndarray, "clips width"]) -> Float[np.ndarray, "clips classes"]:
        return ((features - self.mean) / self.deviation).astype(np.float32) @ self.weight.T + self.bias


def _fit(train: Labelled, validation: Labelled | None, *, kind: Kind, fitting: Fitting, seed: int) -> _Layer:
    """The layer as it was after the epoch with the best validation score."""
    random = np.random.default_rng(seed)
    part, held = (train, validation) if validation is not None else _held_out(train, fitting, random)
    mean = part.features.mean(axis=0, keepdims=True, dtype=np.float64)
    deviation = part.features.std(axis=0, keepdims=True, dtype=np.float64)
    deviation[deviation == 0] = 1.0  # a feature that never changes is left as it is
    standard = torch.from_numpy(((part.features - mean) / deviation).astype(np.float32))
    targets = torch.from_numpy(part.targets)
    layer = nn.Linear(standard.shape[1], targets.shape[1])
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(random.normal(0, 0.01, layer.weight.shape)))
        layer.bias.zero_()
    optimizer = torch.optim.Adam(layer.parameters(), lr=fitting.learning_rate)
    best: _Layer | None = None
    risen = 0
    for epoch in range(1, fitting.epochs + 1):
        for chosen in torch.from_numpy(random.permutation(len(part))).split(min(fitting.clips, len(part))):
            _loss(layer(standard[chosen]), targets[chosen], kind=kind).backward()
            optimizer.step()
            optimizer.zero_grad()
        weight, bias = layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()
        now = _Layer(mean, deviation, weight, bias, epoch, validation_score=0.0, validation_loss=0.0)
        answers = now(held.features)
        now = replace(
            now,
            validation_score=score(answers, targets=held.targets, kind=kind),
            validation_loss=float(_loss(torch.from_numpy(answers).float(), torch.from_numpy(held.targets), kind=kind)),
        )
        if best is None or now.validation_score > best.validation_score:
            best, risen = now, epoch
        elif now.validation_score == best.validation_score and now.validation_loss < best.validation_loss:
            best = now
        if epoch - risen >= fitting.patience:
            break
    assert best is not None
    return best


def _loss(
    logits: Float[Tensor, "clips classes"], targets: Float[Tensor, "clips classes"], *, kind: Kind
) -> Float[Tensor, ""]:
    if kind == "single-label":
        return F.cross_entropy(logits, targets)
    return F.binary_cross_entropy_with_logits(logits, targets)


def _num_held_out(train: Labelled, fitting: Fitting) -> int:
    return max(1, round(fitting.held_out * len(train)))


def _held_out(train: Labelled, fitting: Fitting, random: np.random.Generator) -> tuple[Labelled, Labelled]:
    """Training clips in two: to fit on, and to decide on."""
    held = _num_held_out(train, fitting)
    if held >= len(train):
        raise ValueError(f"{len(train)} training clips are too few to hold {held} out: give validation clips")
    order = random.permutation(len(train))
    return train.take(order[held:]), train.take(order[:held])
