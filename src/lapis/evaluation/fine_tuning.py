"""Fine-tuning: how well a task is learned by the whole audio tower and a head, by the protocol of EVAR (its
`finetune.py`, with the settings of M2D's papers, arXiv 2404.06095 and 2503.22104).

Ours is honest where the released code is not: which epoch counts is decided on validation clips, or on training clips
held out, and test clips are scored once. `Tuning(as_released=True)` is the other way, and the result says so.

It trains, so this floor stands on that of `train`: the objective, the engine, the optimisers and the masks are those of
stage 1.1 of the recipe `m2d_clap`, not a second loop.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lapis.data.classes import Kind, label_problem, labels_of
from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.evaluation.classification import METRIC, chance, recognised, score
from lapis.evaluation.fine_tuning_loop import answers, tune
from lapis.evaluation.fine_tuning_tower import Tuning, check_trainable, missing, told
from lapis.evaluation.folds import folds
from lapis.evaluation.seeded import SeededResult, over_folds, over_seeds
from lapis.evaluation.subject import Needs
from lapis.model import Embedder
from lapis.values import check_choice

__all__ = ["FineTuning", "FineTuningResult", "Tuning"]


@dataclass(frozen=True)
class FineTuningResult(SeededResult):
    """What towers scored that were trained with several seeds."""


@dataclass(frozen=True)
class FineTuning:
    """Trains a copy of a model's audio tower on the clips of `train` and measures it on those that it is given.

    Args:
        train: labelled clips; their labels are the classes. None to test each fold of the clips by the others.
        validation: clips that decide which epoch counts; None to hold out some of the training clips.
        kind: one label a clip and accuracy, or several and the mean average precision over classes.
        tuning: how it is trained.
    """

    needs: ClassVar[Needs] = "clips"

    train: SourceConfig | None
    validation: SourceConfig | None = None
    kind: Kind = "single-label"
    tuning: Tuning = Tuning()

    def __post_init__(self) -> None:
        check_choice(self.kind, Kind, name="kind")
        if self.train is None and self.validation is not None:
            raise ValueError("where folds are tested by each other there are no validation clips: expected train clips")

    def check(self, embedder: Embedder) -> None:
        """See that its tower can be trained.

        Raises:
            ValueError: it is no model of this package.
        """
        check_trainable(embedder)

    def run(self, embedder: Embedder, *, clips: Sequence[Sample]) -> FineTuningResult:
        """Measure a model on labelled test clips; it stays as it is. A line on standard error an epoch.

        Raises:
            ValueError: its tower cannot be trained; none of some clips can be read; a clip has no label, one that no
                training clip has, or several where there must be one; or a loss is not finite.
            KeyboardInterrupt: it was asked to stop.
        """
        check_trainable(embedder)
        if self.train is not None:
            validation = None if self.validation is None else self.validation.build()
            return self._tested(embedder, clips, train=self.train.build(), validation=validation, name="fine-tuning")
        parts = [(of, [clips[n] for n in of.train], [clips[n] for n in of.test]) for of in folds(clips)]
        return over_folds(
            [
                self._tested(embedder, test, train=train, validation=None, name=f"fine-tuning, test {of.name}")
                for of, train, test in parts
            ]
        )

    def _tested(
        self,
        embedder: Embedder,
        test: Sequence[Sample],
        *,
        train: Sequence[Sample],
        validation: Sequence[Sample] | None,
        name: str,
    ) -> FineTuningResult:
        model, classes, tuning = check_trainable(embedder), labels_of(train), self.tuning
        known = frozenset(classes)
        for sample in (*train, *(validation or ()), *test):
            if problem := label_problem(sample, classes=known, kind=self.kind):
                raise ValueError(problem)  # before hours of training
        decides = test if validation is None and tuning.as_released else validation
        learned = [
            (train, decides) if decides is not None else _held_out(train, tuning, seed=seed) for seed in tuning.seeds
        ]
        towers = [
            tune(
                model,
                train_clips=own,
                deciding=deciding,
                classes=classes,
                kind=self.kind,
                tuning=tuning,
                seed=seed,
                name=f"{name}, seed {seed}",
            )
            for seed, (own, deciding) in zip(tuning.seeds, learned, strict=True)
        ]
        found = [answers(tower, test, kind=self.kind) for tower in towers]
        targets = found[0].targets
        scores = [score(of.logits, targets=targets, kind=self.kind) for of in found]
        held = num_held_out(len(train), tuning) if decides is None else 0
        who = f"{held} others of the {len(train)} training clips" if decides is None else f"{len(decides)} others"
        if decides is test:
            who = "the test clips themselves, as the released code does, so that the figure is too good"
        unread = {reason for of in (*towers, *found) for reason in of.unread}
        return FineTuningResult(
            metric=METRIC[self.kind],
            **over_seeds(scores),
            validation_scores=tuple(tower.validation_score for tower in towers),
            epochs=tuple(tower.epoch for tower in towers),
            chance=chance(targets, kind=self.kind),
            num_classes=len(classes),
            num_clips=len(targets),
            protocol=(
                f"{METRIC[self.kind]} on {len(targets)} clips of the whole audio tower and a head, trained on "
                f"{len(train) - held} clips: {told(tuning, kind=self.kind)}; of its epochs the one with the best "
                f"score on {who}; the mean of {len(scores)} seeds."
                + (f" {len(unread)} clips could not be read and are not counted." if unread else "")
            ),
            unreadable=tuple(sorted(unread)),
            chosen=missing(tuning, model=model),
            seeds=tuning.seeds,
            correct=()
            if self.kind == "multi-label"
            else (np.mean([recognised(of.logits, targets=targets) for of in found], axis=0),),
        )


def num_held_out(clips: int, tuning: Tuning) -> int:
    """How many of so many training clips decide which epoch counts, where no others do."""
    return max(1, round(tuning.held_out * clips))


def _held_out(train: Sequence[Sample], tuning: Tuning, *, seed: int) -> tuple[list[Sample], list[Sample]]:
    """Training clips in two: to learn from, and to decide on."""
    held = num_held_out(len(train), tuning)
    if held >= len(train):
        raise ValueError(f"{len(train)} training clips are too few to hold {held} out: give validation clips")
    order = np.random.default_rng(seed).permutation(len(train))
    return [train[number] for number in order[held:]], [train[number] for number in order[:held]]
