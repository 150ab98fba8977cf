"""From plans to batches: workers read the sound, and the order is that of the plans whatever their number and kind."""

import math
import random
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch.utils.data import DataLoader, Dataset

from lapis import audio, distributed
from lapis.clock import taken, timed
from lapis.data.ahead import expect
from lapis.data.batching import Batch, Budget, Draw, Dropped, Plan, plan
from lapis.data.captions import Reject
from lapis.data.crossing import Received, Sending, Sent, SharedArrays, marks_of_lent
from lapis.data.kept import Kept
from lapis.data.laying import Arrays, Laid
from lapis.data.mixture import Mixture
from lapis.data.storage import StorageError
from lapis.shapes import Waveform

AHEAD = 2
"""Batches that each worker is asked for before they are needed."""


@dataclass(frozen=True)
class Reading:
    """How batches are read: by how many workers, and how much decoded sound each process may keep for the next epoch.

    Decoding runs beside Python in threads as it does in processes. Threads pass their batches on as they are, and what
    one keeps is there for all; but all that is not decoding, storage or resampling takes its turn with the training
    loop. Processes are for a loop that must not wait (a GPU): their sound lies in memory that is shared, and only the
    words are copied.
    """

    workers: int = 2
    keep_bytes: int = 0
    threads: bool = False
    """Workers are threads of this process, not processes of their own."""

    def __post_init__(self) -> None:
        if self.workers < 0 or (self.threads and not self.workers):
            raise ValueError(f"expected workers of 0 or more, and at least one where they are threads, got {self}")


class Loader:
    """Batches of a mixture, from any position on."""

    def __init__(self, mixture: Mixture, *, budget: Budget, sample_rate: int, reading: Reading) -> None:
        self._mixture, self._budget, self._reading = mixture, budget, reading
        self._make_reader = partial(
            Reader, mixture, budget=budget, sample_rate=sample_rate, keep_bytes=reading.keep_bytes
        )
        self._reader = self._make_reader()

    def batches(self, position: int) -> Iterator[Batch]:
        """Endless batches, the first one beginning with draw `position`."""
        plans = plan(
            self._mixture.draws(position),
            self._budget,
            rank=distributed.rank(),
            world_size=distributed.world_size(),
        )
        if not self._reading.workers:
            batches: Iterable[Batch | ValueError] = map(self._reader.__getitem__, plans)
        else:
            batches = self._in_threads(plans) if self._reading.threads else self._in_processes(plans)
        asked = time.perf_counter()
        for read in batches:
            if isinstance(read, ValueError):
                raise read
            self._mixture.rejected.update(read.rejected)
            # One that was ready before it was asked for was on its way for nobody.
            transfer = time.perf_counter() - max(asked, read.finished)
            yield replace(read, spent={**read.spent, "transfer": transfer})
            asked = time.perf_counter()

    def _in_processes(self, plans: Iterator[Plan]) -> Iterator[Batch | ValueError]:
        marks = marks_of_lent(self._reading.workers)
        arrays, received = SharedArrays(marks), Received(marks)
        coming: Iterable[Batch | Sent | ValueError] = DataLoader(
            Sending(self._make_reader(arrays=arrays), arrays),
            sampler=plans,
            batch_size=None,
            collate_fn=_unchanged,  # type: ignore[arg-type]  (torch's alias is not generic)
            num_workers=self._reading.workers,
            prefetch_factor=AHEAD,
            # Its own, since starting workers draws from it, and a resumed run must not draw more than the first.
            generator=torch.Generator(),
            multiprocessing_context=None if self._mixture.may_fork else "spawn",
            worker_init_fn=_leave_interrupts_to_the_parent,
        )
        for read in coming:
            yield received.batch(read) if isinstance(read, Sent) else read

    def _in_threads(self, plans: Iterator[Plan]) -> Iterator[Batch | ValueError]:
        pool = ThreadPoolExecutor(self._reading.workers, thread_name_prefix="lapis-reader")
        coming: deque[Future[Batch | ValueError]] = deque()
        try:
            for planned in plans:
                coming.append(pool.submit(self._reader.__getitem__, planned))
                if len(coming) > AHEAD * self._reading.workers:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            # Nobody waits for what is begun: this may be garbage that one of the threads itself collects.
            pool.shutdown(wait=False, cancel_futures=True)


def _unchanged(read: Batch | Sent | ValueError) -> Batch | Sent | ValueError:
    return read


def _leave_interrupts_to_the_parent(worker: int) -> None:
    """Ctrl-C reaches all processes of a terminal, and torchrun passes SIGTERM on to all that a process started.

    A worker that broke off within a file would cut its sound, and one that ended would end the run without a
    checkpoint. A second SIGTERM ends it, as its parent asks for where it does not end by itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(signal.SIGTERM, signal.SIG_DFL))


class Reader(Dataset):
    """Plans to batches; a copy lives in each worker process, and threads share one."""

    def __init__(
        self, mixture: Mixture, *, budget: Budget, sample_rate: int, keep_bytes: int, arrays: Arrays | None = None
    ) -> None:
        """With arrays of its own, unless told into which ones batches are laid."""
        self.mixture, self.budget, self.sample_rate = mixture, budget, sample_rate
        self._kept = Kept(keep_bytes)
        self._arrays = arrays or Arrays()

    def __getitem__(self, planned: Plan) -> Batch | ValueError:
        """The sound and words of a plan. Draws that cannot be read are named in the batch, with the reason.

        Where none can be read the answer is an error, to be raised by the process that asked: one that is raised here
        would reach the user with the worker's stack trace in its message. A store that does not answer is such an error
        too: to leave out its clips would make the batch depend on the weather.
        """
        taken()
        with timed("other"):
            read = self._batch(planned)
        return read if isinstance(read, ValueError) else replace(read, spent=taken(), finished=time.perf_counter())

    def _batch(self, planned: Plan) -> Batch | ValueError:
        with timed("storage"):
            expect(of for of in self.mixture.ranges(planned.draws) if str(of) not in self._kept)
        draws: list[Draw] = []
        dropped: list[Dropped] = []
        rejected: list[str] = []
        try:
            # The words of all before the sound of the first: between two decodings Python finds the processor's caches
            # full of other things, and takes three times as long.
            completed = [self._completed(draw, reject=rejected.append) for draw in planned.draws]
            laid = Laid(self._arrays, samples=self._expected_samples(planned))
            for draw in completed:
                read = draw if isinstance(draw, Dropped) else self._varied(draw, place=laid.room)
                if isinstance(read, Dropped):
                    dropped.append(read)
                else:
                    laid.add(read[1])
                    draws.append(read[0])
        except StorageError as error:
            return error
        if not draws:
            return ValueError(f"no clip of a batch could be read; the first: {dropped[0].name}: {dropped[0].reason}")
        captions = [self.mixture.choose_caption(draw) for draw in draws]
        return Batch(laid.ragged(), tuple(captions), tuple(draws), planned.position, tuple(dropped), tuple(rejected))

    def _completed(self, draw: Draw, *, reject: Reject) -> Draw | Dropped:
        """A draw with its words."""
        try:
            with timed("storage"):
                return self.mixture.complete(draw, reject=reject)
        except StorageError:
            raise
        except (ValueError, OSError) as error:
            return Dropped(str(draw.sample.audio), str(error))

    def _varied(self, draw: Draw, *, place: Waveform) -> tuple[Draw, Waveform] | Dropped:
        """A draw and its sound, as they are after the variation of its mixture."""
        try:
            return self.mixture.varied(draw, self._read(draw, place=place), read=self._read)
        except StorageError:
            raise
        except (ValueError, OSError) as error:
            return Dropped(str(draw.sample.audio), str(error))

    def _expected_samples(self, planned: Plan) -> int:
        """As many as the draws promise, and one more each, since seconds are rounded."""
        seconds = [min(draw.sample.seconds or 0.0, self.budget.clip_seconds) for draw in planned.draws]
        return math.ceil(sum(seconds) * self.sample_rate) + len(seconds)

    def _read(self, draw: Draw, *, place: Waveform | None = None) -> Waveform:
        """The clip, or a window of it where it is longer than the budget allows; kept for later if there is room."""
        name = str(draw.sample.audio)
        if (kept := self._kept.get(name)) is not None:
            return kept
        with timed("storage"):
            source = draw.sample.audio.open()
        with timed("decode"):
            return self._decode(draw, source, name=name, place=place)

    def _decode(self, draw: Draw, source: audio.File, *, name: str, place: Waveform | None) -> Waveform:
        longest = self.budget.clip_seconds
        seconds = audio.info(source).seconds if draw.sample.seconds is None else draw.sample.seconds
        if seconds > longest:
            # A pure function of the seed and the draw's number, so that a resumed run cuts as the first one did.
            start = random.Random(f"crop/{self.mixture.seed}/{draw.number}").uniform(0, seconds - longest)
            return audio.read(source, sample_rate=self.sample_rate, start_seconds=start, seconds=longest, place=place)
        waveform = audio.read(source, sample_rate=self.sample_rate, seconds=longest, place=place)
        self._kept.keep(name, waveform)
        return waveform
