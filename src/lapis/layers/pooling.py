"""Pooling by attention: something learned asks each item for one row."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lapis.layers.transformer import Attention, Block, RMSNorm, SwiGLU, Transformer
from lapis.ragged import Ragged


class AttentionPooling(nn.Module):
    """The MAP head of arXiv 2106.04560, section 3.3: a probe attends to the item's rows, then a feed-forward residual.

    No positions: rows carry theirs already.
    """

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


class SemanticPooling(nn.Module):
    """M2D-CLAP's semantic block (arXiv 2503.22104): one transformer block reads the rows behind a learned token.

    One head, feed-forward of the same width; the answer is that token after the final norm. As only the token's row is
    wanted and there is one block, only that row asks: time and memory grow with the rows, not with their square.
    `semantic_plain` sends every row through.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(width))
        self.transformer = Transformer.Config(width=width, depth=1, heads=1, hidden=width, norm_epsilon=1e-5).build()

    def forward(self, rows: Ragged) -> Float[Tensor, "items width"]:
        """One row an item."""
        block = self.transformer.blocks[0]
        assert isinstance(block, Block)
        tokens = Ragged(self.token.expand(len(rows), -1), (1,) * len(rows))
        memory = rows.prepend(self.token).map(block.attention_norm)
        asked = tokens.rows + block.attention(tokens.map(block.attention_norm), memory).rows
        return self.transformer.norm(asked + block.feedforward(block.feedforward_norm(asked)))


def semantic_plain(pooling: SemanticPooling, rows: Ragged) -> Float[Tensor, "items width"]:
    """The same, with the whole block over all rows."""
    through = pooling.transformer(rows.prepend(pooling.token))
    return through.rows[through.offsets[:-1].long()]
