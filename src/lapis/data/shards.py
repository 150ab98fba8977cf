"""WebDataset tars read through an index of offsets: any sample of any shard with one seek, and nothing read twice.

A sample is the members that share a key: the member's path up to the first dot of its file name (the WebDataset
convention). The index (`shard_index.py`) lies beside the tar, where `index_shard` was asked to write it there, or else
in the cache; it is made once, from the tar's headers and the JSON of its samples.
"""

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lapis import audio
from lapis.data.sample import Location
from lapis.data.shard_index import (
    HEADER,
    SUFFIX,
    VERSION,
    Entry,
    ShardIndex,
    header_reader,
    read_index,
    write_index,
)
from lapis.data.storage import Patience, Store, Thing, is_url, stat_file, store_of
from lapis.data.words import known_seconds, known_text, parse_object
from lapis.files import atomic_write, cache_folder

_BLOCK = HEADER
OPENED_AT_ONCE = 16
"""Shards elsewhere; those of this machine are opened one after another."""
SCAN_BYTES = 1 << 20
"""Of a tar elsewhere without an index, read at a time."""


@dataclass(frozen=True)
class Record:
    """A sample's members by suffix (`opus`, `json`)."""

    key: str
    members: Mapping[str, Location]


def records(path: Path) -> list[Record]:
    """The samples of a tar of this machine, in its order; they need not have a sound or a JSON.

    Raises:
        ValueError: the tar is missing, cut short, damaged, or holds a member twice.
    """
    return [
        Record(
            entry.key,
            {suffix: Location(path, *place, name=f"{entry.key}.{suffix}") for suffix, place in entry.members.items()},
        )
        for entry in open_shard(str(path), has_words=False).entries()
    ]


def open_shard(address: str, *, has_words: bool = True, patience: Patience | None = None) -> ShardIndex:
    """The index of a shard, made if there is none.

    One that lies beside the shard is taken where it is of the shard's size and knows some of its headers (elsewhere its
    last one), and, on this machine, is not older than it.

    Args:
        address: a path, or a URL.
        has_words: whether every sample needs a sound and a JSON, whose seconds and domain the index is to hold.
        patience: with a store.

    Raises:
        ValueError: there is no shard, or it is cut short or damaged, or holds a member twice; or, where it has words, a
            sample lacks its sound or a readable JSON.
    """
    patience = patience or Patience()
    store = store_of(address, patience) if is_url(address) else None
    shard = stat_file(Path(address)) if store is None else store.stat(address)
    if shard is None:
        raise ValueError(f"{address}: expected a tar, there is none")
    mark = hashlib.sha256(f"{_full(shard)}\0{shard.size}\0{shard.mark}\0{VERSION}".encode(errors="surrogateescape"))
    # What changes with the shard is in the name, so that an index in the cache is of this state of it.
    cached = cache_folder("shards") / f"{mark.hexdigest()}{SUFFIX}"
    index = read_index(cached, shard=shard) or (
        _beside(shard) if store is None else _fetched(shard, store=store, path=cached)
    )
    if index is not None and (index.has_words or not has_words):
        return index
    entries = _read_tar(shard, store=store, has_words=has_words)
    write_index(cached, entries, shard_bytes=shard.size, has_words=has_words)
    made = read_index(cached, shard=shard)
    assert made is not None, f"{cached} was written a moment ago"
    return made


def open_shards(addresses: Sequence[str], patience: Patience) -> list[ShardIndex]:
    """The indexes of shards with words, several at a time, with a bar on a terminal.

    Raises:
        ValueError: as `open_shard`.
    """
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    with ThreadPoolExecutor(OPENED_AT_ONCE if is_url(addresses[0]) else 1) as pool:
        coming = [pool.submit(open_shard, address, patience=patience) for address in addresses]
        try:
            told = track(coming, "opening shards", console=console, transient=True, disable=not console.is_terminal)
            return [future.result() for future in told]
        finally:
            for future in coming:
                future.cancel()


def index_shard(path: Path) -> Path:
    """Write the index of a tar beside it, so that whoever gets both files need not look through the tar.

    Raises:
        ValueError: as `open_shard`.
    """
    shard = stat_file(path)
    beside = Path(f"{path}{SUFFIX}")
    entries = _read_tar(shard, store=None, has_words=True)
    write_index(beside, entries, shard_bytes=shard.size, has_words=True, read_header=header_reader(path))
    return beside


def _full(shard: Thing) -> str:
    return str(Path(shard.address).resolve()) if shard.is_local else shard.address


def _beside(shard: Thing) -> ShardIndex | None:
    path = Path(f"{shard.address}{SUFFIX}")
    if not path.is_file() or path.stat().st_mtime_ns < int(shard.mark):
        return None
    index = read_index(path, shard=shard)
    return index if index is not None and index.is_of(header_reader(Path(shard.address))) else None


def _fetched(shard: Thing, *, store: Store, path: Path) -> ShardIndex | None:
    """The index that lies beside a shard elsewhere, kept in the cache from now on."""
    there = store.stat(f"{shard.address}{SUFFIX}")
    if there is None:
        return None
    with atomic_write(path) as file:
        for offset in range(0, there.size, SCAN_BYTES):
            file.write(store.get(there, offset=offset, size=min(SCAN_BYTES, there.size - offset)))
    index = read_index(path, shard=shard)
    # One question: whatever moved in a shard moved its end.
    if index is not None and index.is_of(lambda offset: store.get(shard, offset=offset, size=HEADER), last_only=True):
        return index
    path.unlink(missing_ok=True)  # In the cache it would be taken for this shard's the next time.
    return None


def _read_tar(shard: Thing, *, store: Store | None, has_words: bool) -> list[Entry]:
    """The samples of a tar, from its headers and the JSON between them."""
    # On this machine a seek costs nothing, and only headers and JSON are read.
    raw, buffer_bytes = (io.FileIO(shard.address), _BLOCK) if store is None else (_Distant(shard, store), SCAN_BYTES)
    with io.BufferedReader(raw, buffer_bytes) as file:
        words: dict[str, bytes] | None = {} if has_words else None
        table = _read_members(file, shard=shard, words=words)
    if words is None:
        return [Entry(key, members) for key, members in table.items()]
    return [_entry(key, members, words=words.get(key), shard=shard) for key, members in table.items()]


def _read_members(
    file: io.BufferedIOBase, *, shard: Thing, words: dict[str, bytes] | None
) -> dict[str, dict[str, tuple[int, int]]]:
    """Key to suffix to (offset, size); `words` gets each key's JSON on the way, since it lies there."""
    table: dict[str, dict[str, tuple[int, int]]] = {}
    places: dict[str, tuple[int, int]] = {}
    name, end = shard.address, 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                if member.issym() or member.issparse():
                    what = f"a link to {member.linkname}" if member.issym() else "a sparse file"
                    raise ValueError(f"{name} holds {member.name} as {what}: expected files, packed as they are")
                end = member.offset_data + (0 if member.islnk() else -(-member.size // _BLOCK) * _BLOCK)
                if end > shard.size:
                    raise ValueError(
                        f"{name} is cut short: {member.name} ends at byte {member.offset_data + member.size}, "
                        f"the file at {shard.size}"
                    )
                if member.islnk():  # `tar` packs a file that it has packed under another name so.
                    place = places.get(member.linkname)
                    if place is None:
                        raise ValueError(f"{name}: {member.name} is {member.linkname} again, which it does not hold")
                elif member.isfile():
                    place = member.offset_data, member.size
                else:
                    continue
                places[member.name] = place
                folder, _, file_name = member.name.rpartition("/")
                stem, _, suffix = file_name.partition(".")
                key = f"{folder}/{stem}" if folder else stem
                members = table.setdefault(key, {})
                if suffix in members:
                    raise ValueError(f"{name} holds {member.name} twice: expected every member once")
                members[suffix] = place
                if words is not None and suffix == "json":
                    file.seek(place[0])
                    words[key] = file.read(place[1])
    except tarfile.TarError as error:
        raise ValueError(f"{name} is not a whole tar file: {error}") from error
    file.seek(end)
    # A tar that is cut within a header looks to `tarfile` as if it ended there.
    if len(file.read(_BLOCK)) < _BLOCK:
        raise ValueError(f"{name} is cut short: expected an end mark at byte {end}, the file ends there")
    return table


def sound_of(members: Mapping[str, object]) -> str | None:
    """The suffix of a sample's sound; the first, where it has several."""
    return next((suffix for suffix in members if _is_sound(suffix)), None)


@lru_cache(maxsize=1024)
def _is_sound(suffix: str) -> bool:
    return audio.is_audio_path(f"x.{suffix}")


def _entry(key: str, members: Mapping[str, tuple[int, int]], *, words: bytes | None, shard: Thing) -> Entry:
    if sound_of(members) is None or words is None:
        raise ValueError(f"{shard.address}:{key} needs a sound and a .json, it has {sorted(members)}")
    where = f"{shard.address}:{key}.json"
    values = parse_object(words, name=where)
    domain = known_text(values, "domain", where=where)
    return Entry(key, members, known_seconds(values, where=where), domain)


class _Distant(io.RawIOBase):
    """A thing elsewhere as a file to read from."""

    def __init__(self, thing: Thing, store: Store) -> None:
        self._thing, self._store, self._position = thing, store, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self._thing.size)[whence]
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  (any writable buffer)
        size = min(len(buffer), self._thing.size - self._position)
        if size <= 0:
            return 0
        buffer[:size] = self._store.get(self._thing, offset=self._position, size=size)
        self._position += size
        return size
