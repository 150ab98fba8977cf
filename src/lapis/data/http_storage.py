"""Web servers as stores: ranges of bytes over connections that stay open, with the standard library alone."""

import http.client
import os
import ssl
import threading
from dataclasses import dataclass
from urllib.parse import SplitResult, urljoin, urlsplit

from lapis.data.storage import PassingError, Patience, StorageError, Thing, expand

MOST_REDIRECTS = 5
PASSING_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class _Answer:
    content: bytes
    total: int
    mark: str


class Http:
    """Any server that answers requests for ranges (RFC 9110, section 14). Proxies of the environment are not asked."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._mine = threading.local()

    def find(self, pattern: str) -> list[str]:
        """The addresses that the braces stand for; a web server has no list of its files to match others with."""
        if any(sign in urlsplit(pattern).path for sign in "*["):
            raise ValueError(f"{pattern}: a web server lists no files: write the numbers, as in train-{{000..123}}.tar")
        return sorted(expand(pattern))

    def below(self, folder: str) -> list[str]:
        """Nothing that a web server could tell."""
        raise ValueError(f"{folder}: a web server lists no files: give a table of their addresses")

    def stat(self, address: str) -> Thing | None:
        """By asking for the first byte, since not every server that gives ranges answers HEAD."""
        answer = self._patience.call(lambda: self._ask(address, 0, 1), name=address)
        return None if answer is None else Thing(address, answer.total, answer.mark)

    def get(self, thing: Thing, *, offset: int, size: int) -> bytes:
        """A range; of a thing that is still the one it was."""
        if not size:
            return b""
        answer = self._patience.call(lambda: self._ask(thing.address, offset, size), name=thing.address)
        if answer is None:
            raise StorageError(f"{thing.address}: it is no longer there")
        if (answer.total, answer.mark) != (thing.size, thing.mark):
            raise StorageError(
                f"{thing.address} changed while it was in use: it had {thing.size:,} bytes and the mark "
                f"{thing.mark!r}, now {answer.total:,} and {answer.mark!r}"
            )
        return answer.content

    def _ask(self, address: str, offset: int, size: int) -> _Answer | None:
        """The range, once; None where the server knows no such file."""
        here = address
        for _ in range(MOST_REDIRECTS):
            parts = urlsplit(here)
            response, content = self._exchange(parts, offset, size)
            if response.status in (301, 302, 303, 307, 308):
                here = urljoin(here, response.headers.get("Location", ""))
                continue
            if response.status in (404, 410):
                return None
            if response.status == 416 and offset == 0:
                return _Answer(b"", 0, _mark(response))  # nothing is there to give a first byte of
            return _Answer(content, _total(response, address, offset, size, len(content)), _mark(response))
        raise StorageError(f"{address}: more than {MOST_REDIRECTS} redirections")

    def _exchange(self, parts: SplitResult, offset: int, size: int) -> tuple[http.client.HTTPResponse, bytes]:
        """One question and its whole answer; a connection that the server gave up meanwhile is opened anew."""
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Range": f"bytes={offset}-{offset + size - 1}", "Accept-Encoding": "identity", "User-Agent": "lapis"}
        while True:
            connection, is_new = self._connection(parts)
            try:
                connection.request("GET", target, headers=headers)
                response = connection.getresponse()
                if response.status == 206:
                    return response, response.read()
                connection.close()  # what else it says is not worth reading, and may be a whole shard
                return response, b""
            except (ConnectionError, http.client.RemoteDisconnected) as error:
                connection.close()
                if is_new:
                    raise PassingError(f"the connection broke: {error or type(error).__name__}") from error
            except ssl.SSLCertVerificationError as error:
                connection.close()
                raise StorageError(f"{parts.netloc}: its certificate cannot be trusted: {error}") from error
            except http.client.IncompleteRead as error:
                connection.close()
                raise PassingError(f"the stream was cut after {len(error.partial):,} of {size:,} bytes") from error
            except TimeoutError as error:
                connection.close()
                raise PassingError(f"no answer within {self._patience.timeout_seconds:g} s") from error
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                raise PassingError(f"{type(error).__name__}: {error}") from error

    def _connection(self, parts: SplitResult) -> tuple[http.client.HTTPConnection, bool]:
        """This thread's own, and whether it has not been used yet. One made before a fork belongs to the parent."""
        if getattr(self._mine, "process", None) != os.getpid():
            self._mine.process, self._mine.connections = os.getpid(), {}
        known = self._mine.connections.get((parts.scheme, parts.netloc))
        if known is not None and known.sock is not None:
            return known, False
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        made = kind(parts.netloc, timeout=self._patience.timeout_seconds)
        self._mine.connections[parts.scheme, parts.netloc] = made
        return made, True


def _mark(response: http.client.HTTPResponse) -> str:
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""


def _total(response: http.client.HTTPResponse, address: str, offset: int, size: int, came: int) -> int:
    """The size of the whole file, once the answer has been looked at."""
    if response.status in PASSING_STATUS:
        asked = response.headers.get("Retry-After", "")
        wait = float(asked) if asked.isdecimal() else 0.0
        raise PassingError(f"the server answered {response.status} {response.reason}", wait_seconds=wait)
    if response.status == 416:
        raise StorageError(f"{address}: expected {size:,} bytes at {offset:,}, the file ends before")
    if response.status == 200:
        raise StorageError(f"{address}: the server gives whole files only: it answers no requests for ranges of bytes")
    if response.status != 206:
        raise StorageError(f"{address}: the server answered {response.status} {response.reason}")
    place, _, total = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
    first, _, last = place.partition("-")
    if not (first.isdecimal() and last.isdecimal() and total.isdecimal()) or int(first) != offset:
        raise StorageError(f"{address}: expected a Content-Range from {offset}, got {place!r} of {total!r}")
    if came != int(last) - int(first) + 1 or (came < size and offset + size <= int(total)):
        raise PassingError(f"the stream was cut after {came:,} of {size:,} bytes")
    if came != size:
        raise StorageError(f"{address}: expected {size:,} bytes at {offset:,}, the file ends at {int(total):,}")
    return int(total)
