"""From plans to batches: worker processes read the sound, and the order is that of the plans whatever their number."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lapis import audio, distributed
from lapis.data.batching import Batch, Budget, Draw, Dropped, Plan, plan
from lapis.data.mixture import Mixture
from lapis.ragged import Ragged
from lapis.shapes import Waveform


@dataclass(frozen=True)
class Reading:
    """How batches are read: worker processes, and how much decoded sound each of them may keep for the next epoch."""

    workers: int = 2
    keep_bytes: int = 0


class Loader:
    """Batches of a mixture, from any position on."""

    def __init__(self, mixture: Mixture, *, budget: Budget, sample_rate: int, reading: Reading) -> None:
        self._mixture, self._budget, self._reading = mixture, budget, reading
        self._reader = Reader(mixture, budget=budget, sample_rate=sample_rate, keep_bytes=reading.keep_bytes)

    def batches(self, position: int) -> Iterator[Batch]:
        """Endless batches, the first one beginning with draw `position`."""
        plans = plan(
            self._mixture.draws(position),
            self._budget,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
        )
        return iter(
            DataLoader(
                self._reader,
                sampler=plans,  # type: ignore[arg-type]  (any iterable of what the data set takes)
                batch_size=None,
                collate_fn=_unchanged,  # type: ignore[arg-type]  (torch's alias is not generic)
                num_workers=self._reading.workers,
                prefetch_factor=2 if self._reading.workers else None,
                # Its own, since starting workers draws from it, and a resumed run must not draw more than the first.
                generator=torch.Generator(),
            )
        )


def _unchanged(batch: Batch) -> Batch:
    return batch


class Reader(Dataset):
    """Plans to batches; lives in the workers."""

    def __init__(self, mixture: Mixture, *, budget: Budget, sample_rate: int, keep_bytes: int) -> None:
        self.mixture, self.budget, self.sample_rate = mixture, budget, sample_rate
        self._free_bytes = keep_bytes
        self._kept: dict[str, Waveform] = {}

    def __getitem__(self, planned: Plan) -> Batch:
        """The sound and words of a plan. Draws that cannot be read are named in the batch, with the reason.

        Raises:
            ValueError: none of them can be read.
        """
        waveforms, captions, draws, dropped = [], [], [], []
        for draw in planned.draws:
            try:
                waveform = self._crop(self._read(draw), number=draw.number)
            except ValueError as error:
                dropped.append(Dropped(str(draw.sample.audio), str(error)))
                continue
            waveforms.append(torch.from_numpy(waveform))
            captions.append(self.mixture.choose_caption(draw))
            draws.append(draw)
        if not draws:
            raise ValueError(f"no clip of a batch could be read; the first: {dropped[0].name}: {dropped[0].reason}")
        return Batch(Ragged.pack(waveforms), tuple(captions), tuple(draws), planned.position, tuple(dropped))

    def _read(self, draw: Draw) -> Waveform:
        name = f"{draw.sample.audio}"
        kept = self._kept.get(name)
        if kept is not None:
            return kept
        waveform = audio.read(draw.sample.audio.open(), sample_rate=self.sample_rate)
        if waveform.nbytes <= self._free_bytes:
            self._free_bytes -= waveform.nbytes
            self._kept[name] = waveform
        return waveform

    def _crop(self, waveform: Waveform, *, number: int) -> Waveform:
        """A random window where the clip is longer than the budget allows: a pure function of the seed and `number`."""
        longest = round(self.budget.clip_seconds * self.sample_rate)
        if len(waveform) <= longest:
            return waveform
        begin = random.Random(f"crop/{self.mixture.seed}/{number}").randint(0, len(waveform) - longest)
        return np.ascontiguousarray(waveform[begin : begin + longest])
