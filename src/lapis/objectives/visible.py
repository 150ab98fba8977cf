"""Any objective of the towers, on what a mask leaves of each clip's patches: M2D-CLAP's second stage, with a structured
mask over a frozen encoder. Hidden patches are not replaced but left out, so that they cost nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lapis.audio_encoders.m2d import Chunks, M2d
from lapis.data.batching import Batch, Draw
from lapis.data.mixture import hash_numbers
from lapis.layers.masking import Masking, Parts
from lapis.model import JointModel
from lapis.objectives import contrast
from lapis.objectives.learner import Encoded, Objective, ObjectiveConfig


class Visible(Objective):
    """The terms of the objective that it holds."""

    @dataclass(frozen=True)
    class Config:
        """`complete_to` is that of `M2d.embedded`; `seed` and a draw's number decide the mask of a clip."""

        objective: ObjectiveConfig = contrast.Softmax.Config()
        masking: Masking = Masking(ratio=0.3, shape="structured")
        complete_to: int | None = None
        seed: int = 0

        def build(self, model: JointModel) -> "Visible":
            """The objective with fresh parameters."""
            return Visible(self, self.objective.build(model))

    def __init__(self, config: Config, objective: Objective) -> None:
        super().__init__()
        self.config, self.objective = config, objective

    def forward(self, model: JointModel, batch: Batch, encoded: Encoded) -> dict[str, Float[Tensor, ""]]:
        """The terms on visible tokens.

        Raises:
            ValueError: the audio tower is not M2D's.
        """
        encoder, config = m2d_of(model), self.config
        chunks = encoder.embedded(batch.waveforms, complete_to=config.complete_to)
        parts = parts_of(chunks, batch.draws, masking=config.masking, bands=encoder.bands, seed=config.seed)
        tokens = chunks.joined(encoder.transformer(parts.visible_of(chunks.items)))
        return self.objective(model, batch, Encoded(model, batch, tokens=tokens))

    def after_step(self, model: JointModel, *, step: int) -> None:
        """Let the objective move what has no gradient."""
        self.objective.after_step(model, step=step)


def parts_of(chunks: Chunks, draws: Sequence[Draw], *, masking: Masking, bands: int, seed: int) -> Parts:
    """Which rows of the chunks stay visible; the class token, which is the first row of each, always does.

    A chunk's mask is a pure function of the seed, of the number of its clip's draw and of its place in the clip.
    """
    masks, lengths = [], iter(chunks.items.lengths)
    for draw, count in zip(draws, chunks.of_clip, strict=True):
        for chunk in range(count):
            generator = torch.Generator().manual_seed(hash_numbers(seed, draw.number, chunk))
            mask = masking.visible(next(lengths) - 1, bands=bands, generator=generator)
            masks.append(torch.cat([torch.ones(1, dtype=torch.bool), mask]))
    return Parts.of(masks, device=chunks.items.rows.device)


def m2d_of(model: JointModel) -> M2d:
    """The audio tower, which must have patches that can be left out.

    Raises:
        ValueError: it is not M2D's.
    """
    if not isinstance(model.audio_encoder, M2d):
        raise ValueError(f"masks need M2D's audio tower, this model has {type(model.audio_encoder).__name__}")
    return model.audio_encoder
