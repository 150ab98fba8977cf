"""Processes of tests: a function in several gloo processes, or a program as a shell would start it.

They are forked from a server that has imported the libraries and nothing else, so that none imports them again.
"""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

LIBRARIES = ["torch", "torch.distributed", "pytest", "lapis.recipe"]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    return context


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
    context = _context()
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


def lapis(*words: object, folder: Path | None = None, seconds: float = 120, **environment: str) -> Any:
    """The command `lapis` with these words, in a folder, as `python_script` gives it."""
    return _program(None, [str(word) for word in words], folder, os.environ | environment, seconds)


def python_script(script: Path, *words: object, seconds: float = 120) -> Any:
    """A script of Python as a process of its own: `subprocess.CompletedProcess` with what it printed, as text."""
    return _program(script, [str(word) for word in words], None, os.environ, seconds)


def _program(
    script: Path | None, words: list[str], folder: Path | None, environment: Mapping[str, str], seconds: float
) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as held:
        shown = [Path(held, name) for name in ("stdout", "stderr")]
        arguments = (script, words, folder or Path.cwd(), dict(environment), shown)
        process = _context().Process(target=_main, args=arguments)
        process.start()
        process.join(timeout=seconds)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, seconds, *(path.read_bytes() for path in shown))
        assert process.exitcode is not None
        return subprocess.CompletedProcess(words, process.exitcode, *(path.read_text("utf-8") for path in shown))


def _main(script: Path | None, words: list[str], folder: Path, environment: dict[str, str], shown: list[Path]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for path, number, name in zip(shown, (1, 2), ("stdout", "stderr"), strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
    if script is None:
        sys.argv = ["lapis", *words]
        sys.path[0] = str(folder)  # as `python -m` has it
        runpy.run_module("lapis.cli", run_name="__main__", alter_sys=True)
    else:
        sys.argv = [str(script), *words]
        sys.path[0] = str(script.parent)
        runpy.run_path(str(script), run_name="__main__")
