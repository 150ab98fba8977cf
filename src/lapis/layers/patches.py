"""Frames of a spectrogram to patches, one row a patch, time first: all bands of a column stand together.

A last column that is not full is completed with silence, so no sound is lost and every clip has at least one column.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lapis.ragged import Ragged


class Patches(nn.Module):
    """Non-overlapping patches of `frames` x `mels` values, projected linearly to `width`."""

    def __init__(self, *, frames: int, mels: int, num_mels: int, width: int, bias: bool, silence: float) -> None:
        super().__init__()
        if num_mels % mels:
            raise ValueError(f"{num_mels} mel bands cannot be cut into patches of {mels}")
        self.frames, self.mels, self.bands, self.silence = frames, mels, num_mels // mels, silence
        self.projection = nn.Linear(frames * mels, width, bias=bias)

    def num_patches(self, num_frames: int) -> int:
        """Patches of a clip of so many frames."""
        return -(-num_frames // self.frames) * self.bands

    def forward(self, spectrogram: Ragged) -> Ragged:
        """Rows of shape (frames, mels) in, (patches, width) out."""
        dtype = self.projection.weight.dtype  # spectrograms are float32 whatever the model's precision
        return self.cut(spectrogram).map(lambda rows: self.projection(rows.to(dtype)))

    def cut(self, spectrogram: Ragged) -> Ragged:
        """The patches themselves, each flattened to (frames * mels), frame by frame."""
        columns = [-(-length // self.frames) for length in spectrogram.lengths]
        begins = torch.tensor([0, *columns[:-1]], device=spectrogram.rows.device).cumsum(0) * self.frames
        place = begins[spectrogram.item_of_row] + spectrogram.index_in_item
        shape = (sum(columns) * self.frames, spectrogram.rows.shape[1])
        filled = spectrogram.rows.new_full(shape, self.silence).index_copy(0, place, spectrogram.rows)
        grid = filled.reshape(sum(columns), self.frames, self.bands, self.mels)
        rows = grid.transpose(1, 2).flatten(2).flatten(0, 1)
        return Ragged(rows, tuple(count * self.bands for count in columns))

    def positions(self, patches: Ragged) -> Int[Tensor, "rows 2"]:
        """(column, band) of every patch."""
        index = patches.index_in_item
        return torch.stack([index // self.bands, index % self.bands], dim=1)


@dataclass(frozen=True)
class Chunks:
    """What a transformer is given: chunks of sound as items, and how many chunks each clip has.

    The first `leading` rows of each item are no patches: M2D's class token.
    """

    items: Ragged
    of_clip: tuple[int, ...]
    leading: int = 0

    def joined(self, tokens: Ragged) -> Ragged:
        """The tokens of each clip, its chunks one after another, from those of chunks, without the leading ones."""
        lengths = iter(tokens.lengths)
        of_clip = tuple(sum(next(lengths) - self.leading for _ in range(count)) for count in self.of_clip)
        return Ragged(tokens.without_first(self.leading).rows, of_clip)


def unpatch(
    rows: Float[Tensor, "patches values"], *, frames: int, mels: int, num_mels: int
) -> Float[Tensor, "frames mels"]:
    """One clip's flattened patches back to its spectrogram, completed columns included: the inverse of `cut`."""
    bands = num_mels // mels
    grid = rows.reshape(len(rows) // bands, bands, frames, mels)
    return grid.transpose(1, 2).reshape(-1, num_mels)
