"""Who this process is among the processes of a run, and exchange between them; the identity on one process."""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor


def is_running() -> bool:
    """Whether a process group has been started."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if is_running() else 0


def world_size() -> int:
    """How many processes take part."""
    return dist.get_world_size() if is_running() else 1


def barrier() -> None:
    """Wait until every process has come here."""
    if is_running():
        dist.barrier()


class _Gather(torch.autograd.Function):
    """Every process gets all rows; the gradient of a row is the sum over the processes that used it."""

    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        own = torch.tensor([len(rows)], device=rows.device)
        counts = [torch.empty_like(own) for _ in range(world_size())]
        dist.all_gather(counts, own)
        context.counts = [int(count) for count in counts]
        # all_gather wants equal shapes; rows that complete a process's part are cut off again here.
        longest = rows.new_zeros(max(context.counts), *rows.shape[1:])
        longest[: len(rows)] = rows
        parts = [torch.empty_like(longest) for _ in context.counts]
        dist.all_gather(parts, longest)
        return torch.cat([part[:count] for part, count in zip(parts, context.counts, strict=True)])

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        # A copy: autograd may hand the same tensor to somebody else.
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.split(context.counts)[rank()]


def gather(rows: Shaped[Tensor, "_items *shape"]) -> Shaped[Tensor, "_all_items *shape"]:
    """The rows of all processes in the order of their ranks, with true gradients; each may bring another number."""
    return _Gather.apply(rows) if is_running() else rows
