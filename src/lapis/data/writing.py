"""WebDataset tars written with their index (`shard_index.py`), so that a shard opens without a scan.

Members have no time, no owner and a fixed mode: the same content gives the same bytes, of the tar and of the index.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from lapis.data.keys import safe_key
from lapis.data.shard_index import SUFFIX, Entry, header_reader, write_index
from lapis.files import atomic_write


@dataclass(frozen=True)
class Written:
    """A tar that is on disk whole, with its index beside it."""

    path: Path
    size: int
    sha256: str
    num_records: int


class ShardWriter:
    """A tar that is being written. Made by `shard_writer`."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self._file = path, _Digested(file)
        self._tar = tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115
        self._keys: set[str] = set()
        self.entries: list[Entry] = []
        """Of the samples so far."""

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, key: str, sound: bytes, *, suffix: str, words: Mapping[str, Any]) -> str:
        """Write a sample as `KEY.suffix` and `KEY.json`; gives the key it has in the tar (see `safe_key`)."""
        key = self._unused(safe_key(key))
        members = {suffix: sound, "json": json.dumps(words, ensure_ascii=False).encode(errors="backslashreplace")}
        places = {suffix: self._write(f"{key}.{suffix}", content) for suffix, content in members.items()}
        self.entries.append(Entry(key, places, words.get("seconds"), words.get("domain")))
        return key

    def _write(self, name: str, content: bytes) -> tuple[int, int]:
        """Offset and size of a member."""
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o644
        offset = self._file.tell() + len(member.tobuf(tarfile.PAX_FORMAT))
        self._tar.addfile(member, io.BytesIO(content))
        return offset, len(content)

    def _unused(self, key: str) -> str:
        unused, number = key, 2
        while unused in self._keys:
            unused, number = f"{key}-{number}", number + 1
        self._keys.add(unused)
        return unused

    def close(self) -> None:
        """Write the end mark."""
        self._tar.close()

    def written(self) -> Written:
        """What is on disk once the block has ended."""
        return Written(self.path, self._file.size, self._file.digest.hexdigest(), len(self.entries))


@contextmanager
def shard_writer(path: Path) -> Iterator[ShardWriter]:
    """Write a tar; it and then its index take their places when the block ends well, and nothing is there otherwise.

    Raises:
        OSError: there is no room, or the folder cannot be written to; it names the tar.
    """
    index = index_path(path)
    try:
        with atomic_write(path) as file:
            writer = ShardWriter(path, file)
            yield writer
            writer.close()
            index.unlink(missing_ok=True)  # A tar that was here before has gone, and its index is not the new one's.
        size, read_header = writer.written().size, header_reader(path)
        write_index(index, writer.entries, shard_bytes=size, has_words=True, read_header=read_header)
    except OSError as error:
        # What `write` raises does not say of which file; what has another text is a store's, and no file's.
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def index_path(tar: Path) -> Path:
    """Where the index of a tar lies."""
    return tar.with_name(tar.name + SUFFIX)


class _Digested(io.BufferedIOBase):
    """A file for `tarfile` to write to, its bytes counted and digested on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.size, self.digest = file, 0, hashlib.sha256()

    def tell(self) -> int:
        return self.size

    def write(self, content: Any) -> int:
        self._file.write(content)
        self.digest.update(content)
        self.size += memoryview(content).nbytes
        return memoryview(content).nbytes
