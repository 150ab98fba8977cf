"""The sounds of a batch in one array, each decoded to where it is to lie: nothing is joined afterwards."""

import weakref
from collections import deque

import numpy as np
import torch

from lapis.ragged import Ragged
from lapis.shapes import Waveform

FIRST_SAMPLES = 1 << 26
"""Room for more is made when they come: durations in other people's JSON may be wrong."""
KEPT_ARRAYS = 8


class Arrays:
    """Arrays of batches, used again when nobody has the batch any more.

    Memory that is new has to be cleared by the system first, which costs a clip of Opus a thirtieth of its decoding.
    """

    def __init__(self) -> None:
        self._free: deque[Waveform] = deque(maxlen=KEPT_ARRAYS)

    def take(self, samples: int) -> Waveform:
        """An array of at least so many samples, with anything in it."""
        try:
            array = self._free.pop()
        except IndexError:
            array = np.empty(0, np.float32)
        return array if len(array) >= samples else np.empty(samples, np.float32)

    def lend(self, array: Waveform, *, samples: int) -> torch.Tensor:
        """The first samples of an array as a tensor; when its last view is gone, the array is free."""
        lent = array[:samples]
        # Not through a lock: this may be called in any thread, in the middle of anything.
        weakref.finalize(lent, self._free.append, array).atexit = False
        return torch.from_numpy(lent)

    def __getstate__(self) -> dict[str, object]:
        """Another process has its own."""
        return {}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__()


class Laid:
    """Sounds one after another."""

    def __init__(self, arrays: Arrays, *, samples: int) -> None:
        """With room for about so many samples; more is made where it is needed, by a copy."""
        self._arrays = arrays
        self._rows = arrays.take(min(samples, FIRST_SAMPLES))
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
        """All of them, not copied. To be called once, at the end: the array is the batch's then."""
        return Ragged(self._arrays.lend(self._rows, samples=self._filled), tuple(self._lengths))


def _is_at(place: Waveform, waveform: Waveform) -> bool:
    """Whether a sound lies at the beginning of a place."""
    return waveform.base is place.base and waveform.ctypes.data == place.ctypes.data
