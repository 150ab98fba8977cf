"""The samples of a source one by one, and in their places the reasons why some cannot be had.

A source that is opened for training is whole or an error. Whoever makes data ready, or looks into it, wants the rest of
a corpus in which one shard is cut, and to be told of that shard.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lapis.data.captioned import Captioned, Made, with_captions
from lapis.data.indexed import IndexedSamples
from lapis.data.keys import original_key
from lapis.data.sample import Sample
from lapis.data.shards import Record, open_shard, records, sound_of
from lapis.data.sources import SourceConfig, Tars
from lapis.data.storage import StorageError, is_url
from lapis.data.words import make_sample, parse_object
from lapis.files import data_path


@dataclass(frozen=True)
class Unreadable:
    """A sample, or a whole shard, that its source cannot give."""

    name: str
    reason: str


class Listing:
    """The places of a source: a sample or an `Unreadable` in each. Of tars, one at a time is open."""

    def __init__(self, config: SourceConfig) -> None:
        """Open the source, or find its tars.

        Raises:
            ValueError: the source cannot be opened, or no tar matches, or a table of captions is damaged.
        """
        self._tables: list[Made] = []
        while isinstance(config, Captioned):  # what is below may be tars
            self._tables[:0] = config.read_tables()
            config = config.source
        self.config = config
        self._tars = _tar_paths(config) if isinstance(config, Tars) and "://" not in config.pattern else None
        self._whole = config.build() if self._tars is None else None

    @property
    def total(self) -> int | None:
        """The number of places, where that is known beforehand."""
        if self._whole is not None:
            return len(self._whole)
        assert isinstance(self.config, Tars) and self._tars is not None
        return None if self.config.domain else sum(map(_num_records, self._tars))

    def paths(self) -> Iterator[Path]:
        """What it reads of this machine: its table or folder, archives, and the folders of its sounds, each once."""
        if isinstance(named := getattr(self.config, "path", None), str):
            yield data_path(named)
        yield from self._tars or ()
        if isinstance(self._whole, IndexedSamples):
            yield from (Path(address) for address in self._whole.addresses if not is_url(address))
        seen: set[Path] = set()
        for sample in self._whole if isinstance(self._whole, list) else ():
            if isinstance(path := getattr(sample.audio, "path", None), Path):
                read = path.parent if getattr(sample.audio, "size", None) is None else path
                if read not in seen:
                    seen.add(read)
                    yield read

    def __iter__(self) -> Iterator[Sample | Unreadable]:
        for place in self._places():
            yield with_captions(place, self._tables) if self._tables and isinstance(place, Sample) else place

    def _places(self) -> Iterator[Sample | Unreadable]:
        if self._whole is not None:
            yield from _places(self._whole, name=str(self.config))
        for path in self._tars or ():
            yield from _places_of_tar(path, domain=self.config.domain if isinstance(self.config, Tars) else None)


def _places_of_tar(path: Path, *, domain: str | None) -> Iterator[Sample | Unreadable]:
    """Its samples, each by itself; of a tar that is cut or damaged one place that says so."""
    try:
        found = records(path)
    except ValueError as error:
        yield Unreadable(str(path), str(error))
        return
    for record in found:
        place = _place(record, path=path)
        if isinstance(place, Unreadable) or domain in (None, place.domain):
            yield place


def _place(record: Record, *, path: Path) -> Sample | Unreadable:
    where = f"{path}:{record.key}"
    sound, words = sound_of(record.members), record.members.get("json")
    try:
        if sound is None or words is None:
            raise ValueError(f"{where} needs a sound and a .json, it has {sorted(record.members)}")
        content = words.open()
        assert isinstance(content, bytes), "a member of a tar is opened as bytes"
        values = parse_object(content, name=str(words))
        key = original_key(record.key, values)
        return make_sample(values, key=key, audio=record.members[sound], where=str(words))
    except (ValueError, OSError) as error:
        return Unreadable(where, str(error))


def _places(samples: Sequence[Sample], *, name: str) -> Iterator[Sample | Unreadable]:
    for number in range(len(samples)):
        try:
            place = samples[number]
        except StorageError:
            raise
        except ValueError as error:
            place = Unreadable(f"{name}, sample {number}", str(error))
        yield place


def _tar_paths(config: Tars) -> list[Path]:
    paths = [Path(path).absolute() for path in config.find()]
    if not paths:
        raise ValueError(f"no tar matches {data_path(config.pattern)}")
    return paths


def _num_records(path: Path) -> int:
    try:
        return open_shard(str(path), has_words=False).samples
    except ValueError:
        return 1  # The place that tells of it.
