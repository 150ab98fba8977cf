"""Attention pooling: a learned probe asks each item for one row (the MAP head of arXiv 2106.04560, section 3.3)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lapis.layers.transformer import Attention, RMSNorm, SwiGLU
from lapis.ragged import Ragged


class AttentionPooling(nn.Module):
    """Probe attends to the item's rows; then a feed-forward residual. No positions: rows carry theirs already."""

    def __init__(self, width: int, *, heads: int, hidden: int) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.randn(width) * width**-0.5)
        self.attention = Attention(width, heads=heads, bias=False)
        self.norm = RMSNorm(width, epsilon=1e-6, bias=False)
        self.feedforward = SwiGLU(width, hidden, bias=False)

    def forward(self, rows: Ragged) -> Float[Tensor, "items width"]:
        """One row an item."""
        probes = Ragged(self.probe.expand(len(rows), -1), (1,) * len(rows))
        pooled = self.attention(probes, rows).rows
        return pooled + self.feedforward(self.norm(pooled))
