"""Captioning (arXiv 2601.12594, equation 5): a small causal decoder says the caption, reading the dense audio tokens.

The decoder is a configuration of `layers/transformer.py`. A run saves it beside its model, and `captioner.py` writes
captions with the two. What the paper leaves open is our choice (docs/recipes/slap.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lapis import distributed
from lapis.data.batching import Batch
from lapis.model import JointModel
from lapis.objectives.decoder import Decoder
from lapis.objectives.learner import Encoded, Objective
from lapis.objectives.vocabulary import vocabulary_of
from lapis.ragged import Ragged


def token_losses(
    rows: Float[Tensor, "tokens width"],
    table: Float[Tensor, "vocabulary width"],
    wanted: Int[Tensor, "tokens"],
    *,
    chunk: int,
) -> Float32[Tensor, "tokens"]:
    """Cross-entropy of each token, the logits of `chunk` tokens at a time.

    With 50,000 words the logits of all tokens would be the largest thing in memory; they are made anew on the way back.
    """
    losses = [
        checkpoint(token_losses_plain, some, table, of, use_reentrant=False, preserve_rng_state=False)
        for some, of in zip(rows.split(chunk), wanted.split(chunk), strict=True)
    ]
    return torch.cat(losses)


def token_losses_plain(
    rows: Float[Tensor, "tokens width"], table: Float[Tensor, "vocabulary width"], wanted: Int[Tensor, "tokens"]
) -> Float32[Tensor, "tokens"]:
    """The same with all logits at once."""
    return F.cross_entropy((rows @ table.T).float(), wanted, reduction="none")


class Caption(Objective):
    """Next-token cross-entropy with teacher forcing, the mean over the tokens of all processes; term `caption`."""

    @dataclass(frozen=True)
    class Config:
        """The paper gives 8 layers, 8 heads and the width; the decoder reads the tokens before pooling.

        `hidden` is 8/3 of the width, in eights: 35,697,152 parameters beside the table. A caption is cut after
        `max_tokens`. `chunk` tokens have their logits in memory at once.
        """

        width: int = 512
        depth: int = 8
        heads: int = 8
        hidden: int = 1368
        max_tokens: int = 128
        chunk: int = 1024

        def __post_init__(self) -> None:
            if self.max_tokens < 1 or self.chunk < 1:
                raise ValueError(f"expected max_tokens and chunk of at least 1, got {self}")

        def build(self, model: JointModel) -> "Caption":
            """The objective with a fresh decoder, for this model's tokens and vocabulary."""
            return Caption(self, model=model)

        def build_decoder(self, model: JointModel) -> Decoder:
            """A fresh decoder alone."""
            return Decoder(
                vocabulary_of(model).size,
                width=self.width,
                depth=self.depth,
                heads=self.heads,
                hidden=self.hidden,
                memory_width=model.audio_encoder.width,
            )

    def __init__(self, config: Config, *, model: JointModel) -> None:
        super().__init__()
        self.config = config
        self.decoder = config.build_decoder(model)

    def forward(self, model: JointModel, batch: Batch, encoded: Encoded) -> dict[str, Float[Tensor, ""]]:
        """The term `caption`: each caption is said after its own clip, heard clean."""
        given, wanted = self._shifted(model, batch.captions)
        device = encoded.tokens.rows.device
        rows = self.decoder(given.to(device), memory=encoded.tokens)
        losses = token_losses(rows.rows, self.decoder.table.weight, wanted.rows.to(device), chunk=self.config.chunk)
        # A caption of twenty words counts twice one of ten, in whichever process it is.
        total = distributed.gather(losses.sum()[None]).sum()
        return {"caption": total / distributed.gather(torch.tensor([len(losses)], device=device)).sum()}

    def _shifted(self, model: JointModel, captions: Sequence[str]) -> tuple[Ragged, Ragged]:
        """What the decoder is given and what it is to answer; a caption that is cut has no end to be learned."""
        vocabulary, most = vocabulary_of(model), self.config.max_tokens
        texts = [[vocabulary.start, *text, vocabulary.end] for text in vocabulary.encode(captions, max_tokens=most)]
        return (
            Ragged.pack([torch.tensor(text[:-1][:most]) for text in texts]),
            Ragged.pack([torch.tensor(text[1:][:most]) for text in texts]),
        )
