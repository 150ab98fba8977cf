"""Rows that go round: each process keeps its own rows and sees those of all others, one process's part at a time.

No process ever holds all rows. What is found about a part (sums, gradients) travels with it and comes home complete.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor

from lapis import distributed


@runtime_checkable
class Visit(Protocol):
    """What is done with a part that is here: `carried` are its own tensors, to be changed in place."""

    def __call__(self, rows: Tensor, carried: Sequence[Tensor], place: slice) -> None: ...  # noqa: D102


def tour(rows: Tensor, carried: Sequence[Tensor], *, visit: Visit, ring: bool) -> list[Tensor]:
    """Every process visits the parts of all processes, its own first; returns this process's `carried`, come home.

    Args:
        rows: this process's part; each process may bring another number.
        carried: tensors of as many rows as this part, which travel with it.
        visit: called with a part, its carried tensors, and the place of the part among the rows of all processes.
        ring: False to visit only this process's part, at the place that begins at 0.
    """
    counts = _counts(rows) if ring else [len(rows)]
    own = distributed.rank() if ring else 0
    for turn in range(len(counts)):
        holder, following = (own + turn) % len(counts), (own + turn + 1) % len(counts)
        last = turn + 1 == len(counts)
        # The rows set off before they are visited, so that the way is behind the work; their last place is no home.
        coming = None if last else _pass_on([rows], count=counts[following])
        begin = sum(counts[:holder])
        visit(rows, carried, slice(begin, begin + counts[holder]))
        if len(counts) > 1:
            carried = _pass_on(carried, count=counts[following])()
        if coming is not None:
            (rows,) = coming()
    return list(carried)


def add_up(values: Tensor, *, ring: bool) -> Tensor:
    """The sum over the processes, without gradients; the same values where there is no ring."""
    if not (ring and distributed.is_running()):
        return values
    total = values.detach().clone()
    dist.all_reduce(total)
    return total


def _counts(rows: Tensor) -> list[int]:
    return distributed.gather(torch.tensor([len(rows)], device=rows.device)).tolist()


def _pass_on(tensors: Sequence[Tensor], *, count: int) -> Callable[[], list[Tensor]]:
    """Begin to send tensors to the process before this one and to receive `count` rows of each from the one after.

    The answer waits for the exchange and gives what came.
    """
    rank, world_size = distributed.rank(), distributed.world_size()
    before, after = (rank - 1) % world_size, (rank + 1) % world_size
    sent = [tensor.contiguous() for tensor in tensors]
    received = [tensor.new_empty(count, *tensor.shape[1:]) for tensor in tensors]
    operations = [dist.P2POp(dist.isend, tensor, before) for tensor in sent]
    operations += [dist.P2POp(dist.irecv, tensor, after) for tensor in received]
    under_way = dist.batch_isend_irecv(operations) if operations else []

    def wait() -> list[Tensor]:
        for operation in under_way:
            operation.wait()
        sent.clear()  # until here they had to stay in memory
        return received

    return wait
