"""Who adds what to an index, so that processes that add at once do not do the same work twice.

Locks of files, which are free again when a process ends, however it ends. What keeps rows from being doubled is the
table's key (`columns.py`): an index in an object store is safe too where machines do not see each other's locks.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

SLOTS = 64
"""Each that is being worked on is an open file, of which a process may have 256 on some systems."""
LOCK_NAME = "lock"


class Claims:
    """The locks of one index, in a folder; made when they are first needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.contextmanager
    def adding(self) -> Iterator[None]:
        """While others may add too; waits while somebody is `alone`."""
        with self._opened(LOCK_NAME) as file:
            _lock(file, shared=True, wait=True)
            yield

    @contextlib.contextmanager
    def alone(self, *, wait: bool = False) -> Iterator[None]:
        """While nobody else writes.

        Raises:
            ValueError: somebody does, and we do not wait.
        """
        with self._opened(LOCK_NAME) as file:
            if not _lock(file, shared=False, wait=wait):
                raise ValueError(f"{self.folder} is in use by another process: wait until it has finished")
            yield

    @contextlib.contextmanager
    def alone_if_free(self) -> Iterator[bool]:
        """Whether nobody else writes; nobody will while the block runs, if so."""
        with self._opened(LOCK_NAME) as file:
            yield _lock(file, shared=False, wait=False)

    def take(self, slot: int, *, wait: bool) -> IO | None:
        """The files of a slot, until what is given is closed; None where another process has them."""
        file = self._opened(f"claims/{slot:02x}")
        if _lock(file, shared=False, wait=wait):
            return file
        file.close()
        return None

    def _opened(self, name: str) -> IO:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab")  # made if need be, and never changed


def slot_of(path: Path) -> int:
    """The slot a file belongs to, in all processes alike."""
    return hashlib.blake2b(str(path).encode(), digest_size=8).digest()[0] % SLOTS


def _lock(file: IO, *, shared: bool, wait: bool) -> bool:
    import fcntl

    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
