"""Where reading time goes: batches are read as in training, with clocks in the workers, and none is trained on."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lapis.data.batching import READING, Batch
from lapis.data.loader import Loader

IN_WORKERS = tuple(name for name in READING if name != "transfer")
MATTERS = 0.15
"""Of the time: what takes less than this is no advice worth."""


@dataclass(frozen=True)
class ReadingTime:
    """What reading some batches took. `seconds` are of all workers together, by `READING`, and of `features`."""

    workers: int
    batches: int
    clips: int
    audio_seconds: float
    wall_seconds: float
    sample_rate: int
    is_local: bool
    seconds: Mapping[str, float]

    @property
    def clips_per_second(self) -> float:
        """That came out; a run that takes more of them waits for data."""
        return self.clips / self.wall_seconds

    @property
    def worker_seconds(self) -> float:
        """That the workers were busy."""
        return sum(self.seconds.get(name, 0.0) for name in IN_WORKERS)

    @property
    def bottleneck(self) -> str:
        """What most of the time went by on, of `READING`: the way between processes counts where it was waited for."""
        of_wall = {name: self.seconds.get(name, 0.0) / max(1, self.workers) for name in IN_WORKERS}
        of_wall["transfer"] = self.seconds.get("transfer", 0.0)
        return max(of_wall, key=lambda name: of_wall[name])

    def advice(self, *, processors: int | None = None) -> list[str]:
        """What to change, the most useful first; nothing where there is nothing to say."""
        processors = processors or os.cpu_count() or 1
        share = {name: self.seconds.get(name, 0.0) / (self.worker_seconds or 1.0) for name in IN_WORKERS}
        told: list[tuple[float, str]] = []
        if share["resample"] >= MATTERS:
            change = f"prepare the sounds at the model's rate: lapis data prepare ... --sample-rate {self.sample_rate}"
            told.append((share["resample"], f"resample {share['resample']:.0%}: {change}"))
        if share["storage"] >= MATTERS:
            change = (
                "the disk is slow, or the words are many: prepare shards on a nearer disk (lapis data prepare)"
                if self.is_local
                else "more workers have more requests under way; or bring the shards nearer"
            )
            told.append((share["storage"], f"storage {share['storage']:.0%}: {change}"))
        if share["decode"] >= MATTERS:
            if self.workers < processors:
                change = f"more workers: {self.workers} of {processors} processors decode"
            else:
                change = "FLAC decodes faster than Opus or mp3 (lapis data prepare --codec flac); shorter clip_seconds"
                change += "; reading.keep_bytes keeps what was decoded for the next epoch"
            told.append((share["decode"], f"decode {share['decode']:.0%}: {change}"))
        if share["other"] >= MATTERS:
            told.append((share["other"], f"other {share['other']:.0%}: sounds laid over others, captions, packing"))
        transfer = self.seconds.get("transfer", 0.0) / self.wall_seconds
        if self.workers and transfer >= MATTERS:
            change = "of the time is the way from the workers: threads (reading.threads), or fewer seconds in a batch"
            told.append((transfer, f"transfer {transfer:.0%}: {change}"))
        return [sentence for _, sentence in sorted(told, reverse=True)]


def measure(
    loader: Loader,
    *,
    workers: int,
    sample_rate: int,
    is_local: bool,
    batches: int,
    most_seconds: float,
    features: Callable[[Batch], None] | None = None,
) -> ReadingTime:
    """Read so many batches, or for so long; the clock starts when the first batch is there.

    `features` is what the model does with a batch before anything is learned. It is timed on the last batch alone,
    after the others, since while it works the workers read on.

    Raises:
        ValueError: no batch can be read.
    """
    stream = loader.batches(0)
    batch = next(stream)
    spent = dict.fromkeys(READING, 0.0)
    count = clips = samples = 0
    begin, wall = time.perf_counter(), 0.0
    while count < batches and (not count or wall < most_seconds):
        batch = next(stream)
        for name in READING:
            spent[name] += batch.spent.get(name, 0.0)
        count, clips, samples = count + 1, clips + len(batch), samples + len(batch.waveforms.rows)
        wall = time.perf_counter() - begin
    del stream  # and the workers with it
    if features is not None:
        features(batch)  # the first time makes its tables
        before = time.perf_counter()
        features(batch)
        spent["features"] = (time.perf_counter() - before) * samples / len(batch.waveforms.rows)
    return ReadingTime(workers, count, clips, samples / sample_rate, wall, sample_rate, is_local, spent)
