"""WebDataset tars read through an index of offsets: any sample of any shard with one seek, and nothing read twice.

A sample is the members that share a key: the member's path up to the first dot of its file name (the WebDataset
convention). The index is made once a tar, from its headers alone, and kept in the cache.
"""

import hashlib
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lapis.data.sample import Location
from lapis.files import atomic_write, cache_folder

INDEX_VERSION = 1
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Record:
    """A sample's members by suffix (`opus`, `json`)."""

    key: str
    members: Mapping[str, Location]


def records(path: Path) -> list[Record]:
    """The samples of a tar, in its order.

    Raises:
        ValueError: the tar is missing, cut short, damaged, or holds a member twice.
    """
    if not path.is_file():
        raise ValueError(f"{path}: expected a tar file, there is none")
    state = path.stat()
    address = hashlib.sha256(f"{path.resolve()}\0{state.st_size}\0{state.st_mtime_ns}\0{INDEX_VERSION}".encode())
    index = cache_folder("shards") / f"{address.hexdigest()}.json"
    if index.exists():
        table = json.loads(index.read_text(encoding="utf-8"))
    else:
        table = _read_headers(path)
        with atomic_write(index, binary=False) as file:
            json.dump(table, file)
    return [
        Record(key, {suffix: Location(path, *place, name=f"{key}.{suffix}") for suffix, place in members.items()})
        for key, members in table.items()
    ]


def _read_headers(path: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Key to suffix to (offset, size)."""
    table: dict[str, dict[str, tuple[int, int]]] = {}
    num_bytes = path.stat().st_size
    end = 0
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                if end > num_bytes:
                    raise ValueError(
                        f"{path} is cut short: {member.name} ends at byte {member.offset_data + member.size}, "
                        f"the file at {num_bytes}"
                    )
                if not member.isfile():
                    continue
                folder, _, name = member.name.rpartition("/")
                stem, _, suffix = name.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                members = table.setdefault(key, {})
                if suffix in members:
                    raise ValueError(f"{path} holds {member.name} twice: expected every member once")
                members[suffix] = (member.offset_data, member.size)
    except tarfile.TarError as error:
        raise ValueError(f"{path} is not a whole tar file: {error}") from error
    with path.open("rb") as file:
        file.seek(end)
        if not file.read(_BLOCK):
            raise ValueError(f"{path} is cut short: expected an end mark at byte {end}, the file ends there")
    return table
