"""Run a function in several gloo processes on this machine, and get what each returns.

They are forked from a server that has imported the libraries and nothing else, so that none imports them again.
"""

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

LIBRARIES = ["torch", "torch.distributed", "pytest", "lapis.recipe"]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _one(
    function: Callable, rank: int, world_size: int, port: int, arguments: tuple, queue: Any, environment: dict[str, str]
) -> None:
    try:
        # The server has those variables that were set when it was started.
        os.environ.clear()
        os.environ.update(environment)
        torch.set_num_threads(1)
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world_size)
        queue.put((rank, function(*arguments), None))
        dist.barrier()
        dist.destroy_process_group()
    except Exception:
        queue.put((rank, None, traceback.format_exc()))


def run(function: Callable, *arguments: Any, world_size: int = 2, seconds: float = 120) -> list[Any]:
    """`function(*arguments)` in each process; results in the order of the ranks, as plain values or numpy arrays."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    queue, port = context.Queue(), _free_port()
    workers = [
        context.Process(target=_one, args=(function, rank, world_size, port, arguments, queue, dict(os.environ)))
        for rank in range(world_size)
    ]
    for worker in workers:
        worker.start()
    answers = [queue.get(timeout=seconds) for _ in workers]
    for worker in workers:
        worker.join(timeout=30)
    for _, _, failure in answers:
        assert failure is None, failure
    return [answer for _, answer, _ in sorted(answers, key=lambda item: item[0])]
