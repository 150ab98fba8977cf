"""Tokens in, tokens out: what all models that translate share. Greedy or by beams, never sampled.

Rows of a batch are padded to the longest, so that rounding may differ by what goes together; whoever makes batches
(`job.py`) makes the same ones every time.
"""

from collections.abc import Sequence
from typing import Any

import torch

FREE_TOKENS, TOKENS_A_TOKEN = 24, 2
"""A translation may have so many tokens: a few, and so many for each of the text's."""
LONGEST = 512


def most_tokens(model: Any, tokenizer: Any) -> int:
    """Of a text, and of a translation."""
    places = getattr(model.config, "max_position_embeddings", None) or LONGEST
    return min(int(places), int(tokenizer.model_max_length))


def padded(rows: Sequence[Sequence[int]], *, pad: int, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of tokens as one tensor, and where they are."""
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for number, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        ids[number, place], mask[number, place] = torch.tensor(row), 1
    return ids, mask


@torch.inference_mode()
def generate(
    model: Any, rows: torch.Tensor, mask: torch.Tensor, *, longest: int, beams: int, **given: Any
) -> torch.Tensor:
    """Rows of what a model says, that of a model without an encoder after what it was told."""
    return model.generate(
        input_ids=rows.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=longest,
        num_beams=beams,
        do_sample=False,
        **given,
    ).cpu()


def ends_of(model: Any) -> set[int]:
    """The tokens that end a text."""
    ends = model.generation_config.eos_token_id
    return set(ends) if isinstance(ends, list) else {ends}
