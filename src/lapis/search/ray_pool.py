"""The driver's side of a Ray job: workers are started, handed leases, and replaced when they are lost.

A worker has two leases at a time, the one at work and the next, so that it does not wait for the driver, and what is
under way is bounded; a thread of the driver waits for each worker. What is noted of a lease (`careful.py`) is noted
when it is its turn. One that has been begun before, by a worker that was lost or in an earlier run, is handed out only
when its worker has nothing else: whoever is lost then is lost at it.
"""

import math
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from lapis.data.storage import Patience, StorageError
from lapis.model import Embedder
from lapis.search.leases import Lease, leases_of
from lapis.search.parts import Parts
from lapis.search.ray_worker import Answer, Told, Worker
from lapis.search.rows import blamed, table_of

LEASES_EACH = 2
"""Of a worker at a time."""
LOST_AT_START = 8
"""So many workers lost one after another before one had its model mean that it is no chance."""
ASKED_SECONDS = 0.5
"""How often a thread that waits for a worker looks whether the work has been stopped."""
LATE_SECONDS = 120.0


class _LostError(Exception):
    """A worker is gone, or the machine it was on."""


class _StoppedError(Exception):
    """The work has been stopped, by a signal or by what another thread met."""


class _Leases:
    """The leases of a job, for several threads; one that was not finished is the next to be handed out."""

    def __init__(self, parts: Parts, leases: Iterator[Lease], progress: Callable[[int, int], None] | None) -> None:
        self.parts = parts
        self._leases, self._returned, self._lock = leases, list[Lease](), threading.Lock()
        self._progress, self._done = progress, parts.num_rows
        self.tell(0)

    @property
    def is_done(self) -> bool:
        """Whether every clip has its row."""
        return self._done == self.parts.job.num_clips

    def following(self) -> Lease | None:
        """The next one; None where none is left but those that are handed out."""
        with self._lock:
            return self._returned.pop() if self._returned else next(self._leases, None)

    def give_back(self, lease: Lease) -> None:
        """For another worker."""
        with self._lock:
            self._returned.append(lease)

    def tell(self, count: int) -> None:
        """That so many rows more are written."""
        with self._lock:
            self._done += count
            if self._progress:
                self._progress(self._done, self.parts.job.num_clips)


@dataclass
class Pool:
    """The workers of a job, each with a thread that hands it leases and starts another in its place when it is lost."""

    make: Callable[[], Embedder]
    options: dict[str, Any]
    num_workers: int
    gpus_per_worker: int
    _stop: threading.Event = field(init=False, default_factory=threading.Event)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)
    _lost_at_start: int = field(init=False, default=0)
    _launched: list[tuple[Any, Any]] = field(init=False, default_factory=list)

    def work(
        self,
        parts: Parts,
        *,
        lease_clips: int,
        patience: Patience | None,
        progress: Callable[[int, int], None] | None,
        first: Any,
    ) -> None:
        """Have all gaps of a job filled; `first` is a worker that has its model."""
        job = _Leases(parts, leases_of(parts, clips_each=lease_clips, patience=patience), progress)
        with ThreadPoolExecutor(self.num_workers, thread_name_prefix="lapis-lease") as threads:
            tasks = [
                threads.submit(self._serve, job, first if number == 0 else None) for number in range(self.num_workers)
            ]
            try:
                while not job.is_done and any(not task.done() for task in tasks):
                    waiting = wait(tasks, timeout=ASKED_SECONDS, return_when=FIRST_EXCEPTION)
                    if any(task.exception() for task in waiting.done):
                        break
            finally:
                self._stop.set()  # for those whose worker is still on its way, too
        errors = [error for task in tasks if (error := task.exception()) is not None]
        for error in errors:
            if not isinstance(error, _StoppedError):
                raise error

    def launch(self) -> None:
        """Have all workers started; they load their models at the same time."""
        self._launched = [self._launch() for _ in range(self.num_workers)]

    def started(self) -> tuple[Any, Told]:
        """A worker that has its model."""
        while True:
            with self._lock:
                launched = self._launched.pop() if self._launched else None
            worker, loading = launched or self._launch()
            try:
                told = self._answer_of(loading, late_after_seconds=LATE_SECONDS)
            except _LostError as error:
                with self._lock:
                    self._lost_at_start += 1
                    if self._lost_at_start >= LOST_AT_START:
                        what = f"{LOST_AT_START} workers, one after another, were lost while they loaded the model"
                        raise RuntimeError(f"{what}: {error}") from error
            else:
                with self._lock:
                    self._lost_at_start = 0
                return worker, told

    def _launch(self) -> tuple[Any, Any]:
        """A worker on its way, and what it will tell of its model."""
        ray: Any = import_module("ray")  # an extra, and large: not there where types are checked

        actor: Any = ray.remote(Worker).options(num_cpus=1, num_gpus=self.gpus_per_worker)
        worker = actor.remote(self.make, self.options, Path.cwd())
        return worker, worker.load.remote()

    def _serve(self, job: "_Leases", worker: Any) -> None:
        """Hand leases to one worker after another; no lease waits for a worker that is still on its way."""
        under_way: deque[tuple[Lease, Any]] = deque()
        folder = job.parts.folder
        while not self._stop.is_set():
            worker = worker or self._started_for(job.parts)
            while len(under_way) < LEASES_EACH and not (under_way and under_way[-1][1] is None):
                lease = job.following()
                if lease is None:
                    break
                under_way.append((lease, None if lease.is_begun(folder) else worker.embed.remote(lease, lease.seen())))
            if not under_way:
                return
            lease, asked = under_way[0]
            try:
                count = self._step(worker, lease, asked, job.parts)
            except _LostError:
                worker = None
                for lost, _ in under_way:
                    job.give_back(lost)
                under_way.clear()
                continue
            under_way.popleft()
            job.tell(count)
            rest = lease.after(count)
            if rest.clips:
                under_way.append((rest, None))  # behind what the worker has been handed already
            else:
                rest.forget(folder)

    def _started_for(self, parts: Parts) -> Any:
        worker, told = self.started()
        job = parts.job
        if told != Told(job.identity, job.width, job.sample_rate):
            raise ValueError(f"a worker has another model ({told}) than the job ({job.identity}): give all the same")
        return worker

    def _step(self, worker: Any, lease: Lease, asked: Any, parts: Parts) -> int:
        """Have the next rows of a lease written, and say how many; of a clip alone where workers have been lost.

        `asked` is what the worker will answer, where it was asked already.
        """
        journal, clip = lease.journal(parts.folder), lease.clips[0]
        is_careful = journal.careful_until > lease.begin
        try:
            if is_careful and journal.is_blamed(lease.begin):
                answer = Answer(table_of([blamed(clip)], width=parts.job.width))
            elif is_careful:
                journal.touch(lease.begin, pause=lambda seconds: self._pause(worker, seconds))
                answer = self._answer_of(worker.embed_carefully.remote(lease.only_first()))
            else:
                answer = self._answer_of(worker.embed.remote(lease, lease.seen()) if asked is None else asked)
            count = len(answer.table)
            if count:
                parts.write_table(answer.table, begin=lease.begin)
        except _LostError:
            raise
        except BaseException:  # The driver ends of itself: no clip is to blame for it.
            journal.forgive()
            raise
        if answer.store_is_away or (answer.failure and is_careful):
            if not count:
                journal.forgive()
            raise StorageError(answer.failure) if answer.store_is_away else RuntimeError(answer.failure)
        return count

    def _pause(self, worker: Any, seconds: float) -> None:
        """Let a worker be; raises if it is lost meanwhile."""
        if self._stop.wait(seconds):
            raise _StoppedError
        self._answer_of(worker.__ray_ready__.remote())

    def _answer_of(self, asked: Any, *, late_after_seconds: float = math.inf) -> Any:
        """What a worker answers; one that is late, because the cluster has no room for it, say, is warned of.

        Raises:
            _LostError: it will not.
        """
        ray: Any = import_module("ray")  # an extra, and large: not there where types are checked
        errors: Any = import_module("ray.exceptions")

        warn_at = time.monotonic() + late_after_seconds
        while True:
            try:
                return ray.get(asked, timeout=ASKED_SECONDS)
            except errors.GetTimeoutError:
                if self._stop.is_set():
                    raise _StoppedError from None
                if time.monotonic() > warn_at:
                    free = {kind: ray.available_resources().get(kind, 0) for kind in ("CPU", "GPU")}
                    wanted = f"1 CPU and {self.gpus_per_worker} GPU"
                    warnings.warn(f"still no worker: it takes {wanted}, the cluster has free: {free}", stacklevel=2)
                    warn_at = math.inf
            except errors.RayTaskError as error:
                raise error.cause if isinstance(error.cause, ValueError) else RuntimeError(str(error.cause)) from error
            except errors.RayError as error:
                raise _LostError(str(error)) from error
