"""What learns in the linear probe: one layer fitted on frozen features by Adam, and which of its epochs counts."""

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn

from lapis.data.classes import Kind
from lapis.evaluation.classification import score


@dataclass(frozen=True)
class Labelled:
    """Features of clips, and 1 where a clip is of a class, 0 elsewhere."""

    features: Float32[np.ndarray, "clips width"]
    targets: Float32[np.ndarray, "clips classes"]

    def __len__(self) -> int:
        return len(self.features)

    def layer(self, number: int, *, of: int) -> "Labelled":
        """The `number`-th, from 1, of so many equal parts of the features."""
        width = self.features.shape[1] // of
        return Labelled(self.features[:, (number - 1) * width : number * width], self.targets)

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

    `as_released`: where there are no validation clips the test clips decide when to stop and which weights to keep, and
    nothing is held out. So the best figure that the test saw is told, as EVAR's fine-tuning code does; it is too good.
    """

    learning_rate: float = 3e-5
    clips: int = 200
    epochs: int = 200
    patience: int = 20
    held_out: float = 0.1
    seeds: tuple[int, ...] = (42, 43, 44)
    as_released: bool = False

    def __post_init__(self) -> None:
        if min(self.clips, self.epochs, self.patience) < 1 or not 0 < self.held_out < 1 or not self.seeds:
            raise ValueError(f"expected clips, epochs, patience above zero, held_out within (0, 1), a seed; got {self}")


def told(fitting: Fitting) -> str:
    """How the layer is fitted, in words, for the protocol's sentence."""
    return (
        f"Adam at {fitting.learning_rate:g}, {fitting.clips} clips a batch, at most {fitting.epochs} epochs, "
        f"an end after {fitting.patience} without a better score"
    )


@dataclass(frozen=True)
class Layer:
    """A fitted layer, the standardisation before it, and how it came about."""

    mean: Float[np.ndarray, "1 width"]
    deviation: Float[np.ndarray, "1 width"]
    weight: Float32[np.ndarray, "classes width"]
    bias: Float32[np.ndarray, "classes"]
    epoch: int
    validation_score: float
    validation_loss: float

    def __call__(self, features: Float32[np.ndarray, "clips width"]) -> Float[np.ndarray, "clips classes"]:
        """The answers for clips."""
        return ((features - self.mean) / self.deviation).astype(np.float32) @ self.weight.T + self.bias


def fit(train: Labelled, validation: Labelled | None, *, kind: Kind, fitting: Fitting, seed: int) -> Layer:
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
    best: Layer | None = None
    risen = 0
    for epoch in range(1, fitting.epochs + 1):
        for chosen in torch.from_numpy(random.permutation(len(part))).split(min(fitting.clips, len(part))):
            _loss(layer(standard[chosen]), targets[chosen], kind=kind).backward()
            optimizer.step()
            optimizer.zero_grad()
        weight, bias = layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy()
        now = Layer(mean, deviation, weight, bias, epoch, validation_score=0.0, validation_loss=0.0)
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


def num_held_out(train: Labelled, fitting: Fitting) -> int:
    """How many training clips decide when to stop, where no others do."""
    return max(1, round(fitting.held_out * len(train)))


def _held_out(train: Labelled, fitting: Fitting, random: np.random.Generator) -> tuple[Labelled, Labelled]:
    """Training clips in two: to fit on, and to decide on."""
    held = num_held_out(train, fitting)
    if held >= len(train):
        raise ValueError(f"{len(train)} training clips are too few to hold {held} out: give validation clips")
    order = random.permutation(len(train))
    return train.take(order[held:]), train.take(order[:held])
