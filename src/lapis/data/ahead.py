"""Ranges of bytes asked for before they are needed: near ones in one request, and many requests at once.

A worker, process or thread, names all that its batch will read (`expect`) and then reads clip after clip; while it
decodes one, the next ones are on their way.
"""

import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

from lapis.data.storage import Patience, Thing, store_of

CONNECTIONS = 8
"""Requests of a worker at once."""
GAP_BYTES = 1 << 16
"""Two ranges no further apart than this are asked for together: a request costs more than as many bytes."""
REQUEST_BYTES = 1 << 23
"""No request grows beyond this by taking in another range."""


@dataclass(frozen=True)
class Range:
    """Some bytes of a thing that lies elsewhere. Opening it gives them."""

    thing: Thing
    offset: int
    size: int
    name: str = ""
    patience: Patience = Patience()

    def open(self) -> bytes:
        """The bytes, from what is on its way or by a request of its own.

        Raises:
            StorageError: they cannot be had.
        """
        return _of_this_worker().take(self)

    def read(self) -> bytes:
        """By a request of its own."""
        return store_of(self.thing.address, self.patience).get(self.thing, offset=self.offset, size=self.size)

    def __str__(self) -> str:
        return f"{self.thing.address}:{self.name}" if self.name else self.thing.address


def coalesced(ranges: Iterable[Range]) -> Iterator[tuple[Range, list[Range]]]:
    """Each request to make, and the ranges that it answers."""
    ordered = sorted(set(ranges), key=lambda of: (of.thing.address, of.thing.mark, of.offset, of.size))
    for _, of_thing in groupby(ordered, key=lambda of: of.thing):
        together: list[Range] = []
        begin = end = 0
        for wanted in of_thing:
            last = max(end, wanted.offset + wanted.size)
            if together and (wanted.offset - end > GAP_BYTES or last - begin > REQUEST_BYTES):
                yield _request(together, begin, end), together
                together = []
            if not together:
                begin, last = wanted.offset, wanted.offset + wanted.size
            together.append(wanted)
            end = last
        yield _request(together, begin, end), together


def _request(together: list[Range], begin: int, end: int) -> Range:
    return Range(together[0].thing, begin, end - begin, patience=together[0].patience)


class Ahead:
    """What a worker has asked for and not yet read."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="lapis-storage")
        self._coming: dict[Range, tuple[Future[bytes], int]] = {}

    def expect(self, ranges: Iterable[Range]) -> None:
        """Ask for these; what was expected before and never read is let go."""
        for future, _ in self._coming.values():
            future.cancel()
        self._coming.clear()
        for request, answered in coalesced(ranges):
            future = self._pool.submit(request.read)
            for wanted in answered:
                self._coming[wanted] = (future, wanted.offset - request.offset)

    def take(self, wanted: Range) -> bytes:
        """The bytes, once."""
        future, begin = self._coming.pop(wanted, (None, 0))
        return wanted.read() if future is None else future.result()[begin : begin + wanted.size]


class _Mine(threading.local):
    ahead: Ahead | None = None


_MINE = _Mine()


def _of_this_worker() -> Ahead:
    """Threads do not survive a fork, so a worker process begins with its own."""
    if _MINE.ahead is None or _MINE.ahead.process != os.getpid():
        _MINE.ahead = Ahead()
    return _MINE.ahead


def expect(ranges: Iterable[Range]) -> None:
    """Ask for what this worker will read next, all at once."""
    wanted = list(ranges)
    if wanted:
        _of_this_worker().expect(wanted)
