"""Where shards lie: files of this machine, web servers, object stores. All give any range of bytes of a thing.

What goes by itself (a timeout, an answer 503, a stream that is cut) is tried again, with growing waits; what remains is
a `StorageError`. That is no fault of a clip: a run stops at it and goes on with --resume, so that no clip is lost.
"""

import os
import random
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable
from urllib.parse import urlsplit

Answer = TypeVar("Answer")
OPEN_FILES = 128
OBJECT_STORES = ("s3", "s3a", "gs", "az", "abfs", "abfss", "azure")
ADDRESS = re.compile(rf"({'|'.join(('https?', *OBJECT_STORES))}):/+(.*)", re.DOTALL)


class StorageError(ValueError):
    """A store did not give what it should; trying again now would not help."""


class PassingError(Exception):
    """Something that may be otherwise the next time; `wait_seconds` is what the store asked for, if it did."""

    def __init__(self, message: str, *, wait_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.wait_seconds = wait_seconds


@dataclass(frozen=True)
class Patience:
    """How often a store is asked for the same, and how long each time. The waits double up to the longest one."""

    attempts: int = 8
    first_wait_seconds: float = 0.5
    longest_wait_seconds: float = 30.0
    timeout_seconds: float = 30.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.timeout_seconds <= 0 or self.first_wait_seconds < 0:
            raise ValueError(f"patience: expected at least one attempt and a timeout above zero, got {self}")

    def call(self, ask: Callable[[], Answer], *, name: str) -> Answer:
        """The answer, after as many attempts as it takes.

        Raises:
            StorageError: it never came.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                return ask()
            except PassingError as error:
                if attempt == self.attempts:
                    raise StorageError(f"{name}: gave up after {attempt} attempts; the last: {error}") from error
                longest = min(self.first_wait_seconds * 2 ** (attempt - 1), self.longest_wait_seconds)
                # Spread, so that workers that failed together do not come back together; not from the run's own random
                # numbers, which must not depend on the weather.
                wait = longest * random.SystemRandom().uniform(0.5, 1)
                time.sleep(max(wait, min(error.wait_seconds, self.longest_wait_seconds)))
        raise AssertionError("unreachable: the last attempt returns or raises")


@dataclass(frozen=True)
class Thing:
    """A file or object: its address (a path, or a URL), size in bytes, and what changes when its content does."""

    address: str
    size: int
    mark: str

    @property
    def is_local(self) -> bool:
        """Whether it is a file of this machine."""
        return not is_url(self.address)


@runtime_checkable
class Store(Protocol):
    """Gives things by their address."""

    def find(self, pattern: str) -> list[str]:
        """The addresses that match, sorted; `{00..12}` and `{a,b}` stand for each of these."""
        ...

    def below(self, folder: str) -> list[str]:
        """The addresses of all things whose address begins with that of a folder, sorted."""
        ...

    def stat(self, address: str) -> Thing | None:
        """What is at an address; None where nothing is."""
        ...

    def get(self, thing: Thing, *, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`.

        Raises:
            StorageError: they cannot be had, or the thing is another one by now.
        """
        ...


def is_url(pattern: str) -> bool:
    """Whether this is an address such as `s3://bucket/name`, and no path."""
    return "://" in pattern


def local_path(path: Path | str, *, what: str) -> Path:
    """A path of this machine. A `Path` made of an address has lost its second slash, and would be a folder here.

    Raises:
        ValueError: it is an address.
    """
    found = ADDRESS.match(str(path))
    if found:
        raise ValueError(f"{what}: expected a path of this machine, got an address of {found[1]}://")
    return Path(path)


@lru_cache(maxsize=64)
def open_store(root: str, patience: Patience) -> Store:
    """The store below a root such as `https://host` or `s3://bucket`, one a process.

    Raises:
        ValueError: the scheme is unknown, or needs a package that is not installed.
    """
    scheme = urlsplit(root).scheme
    if scheme in ("http", "https"):
        from lapis.data.http_storage import Http

        return Http(patience)
    if scheme in OBJECT_STORES:
        from lapis.data.object_storage import Objects

        return Objects(root, patience)
    raise ValueError(f"{root}: expected http, https, s3, gs or az, got {scheme!r}")


def store_of(address: str, patience: Patience) -> Store:
    """The store that an address or a pattern of addresses belongs to.

    Raises:
        ValueError: as `open_store`.
    """
    parts = urlsplit(address)
    return open_store(f"{parts.scheme}://{parts.netloc}", patience)


def expand(pattern: str) -> list[str]:
    """Each way to read the braces: `a-{08..10}` is a-08, a-09, a-10, and `{x,y}` is x, y.

    Raises:
        ValueError: a brace is not closed, or holds neither a range nor a list.
    """
    head, brace, rest = pattern.partition("{")
    if not brace:
        return [pattern]
    inside, closed, tail = rest.partition("}")
    first, dots, last = inside.partition("..")
    if closed and dots and first.isdecimal() and last.isdecimal() and int(first) <= int(last):
        choices = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    elif closed and "," in inside:
        choices = inside.split(",")
    else:
        raise ValueError(f"{pattern}: expected braces as in {{000..123}} or {{a,b}}")
    return [f"{head}{choice}{end}" for choice, end in product(choices, expand(tail))]


class Files:
    """Files of this machine; a few are held open, since opening is what costs on a network's file system."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _Descriptor] = OrderedDict()

    def get(self, path: str, *, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, fewer where the file ends before."""
        with self._lock:
            file = self._open.get(path)
            if file is None:
                file = self._open[path] = _Descriptor(path)
                if len(self._open) > OPEN_FILES:
                    self._open.popitem(last=False)
            else:
                self._open.move_to_end(path)
        return os.pread(file.number, size, offset)

    def __getstate__(self) -> dict[str, object]:
        """Another process opens its own."""
        return {}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__init__()


class _Descriptor:
    """An open file; closed when nobody reads from it any more."""

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self, close: Callable[[int], None] = os.close) -> None:
        if hasattr(self, "number"):  # it was opened
            close(self.number)  # bound before: when Python ends, `os` may be gone


def stat_file(path: Path) -> Thing:
    """A file of this machine as a thing.

    Raises:
        ValueError: there is none.
    """
    if not path.is_file():
        raise ValueError(f"{path}: expected a tar file, there is none")
    state = path.stat()
    return Thing(str(path), state.st_size, str(state.st_mtime_ns))
