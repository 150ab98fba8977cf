"""What the loop trains: a model, its objectives and their weights, behind one `forward` that gives a total.

DDP, FSDP and compilation see only what passes through a wrapped module's `forward`; the learner is that module.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lapis.data.batching import Batch
from lapis.model import JointModel
from lapis.ragged import Ragged


class Encoded:
    """The towers' answers to one batch, each computed when first asked for and at most once."""

    def __init__(self, model: JointModel, batch: Batch) -> None:
        self._model, self._batch = model, batch

    @cached_property
    def tokens(self) -> Ragged:
        """Dense audio features."""
        return self._model.audio_tokens(self._batch.waveforms)

    @cached_property
    def audio(self) -> Float[Tensor, "clips width"]:
        """Unit vectors of the clips."""
        return self._model.project_audio(self.tokens)

    @cached_property
    def text(self) -> Float[Tensor, "clips width"]:
        """Unit vectors of the captions."""
        return self._model.encode_text(self._batch.captions)


class Objective(nn.Module):
    """A loss and the parameters only training needs. Abstract: an objective is a file with one such class."""

    def forward(self, model: JointModel, batch: Batch, encoded: Encoded) -> dict[str, Float[Tensor, ""]]:
        """The named terms of this loss, unweighted."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def after_step(self, model: JointModel, *, step: int) -> None:
        """What moves without a gradient: averages of weights, centres."""


@runtime_checkable
class ObjectiveConfig(Protocol):
    """A frozen value that can build an objective for a model."""

    def build(self, model: JointModel) -> Objective: ...  # noqa: D102


@dataclass(frozen=True)
class Step:
    """What a step of the learner found."""

    total: Float[Tensor, ""]
    losses: dict[str, Float[Tensor, ""]]


class Learner(nn.Module):
    """A model with its objectives."""

    def __init__(self, model: JointModel, objectives: Sequence[Objective], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.model = model
        self.objectives = nn.ModuleList(objectives)
        self.weights = dict(weights)

    def forward(self, batch: Batch) -> Step:
        """All losses of a batch and their weighted sum."""
        encoded = Encoded(self.model, batch)
        losses: dict[str, Tensor] = {}
        for objective in self.objectives:
            found = objective(self.model, batch, encoded)
            if repeated := found.keys() & losses.keys():
                raise ValueError(f"two objectives name a term {sorted(repeated)[0]!r}: every term needs its own name")
            losses |= found
        return Step(total=weighted(losses, self.weights), losses=losses)

    def after_step(self, *, step: int) -> None:
        """Let every objective move what has no gradient."""
        for objective in self.objectives:
            assert isinstance(objective, Objective)
            objective.after_step(self.model, step=step)


def weighted(losses: Mapping[str, Tensor], weights: Mapping[str, float]) -> Float[Tensor, ""]:
    """The sum of weight times loss over the names.

    Raises:
        ValueError: a name stands in the losses or in the weights and not in the other.
    """
    if losses.keys() != weights.keys():
        raise ValueError(f"the recipe weighs {sorted(weights)}, the objectives gave {sorted(losses)}")
    return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
