"""The optimiser and the learning rate as functions of the step; each weight's share of the rate by its name."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lapis.train.lars import LarsOptimizer
from lapis.values import nearest


@runtime_checkable
class OptimizerConfig(Protocol):
    """A frozen value that can build an optimiser whose parameter groups have a `factor` of the learning rate."""

    def build(self, module: nn.Module) -> torch.optim.Optimizer: ...  # noqa: D102


def rates(module: nn.Module, *, factors: Mapping[str, float], layer_decay: float | None) -> dict[str, float]:
    """The share of the learning rate of every trainable parameter, by its name.

    Args:
        module: the learner.
        factors: the beginning of a name and its factor, `{"model.text_encoder": 0.1}`; the longest that fits counts.
        layer_decay: the last block of a tower has the whole rate, and every block before it that much of the next
            one's; what comes before the first block counts as one more (arXiv 2003.10555).

    Raises:
        ValueError: no trainable parameter's name begins with one of the factors' names.
    """
    names = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    shares = dict.fromkeys(names, 1.0)
    for prefix, factor in sorted(factors.items(), key=lambda item: len(item[0])):
        fitting = [name for name in names if f"{name}.".startswith(f"{prefix}.")]
        if not fitting:
            heads = sorted({".".join(name.split(".")[:2]) for name in names})
            raise ValueError(f"no trainable parameter of {prefix!r}{nearest(prefix, heads)}; there are {heads}")
        shares |= dict.fromkeys(fitting, factor)
    if layer_decay is not None:
        for name, above in _blocks_above(names).items():
            shares[name] *= layer_decay**above
    return shares


_BLOCK = re.compile(r"^(?P<tower>model\.\w+)\.(?:.*\.)?(?:blocks|layers|layer)\.(?P<number>\d+)\.")


def _blocks_above(names: list[str]) -> dict[str, int]:
    """How many blocks of its tower stand above each parameter; what the tower has before its blocks is below all."""
    matches = {name: match for name in names if (match := _BLOCK.match(name))}
    depth: dict[str, int] = {}
    for match in matches.values():
        depth[match["tower"]] = max(depth.get(match["tower"], 0), int(match["number"]) + 1)
    above: dict[str, int] = {}
    begun = set()
    for name in names:  # in the order in which the module was put together: embeddings, blocks, final norm, pooling
        tower = ".".join(name.split(".")[:2])
        if match := matches.get(name):
            begun.add(tower)
            above[name] = depth[tower] - 1 - int(match["number"])
        elif tower in depth and tower not in begun:
            above[name] = depth[tower]
    return above


def _groups(module: nn.Module, shares: Mapping[str, float], *, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters of equal share and kind together; those of two or more axes decay.

    Scalars stand apart: where weights are spread over processes they alone are whole in each.
    """
    parts: dict[tuple[int, float], list[Tensor]] = {}
    parameters = dict(module.named_parameters())
    for name, share in shares.items():
        parts.setdefault((min(parameters[name].ndim, 2), share), []).append(parameters[name])
    return [
        {"params": parts[axes, share], "weight_decay": weight_decay if axes == 2 else 0.0, "factor": share}
        for axes, share in sorted(parts, reverse=True)
    ]


@dataclass(frozen=True)
class AdamW:
    """AdamW (arXiv 1711.05101); weights of two or more axes decay, norms, biases, scales and probes of one do not.

    `factors` and `layer_decay` give weights a share of the learning rate, see `rates`.
    """

    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-6
    weight_decay: float = 0.05
    factors: Mapping[str, float] = field(default_factory=dict)
    layer_decay: float | None = None

    def __post_init__(self) -> None:
        _check_shares(self.factors, self.layer_decay)

    def build(self, module: nn.Module) -> torch.optim.AdamW:
        """The optimiser of a module's trainable parameters; its rate is set before every step."""
        shares = rates(module, factors=self.factors, layer_decay=self.layer_decay)
        groups = _groups(module, shares, weight_decay=self.weight_decay)
        return torch.optim.AdamW(groups, lr=0.0, betas=self.betas, eps=self.epsilon)


@dataclass(frozen=True)
class Lars:
    """LARS (arXiv 1708.03888): a weight's rate is proportional to its norm over its gradient's; others follow SGD.

    `factors` and `layer_decay` give weights a share of the learning rate, see `rates`.
    """

    momentum: float = 0.9
    weight_decay: float = 0.0
    trust: float = 1e-3
    factors: Mapping[str, float] = field(default_factory=dict)
    layer_decay: float | None = None

    def __post_init__(self) -> None:
        _check_shares(self.factors, self.layer_decay)

    def build(self, module: nn.Module) -> LarsOptimizer:
        """The optimiser of a module's trainable parameters; its rate is set before every step."""
        shares = rates(module, factors=self.factors, layer_decay=self.layer_decay)
        groups = _groups(module, shares, weight_decay=self.weight_decay)
        return LarsOptimizer(groups, momentum=self.momentum, trust=self.trust)


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with momentum; nothing decays.

    `factors` and `layer_decay` give weights a share of the learning rate, see `rates`.
    """

    momentum: float = 0.9
    factors: Mapping[str, float] = field(default_factory=dict)
    layer_decay: float | None = None

    def __post_init__(self) -> None:
        _check_shares(self.factors, self.layer_decay)

    def build(self, module: nn.Module) -> torch.optim.SGD:
        """The optimiser of a module's trainable parameters; its rate is set before every step."""
        shares = rates(module, factors=self.factors, layer_decay=self.layer_decay)
        return torch.optim.SGD(_groups(module, shares, weight_decay=0.0), lr=0.0, momentum=self.momentum)


def _check_shares(factors: Mapping[str, float], layer_decay: float | None) -> None:
    if min(factors.values(), default=0.0) < 0 or not (layer_decay is None or 0 < layer_decay <= 1):
        raise ValueError(
            "factors must not be negative, and layer_decay be above 0 and at most 1, "
            f"got {dict(factors)} and {layer_decay}"
        )


@runtime_checkable
class Schedule(Protocol):
    """The learning rate of a step among so many."""

    def __call__(self, step: int, *, steps: int) -> float: ...  # noqa: D102


@dataclass(frozen=True)
class Cosine:
    """Linear to `peak` over `warmup_steps`, then down half a cosine to `end` (arXiv 1608.03983, equation 5, once)."""

    peak: float
    warmup_steps: int
    end: float = 0.0

    def __call__(self, step: int, *, steps: int) -> float:
        """The rate of `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, steps - self.warmup_steps)
        return self.end + (self.peak - self.end) * (1 + math.cos(math.pi * min(1.0, done))) / 2


@dataclass(frozen=True)
class Constant:
    """Linear to `peak` over `warmup_steps`, then flat."""

    peak: float
    warmup_steps: int = 0

    def __call__(self, step: int, *, steps: int) -> float:
        """The rate of `step`, counted from 0."""
        return self.peak * min(1.0, (step + 1) / max(1, self.warmup_steps))
