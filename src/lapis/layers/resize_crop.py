"""Random resize crop on ragged frames: a part of a clip's spectrogram stretched to the whole while training, which
makes it faster or slower, higher or lower (BYOL-A, arXiv 2204.07402).
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lapis.layers.augment import SpecAugment
from lapis.ragged import Ragged

CANVAS = 1.5
"""Times a clip's frames: the clip lies in the middle, beside it the mean of normalised spectrograms, 0."""

LEAST, MOST = 0.6, 1.5
"""Of a crop's height and width, times those of the clip; never more than the canvas, which is not higher."""


class ResizedAugment(SpecAugment):
    """SpecAugment, then a random resize crop, in the order of EVAR's released code."""

    def forward(self, spectrogram: Ragged, numbers: Sequence[int] | None = None) -> Ragged:
        """Frames of shape (frames, mels), the same shape out; arguments as those of `SpecAugment`."""
        spectrogram = super().forward(spectrogram, numbers)
        if not self.training:
            return spectrogram
        chances = torch.rand(len(spectrogram), 4).tolist() if numbers is None else [_chances(of) for of in numbers]
        return Ragged.pack([resized(clip, chances=of) for clip, of in zip(spectrogram.split(), chances, strict=True)])


def resized(clip: Float[Tensor, "frames mels"], *, chances: Sequence[float]) -> Float[Tensor, "frames mels"]:
    """A crop of one clip in its own shape, by cubic interpolation.

    Args:
        clip: its normalised spectrogram.
        chances: in [0, 1), of the crop's height and width and of its places in both directions.
    """
    frames, mels = clip.shape
    canvas = clip.new_zeros(int(CANVAS * frames), mels)
    begin = (len(canvas) - frames) // 2
    canvas[begin : begin + frames] = clip
    height, width = (
        min(max(1, int((LEAST + chance * (MOST - LEAST)) * of)), most)
        for chance, of, most in zip(chances, (mels, frames), (mels, len(canvas)))
    )
    band, frame = int(chances[2] * (mels - height + 1)), int(chances[3] * (len(canvas) - width + 1))
    crop = canvas[frame : frame + width, band : band + height]
    return F.interpolate(crop[None, None], size=(frames, mels), mode="bicubic", align_corners=True)[0, 0]


def _chances(number: int) -> list[float]:
    return np.random.default_rng((RESIZE, number)).random(4).tolist()


RESIZE = 0xC409
"""Keeps these random numbers apart from others that a clip's number decides."""
