"""The fingerprints of a source, a few hundred clips at a time, made by several processes and kept in the cache.

So whoever stops and comes back, or asks about the same training data again, reads no sound twice. A group's file is
named by what is known of its clips and of their files; it is there whole or not at all.
"""

import json
import warnings
import zipfile
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lapis import audio
from lapis.data.leaks.fingerprint import SAMPLE_RATE, VERSION, Fingerprint, fingerprint
from lapis.data.listing import Unreadable
from lapis.data.making import Place, plan_digest, reason_of
from lapis.data.sample import Sample
from lapis.data.storage import StorageError
from lapis.data.workers import Tick, spread
from lapis.files import atomic_write, cache_folder

GROUP_CLIPS = 256


@dataclass(frozen=True)
class Group:
    """Neighbours in a source, the first of them its place number `first`."""

    first: int
    places: Sequence[Place]
    folder: Path


@dataclass(frozen=True)
class Printed:
    """A group with its fingerprints, None for what could not be read; `problems` say why, by place in the source."""

    group: Group
    prints: Sequence[Fingerprint | None]
    problems: Sequence[tuple[str, str]]


def prints_of(
    places: Iterable[Place], *, workers: int, progress: Callable[[int], None] | None = None
) -> Generator[Printed, None, None]:
    """All groups, in the order they are ready."""
    for group, path in spread(_make, _groups(places), workers=workers, progress=progress):
        prints, problems = _load(path)
        yield Printed(group, prints, problems)


def _groups(places: Iterable[Place]) -> Generator[Group, None, None]:
    folder, held, first = cache_folder("fingerprints"), [], 0
    for place in places:
        held.append(place)
        if len(held) == GROUP_CLIPS:
            yield Group(first, held, folder)
            held, first = [], first + GROUP_CLIPS
    if held:
        yield Group(first, held, folder)


def _make(group: Group, tick: Tick) -> tuple[Group, Path]:
    """In a worker: the group's file, made unless it is there."""
    path = group.folder / f"{VERSION}-{plan_digest(group.places)}.npz"
    if not path.is_file():
        prints: list[Fingerprint | None] = []
        problems: list[tuple[str, str]] = []
        for place in group.places:
            prints.append(_print(place, problems=problems))
            tick()
        _save(path, prints, problems)
    return group, path


def _print(place: Place, *, problems: list[tuple[str, str]]) -> Fingerprint | None:
    if isinstance(place, Unreadable):
        problems.append((place.name, place.reason))
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # A sound that is cut short is compared as far as it goes.
            return fingerprint(audio.chunks(place.audio.open(), sample_rate=SAMPLE_RATE))
    except StorageError:
        raise
    except Exception as error:  # Any: one file in a million must not stop the others, and is named.
        problems.append((str(place.audio), reason_of(error)))
        return None


def _save(path: Path, prints: Sequence[Fingerprint | None], problems: Sequence[tuple[str, str]]) -> None:
    found = [one for one in prints if one is not None]
    digests = [np.frombuffer(one.digest.ljust(16, b"\0"), np.uint8) for one in found]
    with atomic_write(path) as file:
        np.savez(
            file,
            lengths=np.array([-1 if one is None else len(one) for one in prints], np.int64),
            digests=np.array(digests, np.uint8).reshape(-1, 16),
            grown=np.concatenate([np.zeros(0, np.uint32), *(one.grown for one in found)]),
            strong=np.concatenate([np.zeros(0, np.uint32), *(one.strong for one in found)]),
            problems=np.frombuffer(json.dumps(problems).encode(errors="backslashreplace"), np.uint8),
        )


def _load(path: Path) -> tuple[list[Fingerprint | None], list[tuple[str, str]]]:
    try:
        with np.load(path, allow_pickle=False) as table:
            lengths, digests, grown, strong = (table[name] for name in ("lengths", "digests", "grown", "strong"))
            problems = [(where, reason) for where, reason in json.loads(table["problems"].tobytes())]
    except (ValueError, KeyError, TypeError, EOFError, NotImplementedError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and it is made anew") from error
    prints: list[Fingerprint | None] = []
    begin, row = 0, 0
    for length in lengths.tolist():
        if length < 0:
            prints.append(None)
            continue
        digest = digests[row].tobytes()
        end, row = begin + length, row + 1
        prints.append(Fingerprint(grown[begin:end], strong[begin:end], digest if any(digest) else b""))
        begin = end
    return prints, problems


def samples_of(places: Iterable[Place]) -> list[Sample]:
    """Those that can be had."""
    return [place for place in places if isinstance(place, Sample)]
