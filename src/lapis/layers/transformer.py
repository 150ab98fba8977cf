"""The packed transformer: pre-norm blocks over ragged rows, with its parts chosen by a small frozen value.

Dasheng, M2D and SLAP, the M2D predictor and the caption decoder are configurations of this one file. Positions that are
added come before it (`positions.Learned`, `positions.SinCos`); rotations come in as angles.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lapis.layers.attention import attend
from lapis.layers.positions import rotate
from lapis.ragged import Ragged


class LayerNorm(nn.LayerNorm):
    """Layer normalisation (arXiv 1607.06450); without biases where the transformer has none."""

    def __init__(self, width: int, *, epsilon: float, bias: bool) -> None:
        super().__init__(width, eps=epsilon, bias=bias)


class RMSNorm(nn.RMSNorm):
    """Root-mean-square normalisation (arXiv 1910.07467); it never has a bias."""

    def __init__(self, width: int, *, epsilon: float, bias: bool) -> None:
        super().__init__(width, eps=epsilon)


class Gelu(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, width: int, hidden: int, *, bias: bool) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, rows: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        """Each row by itself."""
        return self.down(F.gelu(self.up(rows)))


class Relu(nn.Module):
    """Linear, ReLU, linear (arXiv 1706.03762, equation 2): SONAR's feed-forward."""

    def __init__(self, width: int, hidden: int, *, bias: bool) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, rows: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        """Each row by itself."""
        return self.down(F.relu(self.up(rows)))


class SwiGLU(nn.Module):
    """SiLU(x W_gate) * (x W_up), then W_down (arXiv 2002.05202, equation 6); `hidden` is the width of each product."""

    def __init__(self, width: int, hidden: int, *, bias: bool) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=bias)
        self.up = nn.Linear(width, hidden, bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, rows: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        """Each row by itself."""
        return self.down(F.silu(self.gate(rows)) * self.up(rows))


class Attention(nn.Module):
    """Multi-head attention of rows to rows of the same items, or (cross) to `memory`, which may have another width."""

    def __init__(
        self, width: int, *, heads: int, bias: bool, memory_width: int | None = None, norm_heads: bool = False
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} must be a multiple of the {heads} heads")
        self.heads = heads
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(memory_width or width, width, bias=bias)
        self.value = nn.Linear(memory_width or width, width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        self.query_norm = RMSNorm(width // heads, epsilon=1e-6, bias=False) if norm_heads else nn.Identity()
        self.key_norm = RMSNorm(width // heads, epsilon=1e-6, bias=False) if norm_heads else nn.Identity()

    def forward(
        self,
        rows: Ragged,
        memory: Ragged | None = None,
        *,
        angles: Float[Tensor, "rows half_head_width"] | None = None,
        window: int | None = None,
        causal: bool = False,
        places: Int[Tensor, "rows"] | None = None,
    ) -> Ragged:
        """Attend; `angles` rotate queries and keys and belong to self-attention only, as do `places`."""
        memory = rows if memory is None else memory
        query = rows.map(self.query).map(self._by_head).map(self.query_norm)
        key = memory.map(self.key).map(self._by_head).map(self.key_norm)
        value = memory.map(self.value).map(self._by_head)
        if angles is not None:
            query = query.map(lambda heads: rotate(heads, angles))
            key = key.map(lambda heads: rotate(heads, angles))
        attended = attend(query, key, value, window=window, causal=causal, places=places)
        return attended.map(lambda heads: self.out(heads.flatten(1)))

    def _by_head(self, rows: Float[Tensor, "rows width"]) -> Float[Tensor, "rows heads head_width"]:
        return rows.unflatten(-1, (self.heads, -1))


class Transformer(nn.Module):
    """`depth` pre-norm blocks and a final norm."""

    @dataclass(frozen=True)
    class Config:
        """Sizes and parts.

        `windows` is a pattern over the layers, repeated: rows seen on each side, None for all (local, local, global =
        `(48, 48, None)`). `memory_width` turns on cross-attention in every block.
        """

        width: int = 768
        depth: int = 12
        heads: int = 12
        hidden: int = 3072
        norm: type[LayerNorm] | type[RMSNorm] = LayerNorm
        norm_epsilon: float = 1e-6
        feedforward: type[Gelu] | type[Relu] | type[SwiGLU] = Gelu
        bias: bool = True
        norm_heads: bool = False
        windows: tuple[int | None, ...] = (None,)
        causal: bool = False
        memory_width: int | None = None

        def build(self) -> "Transformer":
            """The module of this value, with fresh parameters."""
            return Transformer(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        windows = [config.windows[layer % len(config.windows)] for layer in range(config.depth)]
        self.blocks = nn.ModuleList(Block(config, window=window) for window in windows)
        self.norm = config.norm(config.width, epsilon=config.norm_epsilon, bias=config.bias)
        self.apply(_initialise)

    def forward(
        self,
        rows: Ragged,
        *,
        angles: Float[Tensor, "rows half_head_width"] | None = None,
        memory: Ragged | None = None,
        places: Int[Tensor, "rows"] | None = None,
    ) -> Ragged:
        """Rows of shape (rows, width) in, rows of the same shape out, normalised.

        `places` are those of rows among which others were left out, as `attend` takes them.
        """
        for block in self.blocks:
            rows = block(rows, angles=angles, memory=memory, places=places)
        return rows.map(self.norm)

    def in_groups(self, rows: Ragged, *, most_rows: int = 2048) -> Ragged:
        """As `forward`, without positions or memory, some items at a time where no gradient is wanted.

        Items do not see each other, so the answer is the same; but memory stays bounded however many there are, what
        one group needs fits into the processor's caches, and items of equal length stand side by side.
        """
        if torch.is_grad_enabled() and rows.rows.requires_grad:
            return self(rows)
        order = sorted(range(len(rows)), key=rows.lengths.__getitem__, reverse=True)
        ordered = rows.take(order)
        through = Ragged(torch.cat([self(group).rows for group in ordered.groups(most_rows)]), ordered.lengths)
        places = sorted(range(len(order)), key=order.__getitem__)
        return through.take(places)

    def layers(
        self,
        rows: Ragged,
        *,
        angles: Float[Tensor, "rows half_head_width"] | None = None,
        memory: Ragged | None = None,
    ) -> Iterator[Ragged]:
        """The rows after every block, the last of them normalised: what `forward` answers with."""
        for number, block in enumerate(self.blocks, start=1):
            rows = block(rows, angles=angles, memory=memory)
            yield rows.map(self.norm) if number == len(self.blocks) else rows


class Block(nn.Module):
    """Self-attention, cross-attention where there is a memory, feed-forward: each normed first and added back."""

    def __init__(self, config: Transformer.Config, *, window: int | None) -> None:
        super().__init__()
        self.window, self.causal = window, config.causal
        self.attention_norm = config.norm(config.width, epsilon=config.norm_epsilon, bias=config.bias)
        self.attention = Attention(config.width, heads=config.heads, bias=config.bias, norm_heads=config.norm_heads)
        self.cross: Attention | None = None
        if config.memory_width is not None:
            self.cross_norm = config.norm(config.width, epsilon=config.norm_epsilon, bias=config.bias)
            self.cross = Attention(
                config.width,
                heads=config.heads,
                bias=config.bias,
                memory_width=config.memory_width,
                norm_heads=config.norm_heads,
            )
        self.feedforward_norm = config.norm(config.width, epsilon=config.norm_epsilon, bias=config.bias)
        self.feedforward = config.feedforward(config.width, config.hidden, bias=config.bias)

    def forward(
        self,
        rows: Ragged,
        *,
        angles: Float[Tensor, "rows half_head_width"] | None,
        memory: Ragged | None,
        places: Int[Tensor, "rows"] | None = None,
    ) -> Ragged:
        """Rows in, rows of the same shape out."""
        attended = self.attention(
            rows.map(self.attention_norm), angles=angles, window=self.window, causal=self.causal, places=places
        )
        rows = rows.map(lambda residual: residual + attended.rows)
        if self.cross is not None:
            if memory is None:
                raise ValueError("this transformer attends to a memory, and none was given")
            crossed = self.cross(rows.map(self.cross_norm), memory)
            rows = rows.map(lambda residual: residual + crossed.rows)
        return rows.map(self.fed)

    def fed(self, rows: Float[Tensor, "rows width"]) -> Float[Tensor, "rows width"]:
        """The second half, which takes each row by itself: feed-forward, normed first and added back."""
        return rows + self.feedforward(self.feedforward_norm(rows))


def _initialise(module: nn.Module) -> None:
    """Truncated normal weights of deviation 0.02, zero biases: the usual start of a vision transformer."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
