"""Where a thread's time goes, under a few names: whoever does the work says so, and whoever asks gets the sums.

with timed("decode"):
    ...
    with timed("resample"):  # from here on no longer decoding
        ...
seconds = taken()
"""

import threading
import time
from types import TracebackType


class _Times(threading.local):
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.names: list[str] = []
        self.since = 0.0


_TIMES = _Times()


class timed:  # noqa: N801  (it reads as a statement)
    """The time of the block goes to a name, but for that of such blocks within it."""

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        _turn(_TIMES)
        _TIMES.names.append(self._name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _turn(_TIMES)
        _TIMES.names.pop()


def _turn(times: _Times) -> None:
    """What has gone by since the last turn belongs to the innermost block."""
    now = time.perf_counter()
    if times.names:
        name = times.names[-1]
        times.seconds[name] = times.seconds.get(name, 0.0) + now - times.since
    times.since = now


def taken() -> dict[str, float]:
    """Seconds by name since this was last asked, in this thread."""
    seconds, _TIMES.seconds = _TIMES.seconds, {}
    return seconds
