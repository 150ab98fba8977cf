"""Any objective of the towers, on what a mask leaves of each clip's patches: M2D-CLAP's second stage, with a structured
mask over a frozen encoder. Hidden patches are not replaced but left out, so that they cost nothing; those that stay
keep their true places, by which rotations turn them and local layers count how far they see.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lapis.audio_encoders.m2d import M2d
from lapis.data.batching import Batch, Draw
from lapis.data.order import hash_numbers
from lapis.layers.masking import Masking, Parts
from lapis.layers.patches import Chunks
from lapis.layers.positions import rotate
from lapis.layers.transformer import Block, Transformer
from lapis.model import JointModel, Logits
from lapis.objectives import contrast
from lapis.objectives.learner import Encoded, Objective, ObjectiveConfig
from lapis.ragged import Ragged


@runtime_checkable
class Divisible(Protocol):
    """An audio tower whose patches can be left out: M2D's and SLAP's."""

    bands: int
    transformer: Transformer

    def embedded(self, waveforms: Ragged) -> Chunks:
        """What the transformer is given."""
        ...

    def placing(self, width: int) -> Float[Tensor, "positions width"] | None:
        """What is added to patches of this width at every place of an item; None where positions are rotations."""
        ...

    def angles(self, items: Ragged, *, head_width: int) -> Float[Tensor, "rows half_head_width"] | None:
        """By how much heads of this width turn at each row of whole items; None where positions are added."""
        ...


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
            ValueError: the audio tower's patches cannot be left out, or its clips not be completed.
        """
        encoder, config = divisible_of(model), self.config
        if config.masking.ratio == 0 and config.complete_to is None and isinstance(encoder, M2d):
            # Nothing is left out: the tokens are those that any other objective asks for (SLAP's may be augmented).
            return self.objective(model, batch, encoded)
        if config.complete_to is None:
            chunks = encoder.embedded(batch.waveforms)
        else:
            chunks = m2d_of(model).embedded(batch.waveforms, complete_to=config.complete_to)
        parts = parts_of(chunks, batch.draws, masking=config.masking, bands=encoder.bands, seed=config.seed)
        tokens = chunks.joined(through(encoder, encoder.transformer, items=chunks.items, some=parts.shown))
        return self.objective(model, batch, Encoded(model, batch, tokens=tokens))

    def after_step(self, model: JointModel, *, step: int) -> None:
        """Let the objective move what has no gradient."""
        self.objective.after_step(model, step=step)

    def logits(self) -> Logits | None:
        """Those of the objective."""
        return self.objective.logits()


def parts_of(chunks: Chunks, draws: Sequence[Draw], *, masking: Masking, bands: int, seed: int) -> Parts:
    """Which rows of the chunks stay visible; a class token, which is the first row of each, always does.

    A chunk's mask is a pure function of the seed, of the number of its clip's draw and of its place in the clip.
    """
    masks, lengths = [], iter(chunks.items.lengths)
    for draw, count in zip(draws, chunks.of_clip, strict=True):
        for chunk in range(count):
            generator = torch.Generator().manual_seed(hash_numbers(seed, draw.number, chunk))
            mask = masking.visible(next(lengths) - chunks.leading, bands=bands, generator=generator)
            masks.append(torch.cat([torch.ones(chunks.leading, dtype=torch.bool), mask]))
    return Parts.of(masks, device=chunks.items.rows.device, leading=chunks.leading)


def through(encoder: Divisible, transformer: Transformer, *, items: Ragged, some: Ragged) -> Ragged:
    """What a transformer with the tower's positions makes of some rows of items, as if the others were not there.

    Args:
        encoder: whose positions and items they are.
        transformer: the tower's own, or another one.
        items: all rows.
        some: numbers of the rows that are there, ascending, an item each; an item may have none.
    """
    angles = encoder.angles(items, head_width=transformer.config.width // transformer.config.heads)
    there = Ragged(items.rows[some.rows], tuple(length for length in some.lengths if length))
    if not len(there):
        return Ragged(there.rows, some.lengths)
    turned = None if angles is None else angles[some.rows]
    return Ragged(transformer(there, angles=turned, places=items.index_in_item[some.rows]).rows, some.lengths)


def through_plain(
    encoder: Divisible,
    transformer: Transformer,
    *,
    rows: Float[Tensor, "rows width"],
    there: Bool[Tensor, "rows"],
) -> Float[Tensor, "some width"]:
    """The same for one item, over all of its rows: the others are there, but no row may look at them."""
    angles = encoder.angles(Ragged.pack([rows]), head_width=transformer.config.width // transformer.config.heads)
    place = torch.arange(len(rows), device=rows.device)
    distance = (place[:, None] - place[None, :]).abs()
    for block in transformer.blocks:
        assert isinstance(block, Block)
        # A row that is not there sees itself, so as to be a number; nobody looks at it.
        seen = (there[None, :] & (distance <= (len(rows) if block.window is None else block.window))) | (distance == 0)
        attention, normed = block.attention, block.attention_norm(rows)
        parts = (attention.query, attention.key, attention.value)
        query, key, value = (part(normed).unflatten(-1, (attention.heads, -1)) for part in parts)
        query, key = attention.query_norm(query), attention.key_norm(key)
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        scores = torch.einsum("qhd,khd->hqk", query, key) / math.sqrt(query.shape[-1])
        attended = torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -math.inf).softmax(-1), value)
        rows = rows + attention.out(attended.flatten(1))
        rows = rows + block.feedforward(block.feedforward_norm(rows))
    return transformer.norm(rows)[there]


def divisible_of(model: JointModel) -> Divisible:
    """The audio tower, which must have patches that can be left out.

    Raises:
        ValueError: it has none.
    """
    if not isinstance(model.audio_encoder, Divisible):
        kind = type(model.audio_encoder).__name__
        raise ValueError(f"masks need an audio tower whose patches can be left out (M2d, Slap), this model has {kind}")
    return model.audio_encoder


def m2d_of(model: JointModel) -> M2d:
    """The audio tower, which must be M2D's.

    Raises:
        ValueError: it is another.
    """
    if not isinstance(model.audio_encoder, M2d):
        raise ValueError(f"masks need M2D's audio tower, this model has {type(model.audio_encoder).__name__}")
    return model.audio_encoder
