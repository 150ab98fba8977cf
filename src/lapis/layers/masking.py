"""Which patches of a clip stay visible: random ones, or what is left beside whole bands and whole columns.

A mask is a pure function of a generator. One generator a clip, seeded from the number of its draw, makes a run's masks
the same however many processes share a batch, and after an interruption.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lapis.ragged import Ragged


@dataclass(frozen=True)
class Masking:
    """How much is hidden, and in which shape.

    Args:
        ratio: share of a clip's patches that is hidden; 1 hides all of them.
        shape: "random" takes each patch by itself (arXiv 2210.14648, section 3); "structured" takes whole bands and
            whole columns, about as great a share of each (arXiv 2207.06405, section 4.3), and shows a few of their
            patches where they would be too many.
        inverted: the structured mask of M2D-CLAP's released code, whose order is reversed: what was marked to be hidden
            is what stays, and the rest of the visible patches is random.
    """

    ratio: float = 0.7
    shape: Literal["random", "structured"] = "random"
    inverted: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"ratio: expected a share from 0 to 1, got {self.ratio}")
        if self.inverted and self.shape == "random":
            raise ValueError("inverted: only a structured mask can be, a random one would stay random")

    def num_visible(self, num_patches: int) -> int:
        """How many of so many patches stay: 57 of 190. At least one, unless all are to be hidden."""
        least = 1 if self.ratio < 1 else 0
        return max(least, int(num_patches * (1 - self.ratio)))

    def visible(self, num_patches: int, *, bands: int, generator: torch.Generator) -> Bool[Tensor, "patches"]:
        """Which patches of one clip stay; on the processor."""
        noise = torch.rand(num_patches, generator=generator)
        if self.shape == "structured":
            marked = self._marked(num_patches // bands, bands=bands, generator=generator)
            # Marked patches come last, or first where the order is reversed; the noise decides among equals.
            noise = noise + (~marked if self.inverted else marked)
        stays = torch.zeros(num_patches, dtype=torch.bool)
        stays[noise.argsort()[: self.num_visible(num_patches)]] = True
        return stays

    def _marked(self, columns: int, *, bands: int, generator: torch.Generator) -> Bool[Tensor, "patches"]:
        """Patches in the chosen bands and columns, no fewer than are to be hidden."""
        hidden = columns * bands - self.num_visible(columns * bands)
        share = 1 - math.sqrt(1 - self.ratio)  # of each: what both leave is (1 - share) squared
        whole_bands = round(share * bands)
        rest = bands - whole_bands
        whole_columns = max(0, math.ceil((hidden - whole_bands * columns) / rest)) if rest else 0
        grid = torch.zeros(columns, bands, dtype=torch.bool)
        grid[:, torch.randperm(bands, generator=generator)[:whole_bands]] = True
        grid[torch.randperm(columns, generator=generator)[:whole_columns]] = True
        return grid.flatten()


@dataclass(frozen=True)
class Parts:
    """The rows of each item in two: `visible` and `hidden` are numbers of rows of all items, ascending.

    `leading` rows of each item are no patches (a class token): always visible, and `asked` beside the hidden ones.
    """

    visible: Int[Tensor, "visible"]
    hidden: Int[Tensor, "hidden"]
    num_visible: tuple[int, ...]
    num_hidden: tuple[int, ...]
    leading: int = 0

    @classmethod
    def of(cls, masks: Sequence[Bool[Tensor, "_patches"]], *, device: torch.device, leading: int = 0) -> "Parts":
        """From the mask of each item's rows, on the processor: no length is read back from a device."""
        stays = torch.cat(list(masks))
        counts = tuple(int(mask.sum()) for mask in masks)
        return cls(
            visible=stays.nonzero().flatten().to(device, non_blocking=True),
            hidden=(~stays).nonzero().flatten().to(device, non_blocking=True),
            num_visible=counts,
            num_hidden=tuple(len(mask) - count for mask, count in zip(masks, counts, strict=True)),
            leading=leading,
        )

    @property
    def shown(self) -> Ragged:
        """The numbers of the visible rows, an item each."""
        return Ragged(self.visible, self.num_visible)

    @property
    def asked(self) -> Ragged:
        """The numbers of the leading and of the hidden rows, an item each."""
        if not self.leading:
            return Ragged(self.hidden, self.num_hidden)
        shown = [numbers[: self.leading] for numbers in self.shown.split()]
        hidden = self.hidden.split(self.num_hidden)
        return Ragged.pack([torch.cat(both) for both in zip(shown, hidden, strict=True)])
