"""Lists of what must not be trained on, as WavCaps publishes them: JSON with the ids of YouTube and of Freesound.

`{"AudioSet": ["Y<id>.wav", ...], "FreeSound": ["<id>", ...]}`. Ours may hold two more lists: `recordings`, of other
collections, as `source:source_id`, and `clips`, as objects with a `source` and a `key`, for what no id tells.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lapis.data.keys import in_utf8
from lapis.data.leaks.ids import ids_of
from lapis.data.sample import Sample
from lapis.files import atomic_write, data_path

AUDIOSET, FREESOUND, RECORDINGS, CLIPS = "AudioSet", "FreeSound", "recordings", "clips"
_PUBLISHED = re.compile(r"(?P<AudioSet>youtube:[A-Za-z0-9_-]{11})|(?P<FreeSound>freesound:[0-9]+)")
"""The ids that stand in a list of WavCaps; a corpus may call its clips otherwise, and say that they are of YouTube."""


@dataclass(frozen=True)
class Exclusion:
    """Ids as `ids_of` gives them, and clips by source and key."""

    ids: frozenset[str] = frozenset()
    clips: frozenset[tuple[str, str]] = frozenset()

    def reason(self, sample: Sample) -> str | None:
        """Why a sample is left out; None where it is not."""
        if clip_of(sample) in self.clips:
            return "clip on the black-list"
        if not self.ids.isdisjoint(ids_of(sample)):
            return "recording on the black-list"
        return None


def clip_of(sample: Sample) -> tuple[str, str]:
    """What a clip is called in a list. It stays the same when a corpus is moved or prepared anew."""
    return in_utf8(sample.source or ""), in_utf8(sample.key)


def write_exclusion(path: Path, exclusion: Exclusion) -> None:
    """Write a list; readers of WavCaps' lists find their part in it."""
    values: dict[str, list[Any]] = {AUDIOSET: [], FREESOUND: [], RECORDINGS: []}
    for one in sorted(exclusion.ids):
        published = _PUBLISHED.fullmatch(one)
        name = (published and published.lastgroup) or RECORDINGS
        rest = one.partition(":")[2]
        values[name].append({AUDIOSET: f"Y{rest}.wav", FREESOUND: rest}.get(name, one))
    values[CLIPS] = [{"source": source, "key": key} for source, key in sorted(exclusion.clips)]
    with atomic_write(path, binary=False) as file:
        json.dump(values, file, ensure_ascii=False, indent=1)


def read_exclusion(path: Path | str) -> Exclusion:
    """Read a list, WavCaps' or one of ours; a relative path lies below the data folder.

    Raises:
        ValueError: there is no such file, or it holds something else.
    """
    whole = data_path(path)
    if not whole.is_file():
        raise ValueError(f"{whole}: expected a black-list, there is no such file")
    state = whole.stat()
    return _read(whole, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=16)
def _read(path: Path, changed: int, size: int) -> Exclusion:
    """One list may be asked for by every part of a mixture."""
    try:
        values = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON in UTF-8: {error}") from error
    known = (AUDIOSET, FREESOUND, RECORDINGS, CLIPS)
    if not isinstance(values, dict) or not values.keys() or not values.keys() <= set(known):
        found = sorted(values) if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"{path}: expected lists named {', '.join(known)}, got {found}")
    for name, items in values.items():
        if not isinstance(items, list):
            raise ValueError(f"{path}: expected a list under {name!r}, got {type(items).__name__}")
    ids = {f"youtube:{_video(item, path=path)}" for item in values.get(AUDIOSET, ())}
    ids |= {f"freesound:{str(item).removesuffix('.wav')}" for item in values.get(FREESOUND, ())}
    ids |= {in_utf8(str(item)) for item in values.get(RECORDINGS, ())}
    return Exclusion(frozenset(ids), _clips(values.get(CLIPS, ()), path=path))


def _video(item: Any, *, path: Path) -> str:
    """`Y` stands before the eleven letters of an id, which may begin with a Y itself."""
    name = str(item).removesuffix(".wav")
    if len(name) == 12 and name.startswith("Y"):
        return name[1:]
    if len(name) == 11:
        return name
    raise ValueError(f"{path}: expected ids of YouTube of 11 letters under {AUDIOSET!r}, got {item!r}")


def _clips(items: Iterable[Any], *, path: Path) -> frozenset[tuple[str, str]]:
    for item in items:
        if not isinstance(item, dict) or item.keys() != {"source", "key"}:
            raise ValueError(f"{path}: expected objects with 'source' and 'key' under {CLIPS!r}, got {item!r}")
    return frozenset((in_utf8(str(item["source"])), in_utf8(str(item["key"]))) for item in items)
