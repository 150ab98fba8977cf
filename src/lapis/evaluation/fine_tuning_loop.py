"""What learns in fine-tuning: a copy of an audio tower and a head of classes, by the package's own engine of training.

Nothing of the model that was given is touched: the copy has weights of its own, and torch's random state is as before
when it has been trained.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from lapis.audio_encoders.m2d import M2d
from lapis.data.batching import Budget
from lapis.data.captions import Captions
from lapis.data.classes import Kind, class_targets
from lapis.data.loader import Loader, Reading
from lapis.data.mixture import Mixture, Part
from lapis.data.sample import Sample
from lapis.evaluation.classification import METRIC, score
from lapis.evaluation.embeddings import as_embeddings
from lapis.evaluation.fine_tuning_tower import Tuning, trainable
from lapis.model import JointModel
from lapis.objectives.classify import Classify, classification_loss
from lapis.objectives.learner import Learner
from lapis.shapes import Vectors, Waveforms
from lapis.train.checkpoint import Checkpoints
from lapis.train.line import Line
from lapis.train.loop import Training, train
from lapis.train.optim import Cosine
from lapis.train.report import Report, progress_bar


@dataclass(frozen=True, eq=False)
class Tuned:
    """A trained tower with its head, a `Listener` whose vectors are the head's answers, as it was after one epoch."""

    model: JointModel
    objective: Classify
    epoch: int = 0
    validation_score: float = -np.inf
    validation_loss: float = np.inf
    unread: tuple[str, ...] = ()
    """Clips that could not be learned from or decide, and why."""
    identity: str = "a tower in fine-tuning"

    @property
    def sample_rate(self) -> int:
        """Of the waveforms, in hertz."""
        return self.model.sample_rate

    @property
    def width(self) -> int:
        """The number of classes."""
        return len(self.objective.classes)

    def embed_audio(self, waveforms: Waveforms) -> Vectors:
        """The answers of whole clips, without anything that is random in training."""
        head = self.objective.head
        assert head is not None  # `trainable` makes towers without one
        training = head.training
        head.eval()
        try:
            return self.model.audio_features(waveforms, of=lambda tokens: head(tokens.mean()), width=self.width)
        finally:
            head.train(training)


@dataclass(frozen=True)
class Given:
    """Clips as a source."""

    samples: tuple[Sample, ...]

    def build(self) -> list[Sample]:
        """Themselves."""
        return list(self.samples)


def tune(
    model: JointModel,
    *,
    train_clips: Sequence[Sample],
    deciding: Sequence[Sample],
    classes: tuple[str, ...],
    kind: Kind,
    tuning: Tuning,
    seed: int,
    name: str = "fine-tuning",
) -> Tuned:
    """The tower and head as they were after the epoch with the best score on the clips that decide.

    Args:
        model: whose tower is copied and trained; it stays as it is.
        train_clips: labelled clips to learn from.
        deciding: labelled clips that decide which epoch counts.
        classes: their names, in the order of the head's answers.
        kind: one label a clip, or several.
        tuning: how it is trained.
        seed: of all that is random.
        name: what the bar of progress says.

    Raises:
        ValueError: a loss or gradient is not finite, or none of some clips can be read.
        KeyboardInterrupt: it was asked to stop.
    """
    devices = [model.device] if model.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        copy = trainable(model, tuning=tuning)
        config = Classify.Config(
            classes=classes,
            kind=kind,
            divided=tuning.divided and kind == "single-label",
            masking=tuning.masking if isinstance(copy.audio_encoder, M2d) else None,
            mixup=tuning.mixup,
            seed=seed,
        )
        objective = config.build(copy).to(copy.device)
        best = _Best(Tuned(copy, objective), deciding, kind=kind)
        clips = min(tuning.clips, len(train_clips))
        balanced = None if tuning.balanced_draws is None else min(tuning.balanced_draws, len(train_clips))
        an_epoch = max(1, (balanced or len(train_clips)) // clips)
        steps = an_epoch * tuning.epochs
        part = Part(Given(tuple(train_clips)), balanced_draws=balanced)
        mixture = Mixture.Config(parts=(part,), captions=Captions(needed=False)).build(seed=seed)
        budget = Budget(clips=clips, seconds=clips * tuning.clip_seconds, clip_seconds=tuning.clip_seconds)
        bar = Bar(name, steps=steps)
        progress = train(
            Learner(copy, [objective], {"classify": 1.0}),
            batches=Loader(mixture, budget=budget, sample_rate=copy.sample_rate, reading=_reading()).batches,
            optimizer_config=tuning.optimizer,
            schedule=Cosine(peak=tuning.learning_rate, warmup_steps=tuning.warmup_epochs * an_epoch, end=1e-7),
            # Nothing is clipped: such a norm is never reached.
            training=Training(
                steps=steps, clip_norm=1e9, precision=tuning.precision, validate_every=an_epoch, save_every=steps
            ),
            checkpoints=Checkpoints(Path(folder), recipe={}),
            report=bar,
            validate=best.validate,
            export=lambda trained, under, further: None,
            seed=seed,
        )
        if progress.step < steps:
            raise KeyboardInterrupt
        return replace(best.restored(), unread=(*bar.unread, *best.unread))


class _Best:
    """The best epoch by now, and a copy of the weights as they were then."""

    def __init__(self, now: Tuned, deciding: Sequence[Sample], *, kind: Kind) -> None:
        self._now, self._deciding = now, deciding
        self._kind: Kind = kind
        self._best, self._epoch = now, 0
        self._states: list[dict[str, Tensor]] = []
        self.unread: tuple[str, ...] = ()
        """Deciding clips that cannot be read, and why."""

    def validate(self, model: JointModel) -> Mapping[str, float]:
        """Measure, and keep the weights where they are better than any before."""
        self._epoch += 1
        found = answers(self._now, self._deciding, kind=self._kind)
        self.unread = found.unread
        logits, targets = torch.from_numpy(found.logits), torch.from_numpy(found.targets)
        loss = float(classification_loss(logits, targets=targets, kind=self._kind))
        measured = score(found.logits, targets=found.targets, kind=self._kind)
        if (measured, -loss) > (self._best.validation_score, -self._best.validation_loss):
            self._best = replace(self._now, epoch=self._epoch, validation_score=measured, validation_loss=loss)
            self._states = [
                {name: tensor.detach().cpu().clone() for name, tensor in part.state_dict().items()}
                for part in (self._now.model, self._now.objective)
            ]
        return {METRIC[self._kind]: measured}

    def restored(self) -> Tuned:
        """With the weights of the best epoch."""
        for part, state in zip((self._best.model, self._best.objective), self._states, strict=True):
            part.load_state_dict(state)
        return self._best


@dataclass(frozen=True, eq=False)
class Answers:
    """Of those clips that can be read what the head answers, and the classes they have."""

    logits: Float32[np.ndarray, "clips classes"]
    targets: Float32[np.ndarray, "clips classes"]
    unread: tuple[str, ...]
    """The others, and why."""


def answers(tuned: Tuned, clips: Sequence[Sample], *, kind: Kind) -> Answers:
    """What a trained tower answers.

    Raises:
        ValueError: no clip can be read.
    """
    read = as_embeddings(tuned, clips=clips, unit=False)
    targets = class_targets(read.samples, classes=tuned.objective.classes, kind=kind)
    return Answers(read.vectors, targets, tuple(str(failure) for failure in read.failures))


class Bar(Report):
    """A report that leaves nothing behind: a bar on a terminal, and else a line at the end of an epoch."""

    def __init__(self, name: str, *, steps: int) -> None:
        super().__init__(Path(), name=name, steps=steps)
        self._bar = progress_bar(self._console)

    @property
    def unread(self) -> tuple[str, ...]:
        """Clips that could not be learned from, and why."""
        return tuple(self._dropped)

    @contextmanager
    def following(self, step: int) -> Iterator[None]:
        """The bar is there while the block runs."""
        with self._bar:
            self._task = self._bar.add_task(self._name, total=self._steps, completed=step, text="")
            yield

    def step(self, step: int, line: Line) -> None:
        """One step was taken."""
        self._dropped.update(f"{drop.name}: {drop.reason}" for drop in line.dropped)
        self._bar.update(self._task, completed=step, text=f"loss {line.losses['classify']:.3f}")

    def validation(self, step: int, *, scores: Mapping[str, float]) -> None:
        """The tower was measured on the clips that decide."""
        told = "  ".join(f"{name} {score:.3f}" for name, score in scores.items())
        self._console.print(f"{self._name}: step {step} of {self._steps}  {told}", markup=False, highlight=False)

    def end(self, *, stopped: bool) -> None:
        """Say what was left out."""
        for reason, count in self._dropped.most_common(5):
            self._console.print(f"  not learned from, {count} x {reason}", markup=False)


def _reading() -> Reading:
    """Workers where there are processors for them; the batches are the same with any number."""
    return Reading(workers=max(0, min(8, (os.cpu_count() or 1) - 2)), keep_bytes=1 << 30)
