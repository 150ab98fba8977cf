"""Connections that say nothing, or do not listen, are closed: uvicorn itself waits for a request's head for ever."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from lapis.serve.limits import Limits

LINGER_SECONDS = 5.0
SLICE_BYTES = 16 << 10
"""Taken from a connection at once, so that what many small pieces cost is seen before they are all paid for."""
CHUNKS = 1000
CHUNK_BYTES = 64
"""A body in chunks may have so many of any size, and more of so many bytes on average: each takes time to read."""


def protocol(limits: Limits) -> type[H11Protocol]:
    """The kind of connection that keeps these limits."""
    whole = limits.upload_seconds + limits.answer_seconds + limits.drain_seconds

    class Connection(H11Protocol):
        """One at a time is timed: the head of a request, or the request as a whole."""

        _deadline: asyncio.TimerHandle | None = None
        _lines = 0
        _bytes = 0

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                transport.abort()
            else:
                self._due(limits.header_seconds)

        def connection_lost(self, exc: Exception | None) -> None:
            self._due(None)
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            for first in range(0, len(data), SLICE_BYTES):
                if self.transport.is_closing():
                    return
                self._received(data[first : first + SLICE_BYTES])

        def _received(self, data: bytes) -> None:
            busy = self._busy()
            if busy and (b"transfer-encoding", b"chunked") in self.scope["headers"]:
                self._lines += data.count(b"\r\n")
                self._bytes += len(data)
                if self._lines // 2 > CHUNKS + self._bytes // CHUNK_BYTES:
                    self.transport.abort()
                    return
            elif not busy:
                self._lines = self._bytes = 0
            super().data_received(data)
            if self._busy() and not busy:
                self._due(whole)
            elif not self._busy() and self._deadline is None:
                self._due(limits.header_seconds)

        def on_response_complete(self) -> None:
            self._due(None)
            super().on_response_complete()
            if self.transport.is_closing():
                self._due(LINGER_SECONDS)
            elif self._busy():  # the next request had come already
                self._due(whole)

        def timeout_keep_alive_handler(self) -> None:
            super().timeout_keep_alive_handler()
            self._due(LINGER_SECONDS)

        def _busy(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _due(self, seconds: float | None) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = None if seconds is None else self.loop.call_later(seconds, self._overdue)

        def _overdue(self) -> None:
            self.transport.abort()

    return Connection
