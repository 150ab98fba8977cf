"""What a scheduler sends before it kills (SIGTERM) ends the work as Ctrl-C does: what is ready is written."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def exit_on_terminate() -> Iterator[None]:
    """Raise `SystemExit` (143, as shells have it) at SIGTERM while the block runs, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield  # elsewhere signals cannot be heard
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
