"""Contrastive objectives: softmax (CLIP, SLAP, M2D-CLAP) and sigmoid (SigLIP, GLAP), over the clips of all processes.

The losses are plain functions of two sets of unit vectors and a matrix that says which pairs belong together; the
classes add what is learned beside them. Logits are float32 whatever the model's precision.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from lapis import distributed
from lapis.data.batching import Batch
from lapis.model import JointModel
from lapis.objectives.learner import Encoded, Objective

Positives = Literal["pair", "caption"]
"""Which captions of a batch belong to a clip: the one drawn for it; or every one that is among its captions,
whichever clip drew it (captions of a class, and those that machines write, repeat: they are no negatives)."""


def softmax_contrast(
    audio: Float[Tensor, "clips width"],
    text: Float[Tensor, "clips width"],
    positive: Bool[Tensor, "clips clips"],
    *,
    scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Symmetric cross-entropy over a batch (arXiv 2103.00020, figure 3; arXiv 2601.12594, equation 3).

    A clip with several positives shares its target equally among them; with one each this is the published loss.
    """
    logits = scale * _similarity(audio, text)
    target = positive.to(logits.dtype)
    of_audio = F.cross_entropy(logits, target / target.sum(1, keepdim=True))
    of_text = F.cross_entropy(logits.T, target.T / target.T.sum(1, keepdim=True))
    return (of_audio + of_text) / 2


def sigmoid_contrast(
    audio: Float[Tensor, "clips width"],
    text: Float[Tensor, "clips width"],
    positive: Bool[Tensor, "clips clips"],
    *,
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Every pair is a yes-or-no question (arXiv 2303.15343, equation 1; used by arXiv 2506.11350).

    -(1/clips) sum_ij log sigmoid(z_ij (scale * audio_i . text_j + bias)), z_ij = 1 for positives and -1 else.
    """
    logits = scale * _similarity(audio, text) + bias
    sign = positive.to(logits.dtype) * 2 - 1
    return -F.logsigmoid(sign * logits).sum() / len(audio)


def _similarity(
    audio: Float[Tensor, "clips width"], text: Float[Tensor, "clips width"]
) -> Float32[Tensor, "clips clips"]:
    """All cosines, in float32 under autocast too: a scale of 100 would make bfloat16's third digit a whole unit."""
    with torch.autocast(audio.device.type, enabled=False):
        return audio.float() @ text.float().T


def positives(batch: Batch, *, rule: Positives, device: torch.device) -> Bool[Tensor, "all_clips all_clips"]:
    """Which clip (row) and drawn caption (column) belong together, over the clips of all processes."""
    clips = distributed.gather(torch.tensor([draw.number for draw in batch.draws], device=device))
    own = clips[:, None] == clips[None, :]
    if rule == "pair":
        return own
    drawn = distributed.gather(torch.tensor([_number(caption) for caption in batch.captions], device=device))
    texts = [
        (draw.number, _number(text)) for draw in batch.draws for of in draw.sample.captions.values() for text in of
    ]
    owners, owned = distributed.gather(torch.tensor(texts, device=device)).unbind(1)
    has = (owners[:, None] == clips[None, :]).float().T @ (owned[:, None] == drawn[None, :]).float()
    return own | (has > 0)


def _number(text: str) -> int:
    """A number for a text that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "little")


class Softmax(Objective):
    """Softmax contrast with a learned scale; its term is named `contrast`."""

    @dataclass(frozen=True)
    class Config:
        """CLIP's start and bound of the scale (arXiv 2103.00020, section 2.5)."""

        temperature: float = 0.07
        max_scale: float = 100.0
        positives: Positives = "pair"

        def build(self, model: JointModel) -> "Softmax":
            """The objective with a fresh scale."""
            return Softmax(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))

    def forward(self, model: JointModel, batch: Batch, encoded: Encoded) -> dict[str, Float[Tensor, ""]]:
        """The term `contrast` over the clips of all processes."""
        audio, text = distributed.gather(encoded.audio), distributed.gather(encoded.text)
        positive = positives(batch, rule=self.config.positives, device=audio.device)
        scale = self.log_scale.exp().clamp(max=self.config.max_scale)
        return {"contrast": softmax_contrast(audio, text, positive, scale=scale)}


class Sigmoid(Objective):
    """Sigmoid contrast with a learned scale and bias; its term is named `contrast`."""

    @dataclass(frozen=True)
    class Config:
        """SigLIP's start (arXiv 2303.15343, section 3.3); GLAP starts at the temperature 0.07 and the same bias."""

        temperature: float = 0.1
        bias: float = -10.0
        positives: Positives = "pair"

        def build(self, model: JointModel) -> "Sigmoid":
            """The objective with a fresh scale and bias."""
            return Sigmoid(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))
        self.bias = nn.Parameter(torch.tensor(config.bias))

    def forward(self, model: JointModel, batch: Batch, encoded: Encoded) -> dict[str, Float[Tensor, ""]]:
        """The term `contrast` over the clips of all processes."""
        audio, text = distributed.gather(encoded.audio), distributed.gather(encoded.text)
        positive = positives(batch, rule=self.config.positives, device=audio.device)
        return {"contrast": sigmoid_contrast(audio, text, positive, scale=self.log_scale.exp(), bias=self.bias)}
