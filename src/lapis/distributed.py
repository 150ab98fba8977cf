"""Who this process is among the processes of a run, and exchange between them; the identity on one process."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

T = TypeVar("T")


def is_running() -> bool:
    """Whether a process group has been started."""
    return dist.is_available() and dist.is_initialized()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if is_running() else 0


def world_size() -> int:
    """How many processes take part."""
    return dist.get_world_size() if is_running() else 1


PATIENCE = timedelta(hours=2)
"""How long processes wait for each other: the first measures and writes while the others wait. A process that dies is
noticed by torchrun, which ends the others, long before."""


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Take part, while the block runs, in the run that torchrun's environment describes; gives this process's device.

    Raises:
        ValueError: torchrun's environment is not whole, or this machine has fewer GPUs than processes.
    """
    if is_running() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if missing := [name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise ValueError(f"WORLD_SIZE is set and {missing[0]} is not: start several processes with torchrun")
    if torch.device(device).type == "cuda":
        local, have = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= have:
            raise ValueError(f"process {local} of this machine needs a GPU of its own, and there are {have}")
        device = f"cuda:{local}"
        torch.cuda.set_device(device)
    # Plain numbers on the host go through gloo, so that agreeing on them does not wait for the GPU.
    backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    yield device
    dist.destroy_process_group()  # not after an error: it would wait for exchanges that never come


def barrier() -> None:
    """Wait until every process has come here."""
    if is_running():
        dist.all_reduce(torch.zeros(1))


def gather_values(value: Any) -> list[Any]:
    """The small plain values of all processes, in the order of their ranks."""
    if not is_running():
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def gather_numbers(numbers: Sequence[float]) -> list[list[float]]:
    """A row of numbers from each process; all rows are equally long. One exchange, without waiting for a GPU."""
    if not is_running():
        return [list(numbers)]
    own = torch.tensor(numbers, dtype=torch.float64)
    rows = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(rows, own)
    return [row.tolist() for row in rows]


def together(function: Callable[[], T]) -> T:
    """What `function` gives in this process, or, where it fails in one process, the same error in all of them.

    Raises:
        ValueError: it raised one, or an OSError, in some process.
    """
    problem, answer = "", None
    try:
        answer = function()
    except (ValueError, OSError) as error:
        if not is_running():
            raise
        problem = str(error)
    if any(failed for (failed,) in gather_numbers([float(bool(problem))])):
        first, reason = next((rank, text) for rank, text in enumerate(gather_values(problem)) if text)
        raise ValueError(f"process {first}: {reason}")
    return cast(T, answer)


def from_first(function: Callable[[], T]) -> T:
    """What `function` gives in the first process, which alone runs it, in all of them; a small plain value.

    Raises:
        ValueError: it raised one.
    """
    answer = together(lambda: function() if rank() == 0 else None)
    if not is_running():
        return cast(T, answer)
    answers = [answer]
    dist.broadcast_object_list(answers, src=0)
    return cast(T, answers[0])


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
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]  (torch declares *gradients)
        # A copy: autograd may hand the same tensor to somebody else.
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.split(context.counts)[rank()]


def gather(rows: Shaped[Tensor, "_items *shape"]) -> Shaped[Tensor, "_all_items *shape"]:
    """The rows of all processes in the order of their ranks, with true gradients; each may bring another number."""
    return _Gather.apply(rows) if is_running() else rows
