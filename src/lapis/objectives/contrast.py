"""Contrastive objectives: softmax (CLIP, SLAP, M2D-CLAP) and sigmoid (SigLIP, GLAP), over the clips of all processes.

The losses are plain functions of two sets of unit vectors and a matrix that says which pairs belong together; the
classes add what is learned beside them, and choose between these functions and their twins without the matrix
(`streaming.py`). Logits are float32 whatever the model's precision.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from lapis import distributed
from lapis.data.batching import Batch
from lapis.model import JointModel, Logits
from lapis.objectives.learner import Encoded, Objective
from lapis.objectives.positives import Gather, Rule, positives
from lapis.objectives.streaming import streamed_sigmoid, streamed_softmax


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


def _spread(vectors: Float[Tensor, "clips width"]) -> Float[Tensor, ""]:
    """The mean size of an entry over the norm of all: smallest where few entries hold everything."""
    return vectors.abs().mean() / vectors.norm()


def _compared(encoded: Encoded, gather: Gather) -> tuple[Float[Tensor, "clips width"], Float[Tensor, "clips width"]]:
    """The vectors that a process needs at once."""
    if gather == "gathered":
        return distributed.gather(encoded.audio), distributed.gather(encoded.text)
    return encoded.audio, encoded.text


def _check_chunk(chunk: int | None) -> None:
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1, or None for no blocks, got {chunk}")


class Softmax(Objective):
    """Softmax contrast with a learned scale; its term is named `contrast`."""

    vectors_only = True

    @dataclass(frozen=True)
    class Config:
        """CLIP's start and bound of the scale (arXiv 2103.00020, section 2.5).

        `chunk`: the matrix of logits is never whole, but made in blocks of so many clips and captions.
        """

        temperature: float = 0.07
        max_scale: float = 100.0
        positives: Rule = "pair"
        gather: Gather = "gathered"
        chunk: int | None = None

        def __post_init__(self) -> None:
            _check_chunk(self.chunk)

        def build(self, model: JointModel) -> "Softmax":
            """The objective with a fresh scale."""
            return Softmax(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))

    def forward(self, model: JointModel, batch: Batch, encoded: Encoded) -> dict[str, Float[Tensor, ""]]:
        """The term `contrast` over the clips of all processes; with "local" over those of this one."""
        config = self.config
        audio, text = _compared(encoded, config.gather)
        belong = positives(batch, rule=config.positives, device=audio.device, gather=config.gather)
        scale = self.log_scale.exp()
        if config.chunk is None and config.gather != "ring":
            return {"contrast": softmax_contrast(audio, text, belong.matrix(), scale=scale)}
        ring = config.gather == "ring"
        return {"contrast": streamed_softmax(audio, text, belong, scale=scale, chunk=config.chunk, ring=ring)}

    def after_step(self, model: JointModel, *, step: int) -> None:
        """Keep the scale within its bound. Bounded in `forward`, it would have no gradient to come back by."""
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(self.config.max_scale))

    def logits(self) -> Logits:
        """The scale as it is now."""
        return Logits("softmax", scale=self.log_scale.exp().item())


class Sigmoid(Objective):
    """Sigmoid contrast with a learned scale and bias; its term is named `contrast`."""

    vectors_only = True

    @dataclass(frozen=True)
    class Config:
        """SigLIP's start (arXiv 2303.15343, section 3.3); `GLAP` below is another.

        `learned`: the logarithm of the scale, or the temperature itself, by which cosines are divided. `chunk`: the
        matrix of logits is never whole, but made in blocks of so many clips and captions. `spread`: adds the mean size
        of a vector's entries over the norm of all vectors, of sounds and of texts; only for local comparison.
        """

        temperature: float = 0.1
        bias: float = -10.0
        positives: Rule = "pair"
        gather: Gather = "gathered"
        chunk: int | None = None
        learned: Literal["log_scale", "temperature"] = "log_scale"
        spread: bool = False

        def __post_init__(self) -> None:
            _check_chunk(self.chunk)
            if self.spread and self.gather != "local":
                raise ValueError(f'spread is defined over the clips of one process: gather="local", got {self.gather}')

        def build(self, model: JointModel) -> "Sigmoid":
            """The objective with a fresh scale and bias."""
            return Sigmoid(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        if config.learned == "log_scale":
            self.log_scale = nn.Parameter(torch.tensor(-math.log(config.temperature)))
        else:
            self.temperature = nn.Parameter(torch.tensor(config.temperature))
        self.bias = nn.Parameter(torch.tensor(config.bias))

    @property
    def scale(self) -> Float[Tensor, ""]:
        """By which cosines are multiplied."""
        return self.log_scale.exp() if self.config.learned == "log_scale" else 1 / self.temperature

    def forward(self, model: JointModel, batch: Batch, encoded: Encoded) -> dict[str, Float[Tensor, ""]]:
        """The term `contrast` over the clips of all processes; with "local" over those of this one."""
        config = self.config
        audio, text = _compared(encoded, config.gather)
        belong = positives(batch, rule=config.positives, device=audio.device, gather=config.gather)
        learned = {"scale": self.scale, "bias": self.bias}
        if config.chunk is None and config.gather != "ring":
            loss = sigmoid_contrast(audio, text, belong.matrix(), **learned)
        else:
            ring = config.gather == "ring"
            loss = streamed_sigmoid(audio, text, belong, **learned, chunk=config.chunk, ring=ring)
        return {"contrast": loss + _spread(audio) + _spread(text) if config.spread else loss}

    def logits(self) -> Logits:
        """The scale and the bias as they are now."""
        return Logits("sigmoid", scale=self.scale.item(), bias=self.bias.item())


GLAP = Sigmoid.Config(temperature=0.07, bias=-10.0, learned="temperature")
"""As arXiv 2506.11350 describes it, with its batch of all processes; the temperature is learned without a logarithm."""

GLAP_AS_RELEASED = replace(GLAP, gather="local", spread=True)
"""As the released code does: a process compares its own clips only, and a small term (0.006 in all) is added."""
