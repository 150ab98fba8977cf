"""An exponential moving average of a model's trainable weights: often better than the weights themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class Average:
    """average = decay * average + (1 - decay) * weights after every step (arXiv 1412.6980, section 7.2).

    In the first steps the decay is (1 + step) / (10 + step) where that is less, so that the start is forgotten soon.
    Without a decay there is no average, and every method does nothing.
    """

    def __init__(self, model: nn.Module, *, decay: float | None) -> None:
        self.decay = decay
        trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._weights = trained if decay is not None else {}
        self._averages = {name: weight.detach().clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def update(self, *, step: int) -> None:
        """Follow the weights after a step, counted from 0."""
        if self.decay is not None:
            share = 1 - min(self.decay, (1 + step) / (10 + step))
            for name, weight in self._weights.items():
                self._averages[name].lerp_(weight.detach(), share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has its averaged weights while the block runs, and exactly its own again afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, weight in self._weights.items():
            own = weight.detach().clone()
            weight.copy_(self._averages[name])
            self._averages[name].copy_(own)

    def state_dict(self) -> dict[str, Any]:
        """The averages by the names of their weights."""
        return dict(self._averages)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the averages of an earlier run."""
        with torch.no_grad():
            for name, average in self._averages.items():
                average.copy_(state[name])
