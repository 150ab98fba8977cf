"""Embedding on a Ray cluster: workers hold the model, the driver hands out leases and writes the rows that come back.

The job is that of a single process (`bulk.do_job`): the same folder with the same parts and the same journal, so that a
run may be begun by one and finished by the other. Only the driver writes, under the folder's lock: what a lost worker
had not handed in is not there, and what it had is there once. A worker has one lease at a time, so that what is under
way is bounded; a thread of the driver waits for each.
"""

import math
import os
import platform
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapis.data.storage import Patience, StorageError
from lapis.model import Embedder
from lapis.search.bulk import BATCH_SECONDS, MAX_SECONDS, EmbedReport, check_options, check_out, do_job
from lapis.search.embedding import Embedding
from lapis.search.ending import exit_on_terminate
from lapis.search.leases import Lease, leases_of
from lapis.search.parts import Parts
from lapis.search.rows import Row, blamed, table_of

if TYPE_CHECKING:
    import pyarrow as pa

LEASE_CLIPS = 256
LOST_AT_START = 8
"""So many workers lost one after another before one had its model mean that it is no chance."""
ASKED_SECONDS = 0.5
"""How often a thread that waits for a worker looks whether the work has been stopped."""
LATE_SECONDS = 120.0
OWN_CLUSTER = "local"


class _LostError(Exception):
    """A worker is gone, or the machine it was on."""


class _StoppedError(Exception):
    """The work has been stopped, by a signal or by what another thread met."""


@dataclass(frozen=True)
class Told:
    """What a worker says of its model."""

    identity: str
    width: int
    sample_rate: int


@dataclass(frozen=True)
class Answer:
    """The rows of the first clips of a lease, and why there are not more, if there are not."""

    table: "pa.Table"
    failure: str = ""
    store_is_away: bool = False


@dataclass
class Worker:
    """What runs on the cluster: a model, and how sounds become rows with it."""

    make: Callable[[], Embedder]
    options: dict[str, Any]
    folder: Path
    """By which relative paths are meant."""
    embedding: Embedding | None = None

    def load(self) -> Told:
        """Make the model; not in the constructor, so that what is wrong with it is told as what it is."""
        if not self.folder.is_dir():
            raise ValueError(f"{self.folder}: {_machine()} has no such folder: start from one that all machines have")
        os.chdir(self.folder)
        embedder = self.make()
        self.embedding = Embedding(embedder, **self.options)
        return Told(embedder.identity, embedder.width, embedder.sample_rate)

    def embed(self, lease: Lease, seen: Path | None) -> Answer:
        """The rows of a lease, as far as it comes; `seen` is a file in it that the driver sees."""
        embedding = self._loaded()
        if seen is not None and not seen.exists():  # Else all this machine is given would become rows of errors.
            raise ValueError(f"{seen}: {_machine()} does not see this file, which the driver sees: mount it there too")
        with closing(embedding.rows(iter(lease.clips), others=lease.others)) as rows:
            return self._answer(rows)

    def embed_carefully(self, lease: Lease) -> Answer:
        """The row of a lease of one clip, which may have ended workers."""
        embedding = self._loaded()
        return self._answer(embedding.careful_row(clip, others=lease.others) for clip in lease.clips)

    def _loaded(self) -> Embedding:
        assert self.embedding is not None
        return self.embedding

    def _answer(self, rows: Iterator[Row]) -> Answer:
        done: list[Row] = []
        failure, store_is_away = "", False
        try:
            done.extend(rows)
        except Exception as error:  # It goes to the driver, with the rows that were made before it.
            store_is_away = isinstance(error, StorageError)
            failure = str(error) if store_is_away else f"{type(error).__name__}: {error}"
        return Answer(table_of(done, width=self._loaded().embedder.width), failure, store_is_away)


def _machine() -> str:
    return f"the machine {platform.node()}"


def embed_with_ray(
    sources: Sequence[Path | str],
    *,
    make: Callable[[], Embedder],
    out: Path | str,
    model: str = "",
    workers: int | None = None,
    gpus_per_worker: int = 0,
    address: str = OWN_CLUSTER,
    audio_column: str = "audio",
    max_seconds: float = MAX_SECONDS,
    batch_seconds: float = BATCH_SECONDS,
    lease_clips: int = LEASE_CLIPS,
    threads: int = 2,
    patience: Patience | None = None,
    overwrite: bool = False,
    restart: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> EmbedReport:
    """Embed the sounds of files, folders, tables and tars as `bulk.embed_files` does, on the machines of a Ray cluster.

    Every machine has Lapis, the model and the sounds under the same names; the table is written by this process alone.

    Args:
        sources: paths and addresses, as text.
        make: gives the model; called on each worker.
        out: the table.
        model: its name or folder, noted in the table.
        workers: how many; one a GPU of the cluster, or a processor where they take no GPU, unless told.
        gpus_per_worker: 0 or 1.
        address: `local`, for one on this machine that ends with the work; `auto`, for the one that runs on this
            machine; or that of a cluster: `ray://head:10001`.
        audio_column: of sources that are tables, with the paths of the sounds.
        max_seconds: a longer sound is not read, but is a row with an error.
        batch_seconds: of sound the model gets at once.
        lease_clips: clips a worker gets at a time, and rows a part file; what a lost worker costs at most.
        threads: of each worker, that read sound.
        patience: with stores.
        overwrite: replace a table that is there.
        restart: throw away the unfinished work of an earlier run.
        progress: called with the number of clips done and of all, from several threads, one at a time.

    Raises:
        ValueError: as `embed_files` does, or a worker has another model than the first.
        StorageError: a store is away; what was finished is kept, and a later run goes on.
        RuntimeError: no worker comes to have its model, or the model fails on anything.
    """
    check_options(sources, seconds=(max_seconds, batch_seconds), lease_clips=lease_clips, threads=threads)
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if gpus_per_worker not in (0, 1):
        raise ValueError(f"gpus_per_worker must be 0 or 1, got {gpus_per_worker}")
    check_out(out, sources=sources, overwrite=overwrite)  # before a cluster is started for nothing
    options = {
        "max_seconds": max_seconds,
        "batch_seconds": batch_seconds,
        "threads": threads,
        "patience": patience,
    }
    with _cluster(address, workers=workers), exit_on_terminate():
        there = _num_workers(gpus_per_worker) if workers is None or address == OWN_CLUSTER else workers
        pool = _Pool(make, options, workers or there, gpus_per_worker)
        pool.launch()
        first, told = pool.started()

        def embed_rest(parts: Parts) -> None:
            pool.work(parts, lease_clips=lease_clips, patience=patience, progress=progress, first=first)

        return do_job(
            embed_rest,
            sources=sources,
            identity=told.identity,
            width=told.width,
            sample_rate=told.sample_rate,
            out=out,
            model=model,
            audio_column=audio_column,
            max_seconds=max_seconds,
            shard=None,
            patience=patience,
            overwrite=overwrite,
            restart=restart,
        )


@contextmanager
def _cluster(address: str, *, workers: int | None) -> Iterator[None]:
    """Be connected to a cluster while the block runs; without an address, one of this machine's own."""
    import ray

    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    with redirect_stdout(sys.stderr):  # where Ray says which workers are lost; results are not mixed with it
        if address == OWN_CLUSTER:
            # Ray reports to its makers unless it is asked not to.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(address=OWN_CLUSTER, num_cpus=workers, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
        try:
            yield
        finally:
            ray.shutdown()


def _num_workers(gpus_per_worker: int) -> int:
    import ray

    kind = "GPU" if gpus_per_worker else "CPU"
    there = int(ray.cluster_resources().get(kind, 0))
    if not there:
        raise ValueError(f"the cluster has no {kind}: say with --workers how many are to come")
    return there


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
class _Pool:
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
        import ray

        actor: Any = ray.remote(Worker).options(num_cpus=1, num_gpus=self.gpus_per_worker)
        worker = actor.remote(self.make, self.options, Path.cwd())
        return worker, worker.load.remote()

    def _serve(self, job: "_Leases", worker: Any) -> None:
        """Hand leases to one worker after another; no lease waits for a worker that is still on its way."""
        while not self._stop.is_set():
            worker = worker or self._started_for(job.parts)
            lease = job.following()
            if lease is None:
                return
            while lease.clips:
                try:
                    count = self._step(worker, lease, job.parts)
                except _LostError:
                    worker = None
                    job.give_back(lease)
                    break
                job.tell(count)
                lease = lease.after(count)
            else:
                lease.forget(job.parts.folder)

    def _started_for(self, parts: Parts) -> Any:
        worker, told = self.started()
        job = parts.job
        if told != Told(job.identity, job.width, job.sample_rate):
            raise ValueError(f"a worker has another model ({told}) than the job ({job.identity}): give all the same")
        return worker

    def _step(self, worker: Any, lease: Lease, parts: Parts) -> int:
        """Have the next rows of a lease written, and say how many; of a clip alone where workers have been lost."""
        journal, clip = lease.journal(parts.folder), lease.clips[0]
        is_careful = journal.careful_until > lease.begin
        try:
            if is_careful and journal.is_blamed(lease.begin):
                answer = Answer(table_of([blamed(clip)], width=parts.job.width))
            elif is_careful:
                journal.touch(lease.begin, pause=lambda seconds: self._pause(worker, seconds))
                answer = self._answer_of(worker.embed_carefully.remote(lease.only_first()))
            else:
                answer = self._answer_of(worker.embed.remote(lease, lease.seen()))
        except _StoppedError:
            journal.forgive()
            raise
        count = len(answer.table)
        if count:
            parts.write_table(answer.table, begin=lease.begin)
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
        import ray
        from ray.exceptions import GetTimeoutError, RayError, RayTaskError

        warn_at = time.monotonic() + late_after_seconds
        while True:
            try:
                return ray.get(asked, timeout=ASKED_SECONDS)
            except GetTimeoutError:
                if self._stop.is_set():
                    raise _StoppedError from None
                if time.monotonic() > warn_at:
                    free = {kind: ray.available_resources().get(kind, 0) for kind in ("CPU", "GPU")}
                    wanted = f"1 CPU and {self.gpus_per_worker} GPU"
                    warnings.warn(f"still no worker: it takes {wanted}, the cluster has free: {free}", stacklevel=2)
                    warn_at = math.inf
            except RayTaskError as error:
                raise error.cause if isinstance(error.cause, ValueError) else RuntimeError(str(error.cause)) from error
            except RayError as error:
                raise _LostError(str(error)) from error
