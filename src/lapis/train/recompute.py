"""Activation checkpointing: a transformer block keeps only what went in, and is computed again in the backward pass.

Memory for activations falls to about a row of each block, for a third more time (arXiv 1604.06174).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from lapis.layers.transformer import Block


@contextmanager
def recomputed_blocks(module: nn.Module, *, enabled: bool) -> Iterator[None]:
    """Every block of ours below `module`, and every Hugging Face model that can, is recomputed while the block runs."""
    blocks = [part for part in module.modules() if isinstance(part, Block)] if enabled else []
    foreign = [part for part in module.modules() if _recomputes_itself(part)] if enabled else []
    for block in blocks:
        # On the instance: names in the state dict stay, and random numbers are drawn again alike.
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    for model in foreign:
        model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]  (see below)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
        for model in foreign:
            model.gradient_checkpointing_disable()  # type: ignore[operator]  (see below)


def _recomputes_itself(part: nn.Module) -> bool:
    """Whether it is a whole model of the transformers library (its own parts offer the method too)."""
    return getattr(part, "supports_gradient_checkpointing", False) and part.training
