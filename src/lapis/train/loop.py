"""The one loop. It knows a learner that gives a total and named losses, and nothing of audio or text."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from lapis import distributed
from lapis.data.batching import Batch
from lapis.objectives.learner import Learner
from lapis.train.checkpoint import Checkpoints, Progress
from lapis.train.interrupt import stop_on_signal
from lapis.train.optim import AdamW, Schedule
from lapis.train.report import Report


@dataclass(frozen=True)
class Training:
    """How long, how often, how precisely."""

    steps: int
    clip_norm: float = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"
    validate_every: int = 100
    save_every: int = 100

    def __post_init__(self) -> None:
        if min(self.steps, self.validate_every, self.save_every) < 1 or self.clip_norm <= 0:
            raise ValueError(f"steps, validate_every, save_every and clip_norm must be above zero, got {self}")


def train(
    learner: Learner,
    *,
    batches: Callable[[int], Iterator[Batch]],
    optimizer_config: AdamW,
    schedule: Schedule,
    training: Training,
    checkpoints: Checkpoints,
    report: Report,
    validate: Callable[[], Mapping[str, float]],
) -> Progress:
    """Take the steps from the newest checkpoint, or from none, to the last; returns how far the run came.

    Raises:
        ValueError: the total or the gradient of a batch is not finite.
    """
    device = next(learner.parameters()).device
    optimizer = optimizer_config.build(learner)
    learner.train()
    progress = checkpoints.restore(learner=learner, optimizer=optimizer)
    stream = batches(progress.position)
    with report.following(progress.step), stop_on_signal() as stop:
        while progress.step < training.steps and not stop.requested:
            began = time.perf_counter()
            batch = next(stream).to(device)
            loaded = time.perf_counter()
            rate = schedule(progress.step, steps=training.steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
                found = learner(batch)
            found.total.backward()
            norm = float(nn.utils.clip_grad_norm_(learner.parameters(), training.clip_norm))
            if not math.isfinite(norm):
                raise ValueError(_not_finite(batch, step=progress.step, total=found.total.item(), norm=norm))
            optimizer.step()
            optimizer.zero_grad()
            learner.after_step(step=progress.step)
            progress = Progress(progress.step + 1, batch.position)
            losses = {name: loss.item() for name, loss in found.losses.items()}
            report.step(
                progress.step,
                batch=batch,
                total=found.total.item(),
                losses=losses,
                learning_rate=rate,
                gradient_norm=norm,
                wait_seconds=loaded - began,
                step_seconds=time.perf_counter() - began,
            )
            last = progress.step == training.steps
            if last or stop.requested or progress.step % training.save_every == 0:
                checkpoints.save(progress, learner=learner, optimizer=optimizer)
            if last or progress.step % training.validate_every == 0:
                report.validation(progress.step, scores=validate())
    report.end(stopped=progress.step < training.steps)
    return progress


def _not_finite(batch: Batch, *, step: int, total: float, norm: float) -> str:
    clips = ", ".join(str(draw.sample.audio) for draw in batch.draws[:8])
    return (
        f"step {step} of process {distributed.rank()}: expected a finite loss and gradient, got {total} and {norm}; "
        f"the batch began with {clips}"
    )
