"""The index for approximate search, built by the machines of a Ray cluster, each of its part of the table.

The same index as `approximate.build` makes, by lance-ray: the partitions are trained by this process, workers sort the
rows of whole fragments into them, and their segments come into the table in one commit. What is measured of it is
measured here, in the same way.
"""

import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from lapis.data.storage import is_url
from lapis.search import approximate
from lapis.search.approximate import BITS, FEWEST_TRAINABLE, Approximation, UnfitError, measure, partitions_for
from lapis.search.ray_engine import OWN_CLUSTER, cluster, num_workers
from lapis.search.recall import COLUMN
from lapis.shapes import Vectors

WIDTH_MULTIPLE = 8


def build_with_ray(
    table: Any,
    *,
    workers: int | None = None,
    address: str = OWN_CLUSTER,
    goal: float = 0.95,
    far: Vectors | None = None,
    partitions: int | None = None,
    queries: int = 100,
    seed: int = 0,
) -> Approximation:
    """Make the index of a table on a cluster, in place of the one it has, and measure it as `approximate.build` does.

    Every machine sees the table under the same name. A worker takes whole fragments, a million rows each in a table
    that was compacted: a smaller table is one worker's.

    Args:
        table: LanceDB's, with unit vectors in its column `vector`.
        workers: at most so many; one a processor of the cluster unless told.
        address: of the cluster, as `ray_engine.embed_with_ray` takes it.
        goal: and the others, as `approximate.build` has them.

    Raises:
        UnfitError: the table has too few rows, the width is no multiple of 8, an extra is not installed, the cluster
            cannot be reached, or a worker has failed.
    """
    check_buildable(table.schema.field(COLUMN).type.list_size, workers=workers)
    partitions = partitions_for(table, partitions=partitions)
    lance_ray = find_lance_ray()
    uri = table.uri if is_url(table.uri) else str(Path(table.uri).resolve())  # workers may be in another folder
    with warnings.catch_warnings():
        # Ray's processes begin by executing another program, so that no lock is carried over.
        warnings.filterwarnings("ignore", message="lance(db)? .*fork")
        try:
            with cluster(address, workers=workers):
                lance_ray.create_index(
                    uri,
                    column=COLUMN,
                    index_type="IVF_RQ",
                    num_bits=BITS,
                    metric="cosine",
                    num_partitions=partitions,
                    sample_rate=min(FEWEST_TRAINABLE, table.count_rows() // partitions),
                    num_workers=workers or num_workers(0),
                )
        except (RuntimeError, OSError) as error:
            told = str(error).partition("\n")[0]
            raise UnfitError(f"the cluster did not build the index; the table is as it was: {told}") from error
    table.checkout_latest()
    return measure(table, partitions=partitions, goal=goal, far=far, queries=queries, seed=seed)


def check_buildable(width: int, *, workers: int | None) -> None:
    """What can be known before there is a table.

    Raises:
        UnfitError: the width is no multiple of 8, or there are no workers.
    """
    if workers is not None and workers < 1:
        raise UnfitError(f"workers must be at least 1, got {workers}")
    if width % WIDTH_MULTIPLE:
        raise UnfitError(f"expected vectors whose width is a multiple of {WIDTH_MULTIPLE}, got {width}")


def find_lance_ray() -> Any:
    """The package.

    Raises:
        UnfitError: it is not installed.
    """
    try:
        return import_module("lance_ray")
    except ImportError as error:
        raise UnfitError("an index built on a cluster needs an extra: pip install 'lapis-audio[ray]'") from error


def builder(
    engine: Literal["process", "ray"], *, workers: int | None = None, address: str = OWN_CLUSTER
) -> Callable[[Any], Approximation]:
    """What builds the index of a table, as the command line says.

    Raises:
        ValueError: options of one way are given with the other.
    """
    if engine == "ray":
        return partial(build_with_ray, workers=workers, address=address)
    if (workers, address) != (None, OWN_CLUSTER):
        raise ValueError("--workers and --address are options of --engine ray")
    return approximate.build
