"""Stopping a run politely: Ctrl-C or SIGTERM lets the step end and be saved; a second one stops at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Whether somebody asked to stop."""

    requested = False


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """Listen for SIGINT and SIGTERM while the block runs (in the main thread; elsewhere signals cannot be heard)."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.requested = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
