"""Sounds that lie in stores (`lapis.data.storage`): object stores and web servers, by their addresses."""

import re
from dataclasses import dataclass, field
from functools import lru_cache

from lapis import audio
from lapis.data.storage import Patience, Thing, store_of

REQUEST_BYTES = 1 << 23
MOST_BYTES = 1 << 31


@dataclass(frozen=True)
class Stored:
    """An object at an address, or `size` bytes from `offset` within one (a member of a tar)."""

    address: str
    offset: int = 0
    size: int | None = None
    name: str | None = None
    """The member's name, where the object is an archive."""
    patience: Patience = field(default=Patience(), repr=False)

    def open(self) -> bytes:
        """All of its bytes.

        Raises:
            ValueError: there is nothing, or it is over `MOST_BYTES`.
            StorageError: the store does not give it.
        """
        thing = _stat(self.address, self.patience) if self.size is not None else self._thing()
        if thing is None:
            raise ValueError(f"{self}: there is nothing at this address")
        size = thing.size if self.size is None else self.size
        if size > MOST_BYTES:
            raise ValueError(f"{self}: it has {size:,} bytes, and at most {MOST_BYTES:,} are fetched")
        store, end = store_of(self.address, self.patience), self.offset + size
        content = bytearray()
        for begin in range(self.offset, end, REQUEST_BYTES):
            content += store.get(thing, offset=begin, size=min(REQUEST_BYTES, end - begin))
        return bytes(content)

    def _thing(self) -> Thing | None:
        return store_of(self.address, self.patience).stat(self.address)

    def __str__(self) -> str:
        return f"{self.address}:{self.name}" if self.name else self.address


@lru_cache(maxsize=64)
def _stat(address: str, patience: Patience) -> Thing | None:
    """Of an archive, whose members follow each other."""
    return store_of(address, patience).stat(address)


def sounds_below(address: str, patience: Patience) -> list[str]:
    """The addresses of the sounds in a folder of a store, ending in `/`, and below it, or that match a pattern; sorted.

    Hidden ones are left out, as they are in a folder of this machine.
    """
    store = store_of(address, patience)
    found = store.below(address) if address.endswith("/") else store.find(address)
    below = len(re.split(r"[*?\[{]", address)[0].rpartition("/")[0])
    return [name for name in found if audio.is_audio_path(name) and "/." not in name[below:]]
