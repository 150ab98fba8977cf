"""The optimiser and the learning rate as functions of the step."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import nn


@dataclass(frozen=True)
class AdamW:
    """AdamW (arXiv 1711.05101); weights of two or more axes decay, norms, biases, scales and probes of one do not."""

    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-6
    weight_decay: float = 0.05

    def build(self, module: nn.Module) -> torch.optim.AdamW:
        """The optimiser of a module's trainable parameters; its rate is set before every step."""
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=0.0, betas=self.betas, eps=self.epsilon)


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
