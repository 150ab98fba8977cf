"""Classes of clips, one or several each: M2D-CLAP's stage 1.1 on AudioSet, and fine-tuning on any labelled corpus.

Every process takes the loss of the clips of all, normalised together, so that a step does not depend on how many
processes share it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor

from lapis import distributed
from lapis.audio_encoders.m2d import ClassHead, M2d
from lapis.data.batching import Batch, Draw
from lapis.data.classes import Kind, class_names, class_targets, label_problem
from lapis.data.mixing import Pairs, overlaid, pairs
from lapis.data.sample import Sample
from lapis.layers.masking import Masking
from lapis.model import JointModel
from lapis.objectives.learner import Encoded, Objective
from lapis.objectives.visible import m2d_of, parts_of, through
from lapis.ragged import Ragged
from lapis.values import check_choice


class Classify(Objective):
    """The term `classify`, by the head of M2D's tower where it has one, else by a head that only training has."""

    @dataclass(frozen=True)
    class Config:
        """As plain as can be: neither mask nor mixture.

        Args:
            classes: their names, in the order of the head's answers; or a file in the data folder with a name a line.
            kind: "multi-label" for binary cross-entropy, the mean over clips and classes; "single-label" for
                cross-entropy, the mean over clips.
            divided: divide the latter by the number of classes, as M2D's released code does.
            masking: which patches are left out while training; for M2D's tower.
            complete_to: as `M2d.embedded` takes it.
            mixup: parameter of the Beta distribution of shares, see `lapis.data.mixing`; 0 mixes nothing.
            seed: decides masks and mixtures, together with the numbers of the draws.
        """

        classes: tuple[str, ...] | str
        kind: Kind = "multi-label"
        divided: bool = False
        masking: Masking | None = None
        complete_to: int | None = None
        mixup: float = 0.0
        seed: int = 0

        def __post_init__(self) -> None:
            check_choice(self.kind, Kind, name="kind")
            if self.mixup < 0:
                raise ValueError(f"mixup: expected at least 0, got {self.mixup}")
            if self.divided and self.kind == "multi-label":
                raise ValueError("divided: the mean of a multi-label loss goes over the classes in any case")

        def build(self, model: JointModel) -> "Classify":
            """The objective, with a fresh head where the tower has none.

            Raises:
                ValueError: the tower's head has another number of classes, the classes cannot be read, or patches are
                    to be left out of a tower that has none.
            """
            return Classify(self, model)

    def __init__(self, config: Config, model: JointModel) -> None:
        super().__init__()
        self.config, self.classes = config, class_names(config.classes)
        if config.masking is not None or config.complete_to is not None:
            m2d_of(model)
        head = _head_of(model)
        if head is not None and head.linear.out_features != len(self.classes):
            have = head.linear.out_features
            raise ValueError(f"model.audio.classes is {have}, and the objective names {len(self.classes)} classes")
        encoder = model.audio_encoder
        width = encoder.config.width if isinstance(encoder, M2d) else encoder.width
        self.head = ClassHead(width, len(self.classes)) if head is None else None

    def check(self, samples: Iterable[Sample]) -> None:
        """See that every clip has a label, and all are among the classes.

        Raises:
            ValueError: some have not; it says how many, and which the first ones are.
        """
        known = frozenset(self.classes)
        found = (label_problem(sample, classes=known, kind=self.config.kind) for sample in samples)
        if problems := [problem for problem in found if problem]:
            raise ValueError(f"{len(problems)} clips cannot be learned from: {'; '.join(problems[:3])}")

    def forward(self, model: JointModel, batch: Batch, encoded: Encoded) -> dict[str, Float[Tensor, ""]]:
        """The term `classify`, over the clips of all processes.

        Raises:
            ValueError: a clip has no label, one that is none of the classes, or several where there must be one.
        """
        config, waveforms = self.config, batch.waveforms
        samples = [draw.sample for draw in batch.draws]
        own = torch.from_numpy(class_targets(samples, classes=self.classes, kind=config.kind))
        targets = distributed.gather(own.to(waveforms.rows.device))
        if config.mixup and self.training:
            mixture = self._mixture(batch)
            waveforms, targets = overlaid(waveforms, mixture), mixture.mixed(targets)
        features = distributed.gather(self._tokens(model, waveforms, batch.draws).mean())
        head = self.head or _head_of(model)
        assert head is not None
        loss = classification_loss(head(features), targets=targets, kind=config.kind)
        return {"classify": loss / len(self.classes) if config.divided else loss}

    def _mixture(self, batch: Batch) -> Pairs:
        """Of the clips of all processes."""
        own = torch.tensor([draw.number for draw in batch.draws], device=batch.waveforms.rows.device)
        return pairs(distributed.gather(own).tolist(), alpha=self.config.mixup, seed=self.config.seed)

    def _tokens(self, model: JointModel, waveforms: Ragged, draws: Sequence[Draw]) -> Ragged:
        """Of what is left of the clips while training; M2D's SpecAugment hears which clips they are."""
        encoder, config = model.audio_encoder, self.config
        if not isinstance(encoder, M2d):
            return model.audio_tokens(waveforms)
        numbers = [draw.number for draw in draws]
        chunks = encoder.embedded(waveforms, complete_to=config.complete_to, numbers=numbers)
        if config.masking is None or not self.training:
            return chunks.joined(encoder.transformer(chunks.items))
        parts = parts_of(chunks, draws, masking=config.masking, bands=encoder.bands, seed=config.seed)
        return chunks.joined(through(encoder, encoder.transformer, items=chunks.items, some=parts.shown))


def classification_loss(
    logits: Float[Tensor, "clips classes"], *, targets: Float[Tensor, "clips classes"], kind: Kind
) -> Float32[Tensor, ""]:
    """Binary cross-entropy over clips and classes, or cross-entropy over clips; float32 under autocast too."""
    with torch.autocast(logits.device.type, enabled=False):
        if kind == "multi-label":
            return F.binary_cross_entropy_with_logits(logits.float(), targets)
        return F.cross_entropy(logits.float(), targets)


def _head_of(model: JointModel) -> ClassHead | None:
    return model.audio_encoder.head if isinstance(model.audio_encoder, M2d) else None
