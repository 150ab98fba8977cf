"""Who this process is among the processes of a run, and exchange between them; the identity on one process."""

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor


def is_running() -> bool:
    """Whether a process group has been started (by torchrun, or by a test)."""
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
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total.chunk(world_size())[rank()]


def gather(rows: Shaped[Tensor, "_items *shape"]) -> Shaped[Tensor, "_all_items *shape"]:
    """The rows of all processes, in the order of their ranks, with true gradients; every process must bring as many."""
    if not is_running():
        return rows
    return _Gather.apply(rows)
