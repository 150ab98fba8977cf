"""A folder that is followed: which sounds are new or changed, and no longer written to.

The folder is looked through again and again, as events of a file system do not come from network disks. A file is ready
when its size and time have stayed the same for a while; so one is told of after at most that while and two looks.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lapis import audio

WAIT_SECONDS = 0.1


@dataclass(frozen=True)
class _Seen:
    """A file as it was."""

    size: int
    mtime_ns: int


def ready_files(
    folder: Path,
    *,
    stopped: Callable[[], bool],
    every_seconds: float = 1.0,
    settle_seconds: float = 2.0,
    known: bool = True,
) -> Iterator[list[Path]]:
    """The sounds that have become ready since the last look, and an empty list after a look that found none.

    Args:
        folder: with its subfolders; hidden files are left out (`lapis.audio.find_audio`).
        stopped: asked ten times a second.
        every_seconds: between two looks.
        settle_seconds: for which a file must stay the same.
        known: whether what is there at the beginning is known already, and told of only when it changes.

    Raises:
        ValueError: there is no such folder at the beginning. One that is away later, as a network disk may be, is
            looked for again; so is one that has become empty, as the place of such a disk is.
    """
    if not (every_seconds > 0 and settle_seconds >= 0):
        raise ValueError(f"expected seconds above 0, got {every_seconds} and {settle_seconds}")
    told = _look(folder)
    if told is None:
        raise ValueError(f"expected a folder of sounds, and {folder} is not one")
    if not known:
        told = {}
    waiting: dict[Path, tuple[_Seen, float]] = {}
    while not stopped():
        found, now = _look(folder), time.monotonic()
        if found is not None and (found or not told):
            ready = []
            for path, seen in found.items():
                if told.get(path) == seen:
                    waiting.pop(path, None)
                elif path not in waiting or waiting[path][0] != seen:
                    waiting[path] = (seen, now)
                elif now - waiting[path][1] >= settle_seconds:
                    ready.append(path)
                    told[path] = seen
                    del waiting[path]
            for gone in (told.keys() | waiting.keys()) - found.keys():
                told.pop(gone, None)
                waiting.pop(gone, None)
            yield ready
        until = now + every_seconds
        while not stopped() and (left := until - time.monotonic()) > 0:
            time.sleep(min(WAIT_SECONDS, left))


def _look(folder: Path) -> dict[Path, _Seen] | None:
    """All sounds as they are now; None where the folder is not there."""
    if not folder.is_dir():
        return None
    found = {}
    try:
        paths = audio.find_audio(folder)
    except audio.AudioError:
        return None
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            continue  # gone since
        found[path] = _Seen(status.st_size, status.st_mtime_ns)
    return found
