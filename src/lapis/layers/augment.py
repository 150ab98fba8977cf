"""SpecAugment on ragged frames: whole bands and stretches of time are silenced while training (arXiv 1904.08779)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lapis.ragged import Ragged


class SpecAugment(nn.Module):
    """Silences `time_masks` stretches and `band_masks` groups of bands of every clip; does nothing in evaluation."""

    @dataclass(frozen=True)
    class Config:
        """At most so wide: `time_frames` frames, but never more than `time_share` of a short clip; `bands` bands.

        The widths are uniform from none to the most (section 2 of the paper). The share keeps a clip of a second from
        being erased by widths made for ten.
        """

        time_masks: int = 2
        time_frames: int = 64
        time_share: float = 0.2
        band_masks: int = 2
        bands: int = 8

    def __init__(self, config: Config, *, silence: float) -> None:
        super().__init__()
        self.config, self.silence = config, silence

    def forward(self, spectrogram: Ragged, numbers: Sequence[int] | None = None) -> Ragged:
        """Frames of shape (frames, mels), the same shape out.

        Args:
            spectrogram: an item a clip.
            numbers: of the clips, which then decide what is silenced, whatever other clips stand beside them; torch's
                random state decides where they are not given.
        """
        if not self.training:
            return spectrogram
        config, device = self.config, spectrogram.rows.device
        chances = iter(self._chances(len(spectrogram), numbers))
        num_mels = spectrogram.rows.shape[1]
        lengths = torch.tensor(spectrogram.lengths)
        widest = (lengths * config.time_share).floor().clamp(max=config.time_frames)
        silenced = torch.zeros(len(spectrogram.rows), num_mels, dtype=torch.bool, device=device)
        clip, frame = spectrogram.item_of_row, spectrogram.index_in_item
        for _ in range(config.time_masks):
            begin, end = _stretch(lengths, widest, chances=next(chances))
            silenced |= ((frame >= begin.to(device)[clip]) & (frame < end.to(device)[clip]))[:, None]
        band = torch.arange(num_mels, device=device)
        for _ in range(config.band_masks):
            most = torch.full_like(widest, config.bands)
            begin, end = _stretch(torch.full_like(lengths, num_mels), most, chances=next(chances))
            silenced |= (band >= begin.to(device)[clip, None]) & (band < end.to(device)[clip, None])
        return spectrogram.map(lambda rows: rows.masked_fill(silenced, self.silence))

    def _chances(self, clips: int, numbers: Sequence[int] | None) -> Float[Tensor, "masks 2 clips"]:
        """For each mask of each clip two numbers in [0, 1): of its width and of its begin."""
        masks = self.config.time_masks + self.config.band_masks
        if numbers is None:
            return torch.rand(masks, 2, clips)
        of_clips = [np.random.default_rng((AUGMENT, number)).random((masks, 2), np.float32) for number in numbers]
        return torch.from_numpy(np.stack(of_clips, axis=-1))


AUGMENT = 0x5BEC
"""Keeps these random numbers apart from others that a clip's number decides."""


def _stretch(lengths: Tensor, widest: Tensor, *, chances: Float[Tensor, "2 clips"]) -> tuple[Tensor, Tensor]:
    """For each clip a begin and an end, in whole places."""
    widths = (chances[0] * (widest + 1)).long()
    begins = (chances[1] * (lengths - widths + 1)).long()
    return begins, begins + widths
