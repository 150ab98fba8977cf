"""The sounds of a batch in one array, each decoded to where it is to lie: nothing is joined afterwards."""

import numpy as np
import torch

from lapis.ragged import Ragged
from lapis.shapes import Waveform

FIRST_SAMPLES = 1 << 26
"""Room for more is made when they come: durations in other people's JSON may be wrong."""


class Laid:
    """Sounds one after another."""

    def __init__(self, *, samples: int) -> None:
        """With room for about so many samples; more is made where it is needed, by a copy."""
        self._rows = np.empty(min(samples, FIRST_SAMPLES), np.float32)
        self._filled = 0
        self._lengths: list[int] = []

    @property
    def room(self) -> Waveform:
        """Where the next sound may be put before it is added."""
        return self._rows[self._filled :]

    def add(self, waveform: Waveform) -> None:
        """Lay a sound behind the others; it may be in its place already."""
        end = self._filled + len(waveform)
        if end > len(self._rows):
            rows = np.empty(max(end, 2 * len(self._rows)), np.float32)
            rows[: self._filled] = self._rows[: self._filled]
            self._rows = rows
        if not _is_at(self.room, waveform):
            self._rows[self._filled : end] = waveform
        self._filled = end
        self._lengths.append(len(waveform))

    def ragged(self) -> Ragged:
        """All of them, not copied."""
        return Ragged(torch.from_numpy(self._rows[: self._filled]), tuple(self._lengths))


def _is_at(place: Waveform, waveform: Waveform) -> bool:
    """Whether a sound lies at the beginning of a place."""
    return waveform.base is place.base and waveform.ctypes.data == place.ctypes.data
