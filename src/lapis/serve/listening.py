"""A stretch of an indexed file as samples, piece by piece: its peaks to draw, and the sound to locate words in."""

import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from lapis import audio
from lapis.serve.limits import Budget
from lapis.shapes import Waveform

PIECE_SECONDS = 60.0


def pieces(path: Path, *, sample_rate: int, start_seconds: float, seconds: float) -> Iterator[Waveform]:
    """From a second on, for so long, or up to the end.

    Raises:
        AudioError: the file cannot be read, or ends before that.
    """
    wanted, got = round(seconds * sample_rate), 0
    if start_seconds == 0:  # read on without seeking, which some containers cannot
        for piece in audio.chunks(path, sample_rate=sample_rate):
            yield piece[: wanted - got]
            got += len(piece)
            if got >= wanted:
                return
        return
    while got < wanted:
        at = start_seconds + got / sample_rate
        size = min(PIECE_SECONDS, (wanted - got) / sample_rate)
        piece = audio.read(path, sample_rate=sample_rate, start_seconds=at, seconds=size)
        yield piece[: wanted - got]
        got += len(piece)
        if len(piece) < round(size * sample_rate):
            return


def peaks(path: Path, *, start_seconds: float, seconds: float, points: int) -> Float32[np.ndarray, "points"]:
    """The largest magnitude within each of so many equal parts of a stretch.

    Raises:
        AudioError: as `pieces`.
    """
    rate, _ = audio.form(path)
    total = max(1, round(seconds * rate))
    found, position = np.zeros(points, np.float32), 0
    for piece in pieces(path, sample_rate=rate, start_seconds=start_seconds, seconds=seconds):
        if not len(piece):
            continue
        places = np.minimum((position + np.arange(len(piece))) * points // total, points - 1)
        begins = np.flatnonzero(np.diff(places, prepend=-1))
        most = np.maximum.reduceat(np.abs(piece), begins)
        found[places[begins]] = np.maximum(found[places[begins]], most)
        position += len(piece)
    return found


def stretch(path: Path, *, sample_rate: int, start_seconds: float, seconds: float, held: Budget) -> Waveform:
    """The samples at a rate; their seconds stay taken from `held` as long as the array lives.

    Raises:
        AudioError: as `pieces`.
        Refusal: there is no room for it now.
    """
    held.take(seconds)
    try:
        found = list(pieces(path, sample_rate=sample_rate, start_seconds=start_seconds, seconds=seconds))
        waveform = np.concatenate([*found, np.zeros(0, np.float32)])
    except BaseException:
        held.give(seconds)
        raise
    weakref.finalize(waveform, held.give, seconds).atexit = False
    return waveform
