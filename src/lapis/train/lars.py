"""LARS: momentum whose rate is set for each weight by the ratio of its norm to its gradient's (arXiv 1708.03888)."""

from collections.abc import Callable
from typing import Any

import torch


class LarsOptimizer(torch.optim.Optimizer):
    """Layer-wise adaptive rates for weights of two or more axes; those of one axis follow plain momentum."""

    def __init__(self, groups: list[dict[str, Any]], *, momentum: float, trust: float) -> None:
        super().__init__(groups, {"lr": 0.0, "momentum": momentum, "trust": trust, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  (no closure, no loss)
        """Equations 6 and 7 of the paper: v = m v + lr local (g + decay w), w = w - v."""
        if closure is not None:
            raise ValueError("this optimiser takes no closure")
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                change = weight.grad + group["weight_decay"] * weight
                if weight.ndim >= 2:
                    change = change * _local_rate(weight, trust=group["trust"], weight_decay=group["weight_decay"])
                state = self.state[weight]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(weight)
                state["momentum"].mul_(group["momentum"]).add_(change * group["lr"])
                weight.sub_(state["momentum"])


def _local_rate(weight: torch.Tensor, *, trust: float, weight_decay: float) -> torch.Tensor:
    """trust |w| / (|g| + decay |w|); 1 where a norm is zero, so that a weight can leave zero."""
    assert weight.grad is not None
    norm, of_gradient = weight.norm(), weight.grad.norm()
    ratio = trust * norm / (of_gradient + weight_decay * norm)
    return torch.where((norm > 0) & (of_gradient > 0), ratio, torch.ones_like(ratio))
