"""A corpus of many shards as a sequence of samples: each is made when it is asked for, and none is kept.

In memory are a few numbers a shard. A sample's duration comes from the index, so that batches can be planned without
reading anything of a shard.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import overload

import numpy as np

from lapis.data.ahead import Range
from lapis.data.keys import original_key
from lapis.data.sample import Location, Sample
from lapis.data.shard_index import Entry, ShardIndex
from lapis.data.shards import sound_of
from lapis.data.storage import OBJECT_STORES, Files, Patience
from lapis.data.words import make_sample, parse_object

MIXED_SHARDS = 64
"""Of how many shards of several domains the places of one are kept."""


class IndexedSamples(Sequence[Sample]):
    """The samples of shards, or those of one domain, in their order."""

    def __init__(
        self, shards: Sequence[ShardIndex], *, domain: str | None = None, patience: Patience | None = None
    ) -> None:
        self._domain, self._patience = domain, patience or Patience()
        counts = [_count(shard, domain) for shard in shards]
        self._shards = [shard for shard, count in zip(shards, counts, strict=True) if count]
        self._ends = list(accumulate(count for count in counts if count))
        self._files = Files()
        self.may_fork = all(shard.shard.address.partition("://")[0] not in OBJECT_STORES for shard in self._shards)
        self._rows: OrderedDict[int, np.ndarray] = OrderedDict()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> list[Sample]: ...
    def __getitem__(self, place: int | slice) -> Sample | list[Sample]:
        """A sample, its JSON read from the shard.

        Raises:
            IndexError: there are fewer.
            ValueError: the shard is not as it was when it was indexed.
        """
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        shard, row = self._find(place)
        entry = shard.entry(row, files=self._files)
        sound, words = self._places(shard, entry)
        content = words.open() if isinstance(words, Range) else self._file_bytes(words)
        values = parse_object(content, name=str(words))
        return make_sample(values, key=original_key(entry.key, values), audio=sound, where=str(words))

    def __iter__(self) -> Iterator[Sample]:
        return (self[place] for place in range(len(self)))

    def seconds(self, place: int) -> float | None:
        """How long a sample is, from the index."""
        shard, row = self._find(place)
        return shard.seconds(row, files=self._files)

    @property
    def total_seconds(self) -> float:
        """Of all samples that say how long they are, from the index."""
        if self._domain is None:
            return sum(shard.total_seconds for shard in self._shards)
        return sum(shard.shares[self._domain].seconds for shard in self._shards)

    @property
    def addresses(self) -> list[str]:
        """Of the shards."""
        return [shard.shard.address for shard in self._shards]

    def ranges(self, place: int) -> tuple[Range, ...]:
        """What reading a sample will ask of a store; nothing where the shard is a file of this machine."""
        shard, row = self._find(place)
        if shard.shard.is_local:
            return ()
        entry = shard.entry(row, files=self._files)
        return tuple(of for of in self._places(shard, entry) if isinstance(of, Range))

    def _find(self, place: int) -> tuple[ShardIndex, int]:
        """The shard that has the sample, and its row there."""
        count = len(self)
        if not -count <= place < count:
            raise IndexError(f"sample {place} of {count}")
        place %= count
        number = bisect_right(self._ends, place)
        row = place - (self._ends[number - 1] if number else 0)
        shard = self._shards[number]
        if self._domain is None or shard.shares[self._domain].samples == shard.samples:
            return shard, row
        # Taken out and put in last, which is right between threads too: at worst two of them read the same rows.
        rows = self._rows.pop(number, None)
        if rows is None:
            rows = shard.rows_of(self._domain)
        self._rows[number] = rows
        if len(self._rows) > MIXED_SHARDS:
            self._rows.popitem(last=False)
        return shard, int(rows[row])

    def _places(self, shard: ShardIndex, entry: Entry) -> tuple[Location | Range, Location | Range]:
        """Where the sound and the words are."""
        suffix = sound_of(entry.members)
        assert suffix is not None, "an index with words has checked that every sample has a sound"
        found = []
        for name in (suffix, "json"):
            offset, size = entry.members[name]
            if shard.shard.is_local:
                found.append(Location(shard.shard_path, offset, size, f"{entry.key}.{name}"))
            else:
                found.append(Range(shard.shard, offset, size, f"{entry.key}.{name}", self._patience))
        return found[0], found[1]

    def _file_bytes(self, words: Location) -> bytes:
        assert words.size is not None
        content = self._files.get(str(words.path), offset=words.offset, size=words.size)
        if len(content) != words.size:
            raise ValueError(f"{words}: expected {words.size} bytes at {words.offset}, only {len(content)} are there")
        return content


def _count(shard: ShardIndex, domain: str | None) -> int:
    if domain is None:
        return shard.samples
    return shard.shares[domain].samples if domain in shard.shares else 0
