"""Where a row stands in its item: learned and sin-cos tables that are added, rotations that turn queries and keys.

Positions are integers of shape (rows, axes): one axis for text, (column, band) for patches of a spectrogram.
"""

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn


class Rotary(nn.Module):
    """Rotary positions over several axes (arXiv 2104.09864, equation 34; split by axis as in axial 2-D RoPE).

    The head's width is shared equally between the axes; within an axis, pair i turns by position * base^(-i / pairs).
    Angles are float32 whatever the model's precision.
    """

    def __init__(self, *, head_width: int, axes: int, base: float = 10_000.0) -> None:
        super().__init__()
        if head_width % (2 * axes):
            raise ValueError(f"head width {head_width} must be a multiple of {2 * axes} for {axes} rotary axes")
        self.axes, self.pairs, self.base = axes, head_width // (2 * axes), base

    def forward(self, positions: Int[Tensor, "rows axes"]) -> Float[Tensor, "rows half_head_width"]:
        """The angle of every pair of every row, in radians."""
        if positions.shape[1] != self.axes:
            raise ValueError(f"expected positions on {self.axes} axes, got {positions.shape[1]}")
        return _angles(positions, pairs=self.pairs, base=self.base).flatten(1)


def rotate(
    rows: Float[Tensor, "rows heads head_width"], angles: Float[Tensor, "rows half_head_width"]
) -> Float[Tensor, "rows heads head_width"]:
    """Turn each pair (i, i + half) of a head by its angle, so that a product of two rows sees only their distance."""
    cosine, sine = angles.cos()[:, None, :].to(rows.dtype), angles.sin()[:, None, :].to(rows.dtype)
    first, second = rows.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)


class Learned(nn.Module):
    """One learned table an axis; a row gets the sum of its entries (Dasheng: a time table and a band table)."""

    def __init__(self, *, sizes: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.tables = nn.ParameterList(nn.init.trunc_normal_(torch.empty(size, width), std=0.02) for size in sizes)

    def forward(self, positions: Int[Tensor, "rows axes"]) -> Float[Tensor, "rows width"]:
        """What to add to each row.

        Raises:
            ValueError: a position lies outside its table.
        """
        total = torch.zeros((), device=positions.device)
        for axis, table in enumerate(self.tables):
            if len(positions) and int(positions[:, axis].max()) >= len(table):
                raise ValueError(f"position {int(positions[:, axis].max())} on axis {axis} is outside its {len(table)}")
            total = total + table[positions[:, axis]]
        return total


class SinCos(nn.Module):
    """Fixed sines and cosines, the width shared equally between the axes (arXiv 1706.03762, section 3.5)."""

    def __init__(self, *, axes: int, width: int, base: float = 10_000.0) -> None:
        super().__init__()
        if width % (2 * axes):
            raise ValueError(f"width {width} must be a multiple of {2 * axes} for {axes} sin-cos axes")
        self.pairs, self.base = width // (2 * axes), base

    def forward(self, positions: Int[Tensor, "rows axes"]) -> Float[Tensor, "rows width"]:
        """What to add to each row."""
        angles = _angles(positions, pairs=self.pairs, base=self.base)
        return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)


def _angles(positions: Int[Tensor, "rows axes"], *, pairs: int, base: float) -> Float32[Tensor, "rows axes pairs"]:
    """position * base^(-i / pairs). Made anew each time: a table in the module would be rounded with its weights."""
    exponents = torch.arange(pairs, dtype=torch.float32, device=positions.device) / pairs
    return positions[:, :, None].float() * base**-exponents
