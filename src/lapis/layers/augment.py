"""SpecAugment on ragged frames: whole bands and stretches of time are silenced while training (arXiv 1904.08779)."""

from dataclasses import dataclass

import torch
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

    def forward(self, spectrogram: Ragged) -> Ragged:
        """Frames of shape (frames, mels), the same shape out."""
        if not self.training:
            return spectrogram
        config, device = self.config, spectrogram.rows.device
        num_mels = spectrogram.rows.shape[1]
        lengths = torch.tensor(spectrogram.lengths)
        widest = (lengths * config.time_share).floor().clamp(max=config.time_frames)
        silenced = torch.zeros(len(spectrogram.rows), num_mels, dtype=torch.bool, device=device)
        clip, frame = spectrogram.item_of_row, spectrogram.index_in_item
        for _ in range(config.time_masks):
            begin, end = _stretch(lengths, widest)
            silenced |= ((frame >= begin.to(device)[clip]) & (frame < end.to(device)[clip]))[:, None]
        band = torch.arange(num_mels, device=device)
        for _ in range(config.band_masks):
            begin, end = _stretch(torch.full_like(lengths, num_mels), torch.full_like(widest, config.bands))
            silenced |= (band >= begin.to(device)[clip, None]) & (band < end.to(device)[clip, None])
        return spectrogram.map(lambda rows: rows.masked_fill(silenced, self.silence))


def _stretch(lengths: Tensor, widest: Tensor) -> tuple[Tensor, Tensor]:
    """For each clip a begin and an end, in whole places."""
    widths = (torch.rand(len(lengths)) * (widest + 1)).long()
    begins = (torch.rand(len(lengths)) * (lengths - widths + 1)).long()
    return begins, begins + widths
