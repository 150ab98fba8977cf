"""Embedding on a Ray cluster: workers hold the model, the driver hands out leases and writes the rows that come back.

The job is that of a single process (`bulk.do_job`): the same folder with the same parts and the same journal, so that a
run may be begun by one and finished by the other. Only the driver writes, under the folder's lock: what a lost worker
had not handed in is not there, and what it had is there once.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from lapis.data.storage import Patience
from lapis.model import Embedder
from lapis.search.bulk import BATCH_SECONDS, MAX_SECONDS, EmbedReport, check_options, check_out, do_job
from lapis.search.ending import exit_on_terminate
from lapis.search.parts import Parts
from lapis.search.ray_pool import Pool

LEASE_CLIPS = 256
OWN_CLUSTER = "local"


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
    with cluster(address, workers=workers), exit_on_terminate():
        there = num_workers(gpus_per_worker) if workers is None or address == OWN_CLUSTER else workers
        pool = Pool(make, options, workers or there, gpus_per_worker)
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
def cluster(address: str, *, workers: int | None) -> Iterator[None]:
    """Be connected to a cluster while the block runs; without an address, one of this machine's own."""
    ray: Any = import_module("ray")  # an extra, and large: not there where types are checked

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


def num_workers(gpus_per_worker: int) -> int:
    """As many as the cluster has processors, or GPUs where they take one.

    Raises:
        ValueError: it has none.
    """
    ray: Any = import_module("ray")  # an extra, and large: not there where types are checked

    kind = "GPU" if gpus_per_worker else "CPU"
    there = int(ray.cluster_resources().get(kind, 0))
    if not there:
        raise ValueError(f"the cluster has no {kind}: say with --workers how many are to come")
    return there
