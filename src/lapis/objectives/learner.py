"""What the loop trains: a model, its objectives and their weights, behind one `forward` that gives a total.

DDP, FSDP and compilation see only what passes through a wrapped module's `forward`; the learner is that module.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lapis.data.batching import Batch
from lapis.data.sample import Sample
from lapis.model import JointModel, Logits
from lapis.ragged import Ragged


class Encoded:
    """The towers' answers to one batch, each computed when first asked for and at most once.

    An objective that hears a batch in its own way gives its `tokens` to the objectives that it holds.
    """

    def __init__(self, model: JointModel, batch: Batch, *, tokens: Ragged | None = None) -> None:
        self._model, self._batch = model, batch
        if tokens is not None:
            self.tokens = tokens

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

    vectors_only = False
    """Whether it takes from the model only `encoded.audio` and `encoded.text`; the cached step can serve no other."""

    def forward(self, model: JointModel, batch: Batch, encoded: Encoded) -> dict[str, Float[Tensor, ""]]:
        """The named terms of this loss, unweighted."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def measures(self) -> dict[str, Float[Tensor, ""]]:
        """What the last forward saw beside its terms, without gradient: for the report."""
        return {}

    def after_step(self, model: JointModel, *, step: int) -> None:
        """What moves without a gradient: averages of weights, centres."""

    def check(self, samples: Iterable[Sample]) -> None:
        """Look at what it will be given, before the first step.

        Raises:
            ValueError: it cannot learn from some of them.
        """

    def logits(self) -> Logits | None:
        """How cosines become logits by now, where this objective compares sounds with texts."""
        return None


@runtime_checkable
class ObjectiveConfig(Protocol):
    """A frozen value that can build an objective for a model."""

    def build(self, model: JointModel) -> Objective: ...  # noqa: D102


@dataclass(frozen=True)
class Step:
    """What a step of the learner found."""

    total: Float[Tensor, ""]
    losses: dict[str, Float[Tensor, ""]]
    measures: dict[str, Float[Tensor, ""]] = field(default_factory=dict)


class Learner(nn.Module):
    """A model with its objectives."""

    def __init__(self, model: JointModel, objectives: Sequence[Objective], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.model = model
        self.objectives = nn.ModuleList(objectives)
        self.weights = dict(weights)

    def forward(self, batch: Batch, work: Callable[["Learner", Batch], Any] | None = None) -> Any:
        """The `losses` of a batch; or what other `work` finds, since wrappers see only what goes through here."""
        return work(self, batch) if work else self.losses(batch, Encoded(self.model, batch))

    def losses(self, batch: Batch, encoded: Encoded) -> Step:
        """All losses of a batch and their weighted sum."""
        losses: dict[str, Tensor] = {}
        measures: dict[str, Tensor] = {}
        for objective in self.objectives:
            found = objective(self.model, batch, encoded)
            if repeated := found.keys() & losses.keys():
                raise ValueError(f"two objectives name a term {sorted(repeated)[0]!r}: every term needs its own name")
            losses |= found
            assert isinstance(objective, Objective)
            measures |= objective.measures()
        return Step(total=weighted(losses, self.weights), losses=losses, measures=measures)

    def logits(self) -> Logits | None:
        """Those of the first objective that has some."""
        found = [objective.logits() for objective in self.objectives if isinstance(objective, Objective)]
        return next((logits for logits in found if logits is not None), None)

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
