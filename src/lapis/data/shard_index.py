"""The index of a shard as a file: where each sample's members lie, how long it is, and of which domain.

Rows have a fixed size, so that a sample is found with three short reads and nothing of the index is kept in memory:
a corpus of 10^8 samples costs as little as one of a hundred. The layout, all numbers little-endian:

    LAPISIX3, then the number of bytes of the header in 4 bytes, the header as JSON, then
    a `ROW` a sample, in the order of the tar
    a `MEMBER` a member
    the keys, one after another, in UTF-8 (a byte of a name that is none is kept as in `surrogateescape`)
"""

import json
import math
import struct
import tarfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lapis.data.storage import Files, Thing
from lapis.files import atomic_write

VERSION = 3
SUFFIX = ".index"
"""An index beside its shard is called as the shard and this."""
HEADER = tarfile.BLOCKSIZE
"""Bytes of a member's header, which comes before its content."""
KNOWN_HEADERS = 8

MAGIC = b"LAPISIX3"
HEAD = struct.Struct("<8sI")
ROW = np.dtype([
    ("seconds", "<f8"),  # not a number where it is not known
    ("member", "<u4"),  # the first one's number
    ("members", "<u2"),
    ("domain", "<u2"),  # its number in the header's list, from 1; 0 for none
    ("key", "<u4"),  # where it begins among the keys
    ("key_bytes", "<u4"),
])  # fmt: skip
MEMBER = np.dtype([("offset", "<u8"), ("size", "<u8"), ("suffix", "<u4")])
_ROW, _MEMBER = struct.Struct("<dIHHII"), struct.Struct("<QQI")


@dataclass(frozen=True)
class Entry:
    """A sample of a shard: offset and size of its members by suffix; seconds and domain where its JSON was read."""

    key: str
    members: Mapping[str, tuple[int, int]]
    seconds: float | None = None
    domain: str | None = None


@dataclass(frozen=True)
class Share:
    """Of a shard what one domain has: samples, their seconds, and how many of them do not say how long they are."""

    samples: int
    seconds: float
    unknown: int


@dataclass(frozen=True)
class ShardIndex:
    """An index that lies in a file, and the shard it is of."""

    path: Path
    shard: Thing
    samples: int
    members: int
    suffixes: tuple[str, ...]
    domains: tuple[str, ...]
    shares: Mapping[str, Share]
    """By domain; `""` for samples of none."""
    has_words: bool
    """Whether seconds and domains were read out of the samples' JSON."""
    begin: int
    """Of the rows in the file."""
    headers: tuple[tuple[int, int], ...] = ()
    """Where some members' headers lie in the shard, and their checksums: what shows that it is another one by now."""

    @property
    def total_seconds(self) -> float:
        """Of the samples that say how long they are."""
        return sum(share.seconds for share in self.shares.values())

    @cached_property
    def shard_path(self) -> Path:
        """Of the shard, where it is a file of this machine."""
        return Path(self.shard.address)

    @cached_property
    def _members_at(self) -> int:
        return self.begin + self.samples * ROW.itemsize

    @cached_property
    def _keys_at(self) -> int:
        return self._members_at + self.members * MEMBER.itemsize

    def entry(self, row: int, *, files: Files) -> Entry:
        """The sample at a place, by three short reads."""
        path = str(self.path)
        seconds, first, count, domain, key_at, key_bytes = _ROW.unpack(
            files.get(path, offset=self.begin + row * _ROW.size, size=_ROW.size)
        )
        packed = files.get(path, offset=self._members_at + first * _MEMBER.size, size=count * _MEMBER.size)
        key = files.get(path, offset=self._keys_at + key_at, size=key_bytes)
        return Entry(
            key.decode(errors="surrogateescape"),
            {self.suffixes[suffix]: (offset, size) for offset, size, suffix in _MEMBER.iter_unpack(packed)},
            None if math.isnan(seconds) else seconds,
            self.domains[domain - 1] if domain else None,
        )

    def seconds(self, row: int, *, files: Files) -> float | None:
        """How long the sample at a place is, by one read of eight bytes."""
        (seconds,) = struct.unpack("<d", files.get(str(self.path), offset=self.begin + row * _ROW.size, size=8))
        return None if math.isnan(seconds) else seconds

    def rows_of(self, domain: str) -> np.ndarray:
        """The places of a domain's samples."""
        with self.path.open("rb") as file:
            rows = np.fromfile(file, ROW, count=self.samples, offset=self.begin)
        return np.flatnonzero(rows["domain"] == self.domains.index(domain) + 1).astype(np.uint32)

    def is_of(self, read_header: Callable[[int], bytes], *, last_only: bool = False) -> bool:
        """Whether the headers that the index knows are in the shard, from which `read_header` reads."""
        known = self.headers[-1:] if last_only else self.headers
        return all(zlib.crc32(read_header(offset)) == checksum for offset, checksum in known)

    def entries(self) -> list[Entry]:
        """All samples."""
        files = Files()
        return [self.entry(row, files=files) for row in range(self.samples)]


def write_index(
    path: Path,
    entries: Sequence[Entry],
    *,
    shard_bytes: int,
    has_words: bool,
    read_header: Callable[[int], bytes] | None = None,
) -> None:
    """Write the index of a shard of so many bytes, whole or not at all; equal shards have equal indexes.

    One that is to lie beside its shard knows some of its headers, which `read_header` reads.
    """
    suffixes = {suffix: None for entry in entries for suffix in entry.members}
    numbers = {suffix: number for number, suffix in enumerate(suffixes)}
    domains = {entry.domain: None for entry in entries if entry.domain is not None}
    domain_numbers = {domain: number for number, domain in enumerate(domains, start=1)}
    keys = [entry.key.encode(errors="surrogateescape") for entry in entries]
    rows = np.zeros(len(entries), ROW)
    rows["seconds"] = [math.nan if entry.seconds is None else entry.seconds for entry in entries]
    rows["members"] = [len(entry.members) for entry in entries]
    rows["member"] = _starts([len(entry.members) for entry in entries])
    rows["domain"] = [domain_numbers[entry.domain] if entry.domain else 0 for entry in entries]
    rows["key"], rows["key_bytes"] = _starts([len(key) for key in keys]), [len(key) for key in keys]
    placed = [(*place, numbers[suffix]) for entry in entries for suffix, place in entry.members.items()]
    members = np.array(placed, MEMBER) if placed else np.zeros(0, MEMBER)
    header = {
        "version": VERSION,
        "shard_bytes": shard_bytes,
        "samples": len(entries),
        "members": len(members),
        "suffixes": list(suffixes),
        "domains": list(domains),
        "shares": {name: _share(entries, name or None) for name in ("", *domains)},
        "has_words": has_words,
        "headers": _headers(entries, read_header) if read_header else [],
    }
    written = json.dumps(header).encode()
    with atomic_write(path) as file:
        file.write(HEAD.pack(MAGIC, len(written)) + written)
        file.write(rows.tobytes() + members.tobytes() + b"".join(keys))


def header_reader(path: Path) -> Callable[[int], bytes]:
    """Gives the block at a place of a tar of this machine."""
    files = Files()
    return lambda offset: files.get(str(path), offset=offset, size=HEADER)


def _headers(entries: Sequence[Entry], read_header: Callable[[int], bytes]) -> list[tuple[int, int]]:
    """Of a few members from the first to the last, where the header is and its checksum."""
    offsets = sorted({offset - HEADER for entry in entries for offset, _ in entry.members.values()})
    chosen = sorted({round(place) for place in np.linspace(0, len(offsets) - 1, KNOWN_HEADERS)}) if offsets else []
    return [(offsets[place], zlib.crc32(read_header(offsets[place]))) for place in chosen]


def _starts(sizes: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)])[:-1] if sizes else np.zeros(0)


def _share(entries: Sequence[Entry], domain: str | None) -> list[float | int]:
    of_it = [entry.seconds for entry in entries if entry.domain == domain]
    return [len(of_it), math.fsum(seconds for seconds in of_it if seconds is not None), of_it.count(None)]


def read_index(path: Path, *, shard: Thing) -> ShardIndex | None:
    """The index that lies at a path; None where there is none that is whole and of a shard of this size."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        magic, size = HEAD.unpack(file.read(HEAD.size).ljust(HEAD.size))
        written = file.read(size) if magic == MAGIC else b""
        end = file.seek(0, 2)
    header = json.loads(written) if written and len(written) == size else {}
    if (header.get("version"), header.get("shard_bytes")) != (VERSION, shard.size):
        return None
    index = ShardIndex(
        path,
        shard,
        header["samples"],
        header["members"],
        tuple(header["suffixes"]),
        tuple(header["domains"]),
        {name: Share(int(share[0]), float(share[1]), int(share[2])) for name, share in header["shares"].items()},
        header["has_words"],
        HEAD.size + size,
        tuple((int(offset), int(checksum)) for offset, checksum in header["headers"]),
    )
    keys_end = 0  # The keys come last, and the last row says where they end.
    if index.samples and end >= index._keys_at:
        last = Files().get(str(path), offset=index._members_at - _ROW.size, size=_ROW.size)
        *_, key_at, key_bytes = _ROW.unpack(last)
        keys_end = key_at + key_bytes
    return index if end == index._keys_at + keys_end else None
