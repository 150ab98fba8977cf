"""Files on disk: the cache folder, downloads with a checksum, and writing so that a reader never sees half a file."""

import contextlib
import hashlib
import os
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

BLOCK_BYTES = 1 << 20


def cache_folder(*parts: str) -> Path:
    """A folder below the cache, made if need be: $LAPIS_CACHE, else $XDG_CACHE_HOME/lapis, else ~/.cache/lapis."""
    root = os.environ.get("LAPIS_CACHE")
    base = Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lapis"
    folder = base.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def atomic_write(path: Path | str, *, binary: bool = True) -> Iterator[IO]:
    """Open a temporary file beside `path` that takes its place, flushed to disk, only when the block ends well.

    Text is UTF-8. A byte of a file name that is none is written as JSON escapes it, and comes back from there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        text: dict[str, Any] = {} if binary else {"encoding": "utf-8", "errors": "backslashreplace"}
        with os.fdopen(descriptor, "wb" if binary else "w", **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(NEW_FILE_MODE)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """The permission bits that new files of this process leave out (readable only by setting it)."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


NEW_FILE_MODE = 0o666 & ~_umask()  # once, while no other thread makes files


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file while the block runs; it is free again when this process ends, however it ends.

    Raises:
        ValueError: another process holds it.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{path.parent} is in use by another process: wait until it has finished") from error
        yield


def sha256_of(path: Path | str) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def download(
    address: str,
    *,
    sha256: str | None,
    folder: Path | None = None,
    name: str | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Path:
    """Fetch a file once into the cache and verify it; later calls return the verified copy.

    Args:
        address: http, https or file address.
        sha256: what the file must hash to; None where nobody has told it, and only its length can be verified.
        folder: where to keep it; the cache's `downloads` unless told.
        name: what to call it; the address's own name after a mark of the checksum unless told.
        progress: called with the bytes fetched so far and the total, where the server says one.

    Raises:
        ValueError: the scheme is another one, or what came is not whole or has another checksum (it is then deleted).
    """
    scheme = urlsplit(address).scheme
    if scheme not in ("http", "https", "file"):
        raise ValueError(f"cannot download {address!r}: expected an http, https or file address, got {scheme!r}")
    mark = sha256 or hashlib.sha256(address.encode()).hexdigest()
    target = (folder or cache_folder("downloads")) / (name or f"{mark[:16]}-{Path(urlsplit(address).path).name}")
    if target.exists() and sha256 in (None, sha256_of(target)):
        return target
    digest, fetched = hashlib.sha256(), 0
    with urllib.request.urlopen(address, timeout=60) as response, atomic_write(target) as file:
        length = response.headers.get("Content-Length")
        while block := response.read(BLOCK_BYTES):
            file.write(block)
            digest.update(block)
            fetched += len(block)
            if progress:
                progress(fetched, int(length) if length else None)
        if length and fetched != int(length):
            raise ValueError(f"{address} broke off: {fetched:,} of {int(length):,} bytes came")
        if sha256 not in (None, digest.hexdigest()):
            raise ValueError(f"{address} is not the expected file: sha256 {sha256} expected, {digest.hexdigest()} came")
    return target


def data_path(path: Path | str) -> Path:
    """Where a relative path of a recipe lies: below $LAPIS_DATA, else below the folder `data` of the working folder."""
    return Path(os.environ.get("LAPIS_DATA") or "data") / path
