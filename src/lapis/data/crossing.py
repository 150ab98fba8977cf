"""How batches cross from worker processes to the one that trains: in memory that both have, used again and again.

Memory that is new for every batch has to be cleared by the system, mapped by both sides and handed over through a
socket, which costs a clip of Opus a twentieth of its decoding. Here each worker has a few arrays: one crosses as
torch's tensors do when it is first used, and later its number is enough. Which of them are lent stands in a table that
all see: a worker marks what it sends, and the mark is cleared where nobody has the batch any more.
"""

import os
import weakref
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, get_worker_info

from lapis.data.batching import Batch, Plan
from lapis.data.laying import KEPT_ARRAYS, Arrays
from lapis.ragged import Ragged
from lapis.shapes import Waveform

SPARE = 1.25
"""How much longer than asked for a new array is, since the batches of a run are not equally long."""
NO_SOUND = Ragged(torch.empty(0), ())


def marks_of_lent(workers: int) -> torch.Tensor:
    """The table: a row a worker, a column an array; all are free."""
    return torch.zeros(workers, KEPT_ARRAYS, dtype=torch.uint8).share_memory_()


class SharedArrays(Arrays):
    """Of a worker process."""

    def __init__(self, marks: torch.Tensor) -> None:
        super().__init__()
        self._marks = marks
        self._shared: list[torch.Tensor | None] = [None] * KEPT_ARRAYS
        self._known: set[int] = set()

    def take(self, samples: int) -> Waveform:
        """One that is free; one that is not shared where all are lent."""
        lent = self._lent()
        free = [number for number in range(KEPT_ARRAYS) if not lent[number]]
        for number in free:
            array = self._shared[number]
            if array is not None and len(array) >= samples:
                return array.numpy()
        if not free:
            return np.empty(samples, np.float32)
        # The place of none, or of one that was too short.
        self._known.discard(free[0])
        # Made shared, since memory that becomes so is touched and copied, the spare part of it too.
        storage = torch.UntypedStorage._new_shared(4 * max(1, int(SPARE * samples)))
        array = self._shared[free[0]] = torch.empty(0).set_(storage)
        return array.numpy()

    def lend(self, array: Waveform, *, samples: int) -> torch.Tensor:
        """The first samples of an array."""
        number = self._number(array)
        if number is not None:
            self._lent()[number] = 1
        return torch.from_numpy(array[:samples])

    def sent(self, batch: Batch) -> "Batch | Sent":
        """A batch as it goes on its way; as it is where its sound lies in an array that is not shared."""
        number = self._number(batch.waveforms.rows.numpy())
        if number is None:
            return batch
        first_time = number not in self._known
        self._known.add(number)
        return Sent(
            replace(batch, waveforms=NO_SOUND),
            batch.waveforms.lengths,
            worker=_worker(),
            number=number,
            array=self._shared[number] if first_time else None,
        )

    def _lent(self) -> np.ndarray:
        return self._marks[_worker()].numpy()

    def _number(self, array: Waveform) -> int | None:
        """Of the array that begins where this one does."""
        address = array.ctypes.data
        for number, shared in enumerate(self._shared):
            if shared is not None and shared.data_ptr() == address:
                return number
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker begins with no arrays."""
        return SharedArrays, (self._marks,)


@dataclass(frozen=True)
class Sent:
    """A batch on its way, its sound in an array of a worker: the array itself comes when it is used first."""

    batch: Batch
    lengths: tuple[int, ...]
    worker: int
    number: int
    array: torch.Tensor | None


class Received:
    """The arrays of all workers, in the process that trains."""

    def __init__(self, marks: torch.Tensor) -> None:
        self._lent = marks.numpy()
        self._process = os.getpid()
        self._arrays: dict[tuple[int, int], Waveform] = {}

    def batch(self, sent: Sent) -> Batch:
        """The batch; when the last view of its sound is gone, the worker may use the array again."""
        place = sent.worker, sent.number
        if sent.array is not None:
            self._arrays[place] = sent.array.numpy()
        array = self._arrays[place][: sum(sent.lengths)]
        # Not through a lock: this may be called in any thread, in the middle of anything.
        weakref.finalize(array, _free, self._lent, place, process=self._process).atexit = False
        return replace(sent.batch, waveforms=Ragged(torch.from_numpy(array), sent.lengths))


def _free(lent: np.ndarray, place: tuple[int, int], *, process: int) -> None:
    """Clear a mark. A fork of the process that received has a copy of its batches, and its end is not theirs."""
    if os.getpid() == process:
        lent[place] = 0


class Sending(Dataset):
    """What a worker process asks: plans to batches on their way."""

    def __init__(self, reader: "Dataset[Batch | ValueError]", arrays: SharedArrays) -> None:
        """With a reader that lays its batches into these arrays."""
        self._reader, self._arrays = reader, arrays

    def __getitem__(self, planned: Plan) -> Batch | Sent | ValueError:
        read = self._reader[planned]
        return read if isinstance(read, ValueError) else self._arrays.sent(read)


def _worker() -> int:
    worker = get_worker_info()
    assert worker is not None, "arrays are shared by the workers of a DataLoader"
    return worker.id
