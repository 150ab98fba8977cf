"""The one loop. It knows a learner that gives a total and named losses, and nothing of audio or text."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lapis import distributed
from lapis.data.batching import Batch
from lapis.model import JointModel
from lapis.objectives.learner import Learner
from lapis.train.average import Average
from lapis.train.checkpoint import Checkpoints, Progress
from lapis.train.compiled import compiled_blocks
from lapis.train.frozen import frozen_features
from lapis.train.interrupt import stop_on_signal
from lapis.train.line import together
from lapis.train.meter import FlopMeter, count_tokens
from lapis.train.optim import OptimizerConfig, Schedule
from lapis.train.parallel import Engine
from lapis.train.recompute import recomputed_blocks
from lapis.train.report import Report
from lapis.train.step import Precision, Stepper


@dataclass(frozen=True)
class Training:
    """How long, how often, how precisely.

    `accumulate`: batches whose gradients are averaged for one step. Clips of different batches are not compared with
    each other: it saves memory and adds no negatives. `cached_clips`: a batch goes through the towers twice, in
    parts of so many clips, and all its clips are compared with each other (`cached.py`). `average`: decay of a moving
    average of the weights, which is then what is validated, and saved beside them. `keep_best`: name of a validation
    score; the model that had the highest is kept. `checkpoint_activations`: compute transformer blocks twice and keep
    less. `compile`: run norms and feed-forwards of transformer blocks compiled (`compiled.py`). `sharded`: with
    several processes, spread weights and optimiser over them in place of copies. `count_operations`: measure the
    device's matrix speed at the beginning, and report which share of it every step reaches. `frozen_features`: bytes
    of memory, for each tower that learns nothing, to keep what it answered to a clip or a text (`frozen.py`); None
    computes it anew every time. `frozen_folder`: for files of the same, which other runs find too; they know no bound.
    """

    steps: int
    clip_norm: float = 1.0
    precision: Precision = "float32"
    validate_every: int = 100
    save_every: int = 100
    accumulate: int = 1
    cached_clips: int | None = None
    average: float | None = None
    keep_best: str | None = None
    checkpoint_activations: bool = False
    compile: bool = False
    sharded: bool = False
    count_operations: bool = False
    frozen_features: int | None = None
    frozen_folder: str | None = None

    def __post_init__(self) -> None:
        if min(self.steps, self.validate_every, self.save_every, self.accumulate) < 1 or self.clip_norm <= 0:
            raise ValueError(
                f"steps, validate_every, save_every, accumulate and clip_norm must be above zero, got {self}"
            )
        if self.cached_clips is not None and self.cached_clips < 1:
            raise ValueError(f"cached_clips must be above zero, or None for one pass, got {self.cached_clips}")
        if self.cached_clips is not None and self.sharded:
            # Spread weights are gathered by all processes at once, and one may have more parts than another.
            raise ValueError("cached_clips and sharded do not go together: use one or the other")
        if self.frozen_features is not None and (self.frozen_features < 0 or self.sharded):
            # Spread weights are gathered by all processes at once, and each has other clips to compute.
            raise ValueError(f"frozen_features are bytes, and do not go together with sharded, got {self}")
        if self.frozen_features is not None and self.count_operations:
            # They are counted in the first step, where nothing is known yet: the share would be too high later.
            raise ValueError("frozen_features and count_operations do not go together: use one or the other")
        if self.frozen_folder is not None and self.frozen_features is None:
            raise ValueError("frozen_folder needs frozen_features, bytes of memory (0 for none), too")
        if self.compile and self.sharded:
            raise ValueError("compile and sharded do not go together: use one or the other")
        if self.average is not None and not 0 <= self.average < 1:
            raise ValueError(f"average must be a decay of at least 0 and below 1, got {self.average}")


Export = Callable[[JointModel, str, Mapping[str, Tensor]], None]
"""Writes a model under a name. What its objectives have learned beside it is given too, by the names of the tensors in
the learner's list of them; it has no moving average."""


def train(
    learner: Learner,
    *,
    batches: Callable[[int], Iterator[Batch]],
    optimizer_config: OptimizerConfig,
    schedule: Schedule,
    training: Training,
    checkpoints: Checkpoints,
    report: Report,
    validate: Callable[[JointModel], Mapping[str, float]],
    export: Export,
    seed: int = 0,
) -> Progress:
    """Take the steps from the newest checkpoint, or from none, to the last; returns how far the run came.

    Args:
        learner: what is trained.
        batches: those of this process from a position on.
        optimizer_config: of the optimiser.
        schedule: of the learning rate.
        training: how long, how often, how precisely.
        checkpoints: where the run is saved.
        report: where it is told.
        validate: measures a model; called in the first process only.
        export: writes the model under a name: "" at the end, "average", "best"; called in the first process only.
        seed: of all that is random in a step.

    Raises:
        ValueError: the total or the gradient of a batch is not finite, or a batch of one process cannot be read.
    """
    engine = Engine(learner, sharded=training.sharded)
    device, dtype = next(learner.parameters()).device, getattr(torch, training.precision)
    optimizer = optimizer_config.build(learner)
    average = Average(learner.model, decay=training.average)
    stepper = Stepper(
        engine,
        optimizer,
        precision=training.precision,
        clip_norm=training.clip_norm,
        seed=seed,
        cached_clips=training.cached_clips,
    )
    meter = FlopMeter(device=device, dtype=dtype, enabled=training.count_operations)
    parts = {"learner": learner, "optimizer": optimizer, "scaler": stepper.scaler, "average": average}
    learner.train()
    progress, stopping = checkpoints.restore(parts), False
    stream = batches(progress.position)
    with (
        report.following(progress.step),
        stop_on_signal() as stop,
        compiled_blocks(learner, enabled=training.compile),
        recomputed_blocks(learner, enabled=training.checkpoint_activations),
        frozen_features(learner.model, memory_bytes=training.frozen_features, folder=training.frozen_folder) as frozen,
    ):
        while progress.step < training.steps and not stopping:
            began = time.perf_counter()
            group = distributed.together(lambda: [next(stream) for _ in range(training.accumulate)])
            loaded = time.perf_counter()
            tokens = count_tokens(learner, group)
            rate = schedule(progress.step, steps=training.steps)
            with meter.counting(tokens=tokens):
                taken = stepper([batch.to(device) for batch in group], step=progress.step, rate=rate)
            taken = replace(taken, measures=taken.measures | frozen.measures())
            engine.after_step(step=progress.step)
            average.update(step=progress.step)
            progress = replace(progress, step=progress.step + 1, position=group[-1].position)
            seconds = time.perf_counter() - began
            line = together(
                group,
                taken=taken,
                sample_rate=learner.model.sample_rate,
                tokens=tokens,
                learning_rate=rate,
                wait_seconds=loaded - began,
                exchange_seconds=engine.waited.seconds(),
                step_seconds=seconds,
                speed_share=meter.share(tokens=tokens, seconds=seconds),
                stop=stop.requested,
            )
            report.step(progress.step, line)
            stopping, last = line.stop, progress.step == training.steps
            if last or progress.step % training.validate_every == 0:
                with average.in_place():
                    progress = _validate(engine, progress, training, validate=validate, export=export, report=report)
            if last or stopping or progress.step % training.save_every == 0:
                checkpoints.save(progress, parts)
    if progress.step == training.steps:
        _export(engine, "", export=export)
        with average.in_place():
            if training.average is not None:
                _export(engine, "average", export=export)
    report.end(stopped=progress.step < training.steps)
    return progress


def _validate(
    engine: Engine,
    progress: Progress,
    training: Training,
    *,
    validate: Callable[[JointModel], Mapping[str, float]],
    export: Export,
    report: Report,
) -> Progress:
    """Measure in the first process, and keep the model if it is the best by now."""
    model = engine.whole_model()
    scores = distributed.from_first(lambda: dict(validate(model)))
    report.validation(progress.step, scores=scores)
    if training.keep_best is None:
        return progress
    if training.keep_best not in scores:
        raise ValueError(f"keep_best: no score {training.keep_best!r} among {sorted(scores)}")
    score = scores[training.keep_best]
    if progress.best is not None and score <= progress.best:
        return progress
    _export(engine, "best", export=export)
    return replace(progress, best=score)


def _export(engine: Engine, name: str, *, export: Export) -> None:
    model, objectives = engine.whole_model(), engine.whole_objectives()
    distributed.from_first(lambda: export(model, name, objectives))
