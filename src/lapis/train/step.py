"""One step of the optimiser: gradients of one batch or several, in any precision, guarded, clipped and applied."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from lapis import distributed
from lapis.data.batching import Batch
from lapis.data.order import hash_numbers
from lapis.objectives.learner import Step
from lapis.train.cached import cached_backward
from lapis.train.parallel import Engine

Precision = Literal["float32", "bfloat16", "float16"]
"""Of activations and their products; weights, their averages and the optimiser stay float32."""

SMALLEST_SCALE = 2.0**-10
"""A float16 loss that is scaled down this far and still gives no finite gradient has none."""


@dataclass(frozen=True)
class Taken:
    """What a step found in this process: means over its batches."""

    total: float
    losses: dict[str, float]
    gradient_norm: float
    """Before clipping, over all processes; not finite where float16 overflowed and the step was skipped."""
    measures: dict[str, float]


class Stepper:
    """Takes steps. What is random in a step is a function of the seed, the step, the batch's place and the process."""

    def __init__(
        self,
        engine: Engine,
        optimizer: torch.optim.Optimizer,
        *,
        precision: Precision,
        clip_norm: float,
        seed: int,
        cached_clips: int | None = None,
    ) -> None:
        """With `cached_clips` a batch is worked on in parts of so many clips, all compared with each other."""
        self._cached_clips = cached_clips
        self._engine, self._optimizer = engine, optimizer
        self._precision, self._clip_norm, self._seed = precision, clip_norm, seed
        self._device = next(engine.learner.parameters()).device
        self.scaler = torch.amp.GradScaler(self._device.type, enabled=precision == "float16")

    def __call__(self, batches: Sequence[Batch], *, step: int, rate: float) -> Taken:
        """Move the weights by the mean gradient of the batches. A batch's clips are compared with each other only.

        Raises:
            ValueError: a loss or the gradient is not finite, in every process, naming the batch and whose it is.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        found = [self._backward(batch, step=step, place=place, of=len(batches)) for place, batch in enumerate(batches)]
        self.scaler.unscale_(self._optimizer)
        norm = self._engine.clip(self._clip_norm)
        total = sum(of.total.item() for of in found) / len(found)
        overflowed = not math.isfinite(norm) and self.scaler.is_enabled() and self.scaler.get_scale() > SMALLEST_SCALE
        self._guard(batches, step=step, total=total, norm=0.0 if overflowed else norm)
        self.scaler.step(self._optimizer)
        self.scaler.update()
        self._optimizer.zero_grad()
        return Taken(total, _means([of.losses for of in found]), norm, _means([of.measures for of in found]))

    def _backward(self, batch: Batch, *, step: int, place: int, of: int) -> Step:
        """Add a batch's share to the gradients."""
        torch.manual_seed(hash_numbers(self._seed, step, place, distributed.rank()))
        half = torch.float16 if self._precision == "float16" else torch.bfloat16
        autocast = partial(torch.autocast, self._device.type, half, enabled=self._precision != "float32")
        last = place == of - 1
        if self._cached_clips is not None:
            found = cached_backward(
                self._engine,
                batch,
                clips=self._cached_clips,
                last=last,
                autocast=autocast,
                scaled=lambda total: self.scaler.scale(total / of),
            )
        else:
            with self._engine.exchange(last=last):
                with autocast():
                    found = self._engine.forward(batch)
                self.scaler.scale(found.total / of).backward()
        self._engine.waited.end()
        return found

    def _guard(self, batches: Sequence[Batch], *, step: int, total: float, norm: float) -> None:
        """Stop all processes where the gradient, which they share, or the total of one of them is not finite."""
        finite = math.isfinite(norm)
        sound = finite or all(bool(batch.waveforms.rows.isfinite().all()) for batch in batches)
        healths = distributed.gather_numbers([float(good) for good in (sound, math.isfinite(total), finite)])
        if all(all(health) for health in healths):
            return
        culprit = healths.index(min(healths))  # first whose sound is not finite, else whose total is not
        clips = ", ".join(str(draw.sample.audio) for batch in batches for draw in batch.draws[:8])
        message = (
            f"step {step} of process {culprit}: expected a finite loss and gradient, got {total} and {norm}; "
            f"the batch began with {clips}"
        )
        raise ValueError(distributed.gather_values(message)[culprit])


def _means(of_batches: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    return {name: sum(of[name].item() for of in of_batches) / len(of_batches) for name in of_batches[0]}
