"""Work spread over processes: a bounded number of tasks at a time, results as they come, and no orphan left behind.

Processes are spawned, not forked, so that a program with threads is safe. They stop between two clips when asked to,
and die with the process that began them, even where it was killed.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, Protocol, TypeVar, runtime_checkable

Task = TypeVar("Task")
Result = TypeVar("Result")
POLL_SECONDS = 0.2


@runtime_checkable
class Tick(Protocol):
    """Called by a task whenever a clip is done; raises `Stopped` when the work is to end."""

    def __call__(self) -> None: ...  # noqa: D102


class Stopped(Exception):  # noqa: N818  (nothing went wrong)
    """Raised within a task when the work is to end."""


def spread(
    function: Callable[[Task, Tick], Result],
    tasks: Iterable[Task],
    *,
    workers: int,
    progress: Callable[[int], None] | None = None,
) -> Generator[Result, None, None]:
    """`function(task, tick)` of each task, in the order they end; one worker is this process itself.

    At most two tasks a worker are taken from `tasks` at a time.

    Args:
        function: at the top of a module, so that another process finds it.
        tasks: what can be pickled.
        workers: processes.
        progress: called with the number of ticks so far.

    Raises:
        ChildProcessError: a process was killed, for want of memory for instance.
    """
    if workers < 1:
        raise ValueError(f"expected at least one worker, got {workers}")
    if workers == 1:
        yield from _alone(function, tasks, progress=progress)
        return
    context = multiprocessing.get_context("spawn")
    stop, done = context.Event(), context.Value("q", 0)
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(stop, done))
    remaining = iter(tasks)
    pending: set[Future[Result]] = set()
    try:
        while True:
            pending |= {pool.submit(_run, function, task) for task in islice(remaining, 2 * workers - len(pending))}
            if not pending:
                break
            ended, pending = wait(pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
            if progress:
                progress(done.value)
            for future in ended:
                yield future.result()
    except BrokenProcessPool as error:
        raise ChildProcessError(
            "a worker process was killed, for want of memory perhaps: what is finished is kept, run it again"
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


def _alone(
    function: Callable[[Task, Tick], Result], tasks: Iterable[Task], *, progress: Callable[[int], None] | None
) -> Generator[Result, None, None]:
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1
        if progress:
            progress(count)

    for task in tasks:
        yield function(task, tick)


_signals: tuple[Any, Any] | None = None


def _begin(stop: Any, done: Any) -> None:
    """In a new process: heed the parent's wish to stop, leave Ctrl-C to it, and do not outlive it."""
    import signal

    global _signals  # noqa: PLW0603  (a process of a pool has no other place for what it was given at its start)
    _signals = (stop, done)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(function: Callable[[Task, Tick], Result], task: Task) -> Result:
    assert _signals is not None
    stop, done = _signals

    def tick() -> None:
        with done.get_lock():
            done.value += 1
        if stop.is_set():
            raise Stopped

    return function(task, tick)
