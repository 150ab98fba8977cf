"""Self-distillation of masked patches (arXiv 2601.12594, equation 4; after iBOT, arXiv 2111.07832).

A teacher, the moving average of the audio tower and a head, hears the clean clip and says for every patch which of many
learned prototypes it is; the student sees the clip with half of its patches masked and has to say the same of those.
The paper leaves head, prototypes, temperatures and balancing open: those are our choice (docs/recipes/slap.md).
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn

from lapis import distributed
from lapis.data.batching import Batch
from lapis.model import JointModel
from lapis.objectives.balancing import sinkhorn
from lapis.objectives.learner import Encoded, Objective
from lapis.ragged import Ragged


@runtime_checkable
class Maskable(Protocol):
    """An audio tower whose patches can be replaced before they are encoded."""

    width: int

    def embed_patches(self, waveforms: Ragged) -> Ragged:
        """Samples to projected patches."""
        ...

    def encode_patches(self, patches: Ragged) -> Ragged:
        """Projected patches to tokens."""
        ...


def masked_patches(
    lengths: Sequence[int], *, numbers: Sequence[int], share: float, seed: int
) -> Bool[Tensor, "patches"]:
    """Of each clip exactly round(share * length) patches, chosen at random; those of draw n are always the same."""
    chosen = []
    for length, number in zip(lengths, numbers, strict=True):
        # Not torch's generator, which takes 32 bits of a seed and would drop one of the two.
        order = np.random.default_rng((seed, number)).permutation(length)
        chosen.append(torch.from_numpy(order < round(share * length)))
    return torch.cat(chosen)


class Head(nn.Module):
    """Three linear layers to a bottleneck, and cosines to the prototypes (arXiv 2304.07193, appendix)."""

    def __init__(self, width: int, *, hidden: int, bottleneck: int, prototypes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        # Only their directions count: weight normalisation with every length held at one.
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck))
        nn.init.trunc_normal_(self.prototypes, std=0.02)
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, tokens: Float[Tensor, "tokens width"]) -> Float32[Tensor, "tokens prototypes"]:
        """A cosine for each token and prototype, in float32 under autocast too."""
        rows = self.layers(tokens.to(self.prototypes.dtype))
        with torch.autocast(tokens.device.type, enabled=False):
            return F.normalize(rows.float(), dim=-1) @ F.normalize(self.prototypes.float(), dim=-1).T


class Distill(Objective):
    """Masked self-distillation; its term is named `distill`.

    Beside it, `measures` reports `teacher_entropy`, the mean entropy of the teacher's targets as a share of the highest
    possible, and `prototype_usage`, how many prototypes are some token's best as a share of how many could be.
    """

    @dataclass(frozen=True)
    class Config:
        """The paper gives `masked` and the momentum; the rest is our choice.

        `steps` are those of the run: the momentum rises over all of them, the teacher's temperature over the first
        `warmup_share`. The run is stopped when for `patience` steps in a row the targets are flatter than
        `highest_entropy` or use fewer prototypes than `lowest_usage`. `seed` is of the choice of patches.
        """

        steps: int = 106_445
        masked: float = 0.5
        momentum: float = 0.994
        end_momentum: float = 1.0
        hidden: int = 2048
        bottleneck: int = 256
        prototypes: int = 16_384
        student_temperature: float = 0.1
        teacher_temperature: float = 0.04
        end_teacher_temperature: float = 0.07
        warmup_share: float = 0.1
        iterations: int = 3
        highest_entropy: float = 0.999
        lowest_usage: float = 0.01
        patience: int = 500
        seed: int = 0

        def __post_init__(self) -> None:
            if not 0 < self.masked <= 1 or min(self.steps, self.iterations, self.patience) < 1 or self.prototypes < 2:
                raise ValueError(f"expected a share masked above 0, a step and two prototypes at least, got {self}")
            # Cosines span 2, and exp(-2 / 0.025) is the smallest that float32 still holds well.
            if min(self.student_temperature, self.teacher_temperature, self.end_teacher_temperature) < 0.025:
                raise ValueError(f"expected temperatures of at least 0.025, got {self}")

        def build(self, model: JointModel) -> "Distill":
            """The objective with a fresh head, its teacher a copy of the tower as it is now.

            Raises:
                ValueError: the audio tower's patches cannot be masked.
            """
            return Distill(self, model=model)

    step: Tensor
    collapsed: Tensor

    def __init__(self, config: Config, *, model: JointModel) -> None:
        super().__init__()
        self.config = config
        encoder = _maskable(model)
        self.mask = nn.Parameter(nn.init.trunc_normal_(torch.empty(encoder.width), std=0.02))
        self.head = Head(
            encoder.width, hidden=config.hidden, bottleneck=config.bottleneck, prototypes=config.prototypes
        )
        assert isinstance(model.audio_encoder, nn.Module)
        self.teacher = copy.deepcopy(model.audio_encoder)
        self.teacher.pooling = nn.Identity()  # what only pools has no part in this loss
        self.teacher_head = copy.deepcopy(self.head)
        for teacher in (self.teacher, self.teacher_head):
            teacher.requires_grad_(False).eval()
        # Both go with the checkpoint: the steps taken, and how many of the last ones in a row were collapsed.
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.register_buffer("collapsed", torch.zeros((), dtype=torch.long))
        self._measures: dict[str, Tensor] = {}

    def train(self, mode: bool = True) -> "Distill":
        """As for any module; but the teacher hears the clean clip, without SpecAugment, in training too."""
        super().train(mode)
        self.teacher.eval()
        self.teacher_head.eval()
        return self

    def forward(self, model: JointModel, batch: Batch, encoded: Encoded) -> dict[str, Float[Tensor, ""]]:
        """The term `distill` over the clips of all processes; a clip too short to have a patch masked has no part."""
        encoder = _maskable(model)
        patches = encoder.embed_patches(batch.waveforms)
        numbers = [draw.number for draw in batch.draws]
        chosen = masked_patches(patches.lengths, numbers=numbers, share=self.config.masked, seed=self.config.seed)
        counts = [int(clip.sum()) for clip in chosen.split(patches.lengths)]  # before the device, which would wait
        places = chosen.nonzero().flatten().to(patches.rows.device, non_blocking=True)
        chosen = chosen.to(patches.rows.device, non_blocking=True)
        hidden = patches.map(lambda rows: torch.where(chosen[:, None], self.mask.to(rows.dtype), rows))
        scores = self.head(encoder.encode_patches(hidden).rows[places])
        targets = self._targets(batch.waveforms, places)
        self._measures = _measures(targets)
        of_token = -(targets * F.log_softmax(scores / self.config.student_temperature, dim=-1)).sum(-1)
        # The mean within a clip, then over the clips of all processes: a long clip counts no more than a short one.
        masked = Ragged(of_token, tuple(count for count in counts if count))
        of_clip = distributed.gather(masked.mean() if len(masked) else of_token)
        return {"distill": of_clip.sum() / max(1, len(of_clip))}

    @torch.no_grad()
    def _targets(self, waveforms: Ragged, places: Int[Tensor, "tokens"]) -> Float32[Tensor, "tokens prototypes"]:
        """What the teacher says of the patches at these rows."""
        config = self.config
        done = (self.step / (config.warmup_share * config.steps + 1e-9)).clamp(max=1.0)
        temperature = config.teacher_temperature + (config.end_teacher_temperature - config.teacher_temperature) * done
        tokens = self.teacher(waveforms).rows[places]
        return sinkhorn(self.teacher_head(tokens), temperature=temperature, iterations=config.iterations)

    def measures(self) -> dict[str, Float[Tensor, ""]]:
        """Of the last batch: `teacher_entropy` and `prototype_usage`, each from 0 to 1."""
        return self._measures

    @torch.no_grad()
    def after_step(self, model: JointModel, *, step: int) -> None:
        """Move the teacher, and see whether it still has anything to say.

        Raises:
            ValueError: the targets have collapsed, or the run is longer than the configuration says.
        """
        if step >= self.config.steps:
            raise ValueError(
                f"step {step} is beyond the {self.config.steps} steps of self-distillation: set its steps to the run's"
            )
        momentum = momentum_at(step, config=self.config)
        for student, teacher in ((model.audio_encoder, self.teacher), (self.head, self.teacher_head)):
            assert isinstance(student, nn.Module)
            own = dict(student.named_parameters())
            for name, average in teacher.named_parameters():
                average.lerp_(own[name], 1 - momentum)
        self.step.fill_(step + 1)
        self._check()

    def _check(self) -> None:
        if not self._measures:
            return
        entropy, usage = (float(self._measures[name]) for name in ("teacher_entropy", "prototype_usage"))
        if entropy <= self.config.highest_entropy and usage >= self.config.lowest_usage:
            self.collapsed.zero_()
            return
        self.collapsed += 1
        if int(self.collapsed) >= self.config.patience:
            raise ValueError(
                f"self-distillation collapsed: for {int(self.collapsed)} steps the teacher's targets were flatter than "
                f"{self.config.highest_entropy} of the highest entropy (now {entropy:.4f}) or used fewer than "
                f"{self.config.lowest_usage} of the prototypes (now {usage:.4f}), so there is nothing to learn from "
                "them; try fewer prototypes, a larger batch, or a lower learning rate"
            )


def momentum_at(step: int, *, config: Distill.Config) -> float:
    """Of the teacher after a step: half a cosine from the first to the last."""
    cosine = (1 + math.cos(math.pi * step / max(1, config.steps - 1))) / 2
    return config.end_momentum - (config.end_momentum - config.momentum) * cosine


@torch.no_grad()
def _measures(targets: Float32[Tensor, "tokens prototypes"]) -> dict[str, Float[Tensor, ""]]:
    """How much the targets of all processes say; nothing where there are none."""
    prototypes = targets.shape[1]
    entropy = distributed.gather(torch.special.entr(targets).sum(-1))
    best = distributed.gather(targets.argmax(-1))
    if not len(entropy):
        return {}
    usage = best.unique().numel() / min(prototypes, len(best))
    return {
        "teacher_entropy": entropy.mean() / math.log(prototypes),
        "prototype_usage": entropy.new_tensor(usage),
    }


def _maskable(model: JointModel) -> Maskable:
    if not isinstance(model.audio_encoder, Maskable):
        kind = type(model.audio_encoder).__name__
        raise ValueError(f"self-distillation needs an audio tower whose patches can be masked (Slap), got {kind}")
    return model.audio_encoder
