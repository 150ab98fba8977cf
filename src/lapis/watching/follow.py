"""From a buffer that fills by itself to events with their times and delays."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np
import soxr

from lapis.watching.capture import Buffer, Piece
from lapis.watching.live import Heard, Live

WAIT_SECONDS = 0.1
"""Between two looks whether to stop."""
TELL_LOST_SECONDS = 10.0
"""Between two words on sound that was lost."""
KEPT_DELAYS = 1000


@dataclass(frozen=True)
class Told:
    """An event as it begins, or when it has ended."""

    heard: Heard
    begins: datetime
    """By this machine's clock; of a recording that is not read as it comes, as if it had been."""
    ends: datetime | None
    delay_seconds: float
    """From the beginning, or from the end, until now."""


@dataclass(frozen=True)
class Lost:
    """Sound that was let go of, as the model is too slow, or the device said so."""

    seconds: float


@dataclass
class Account:
    """What became of a stream."""

    seconds: float = 0.0
    """That came, the lost among them."""
    lost_seconds: float = 0.0
    events: int = 0
    delays: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_DELAYS))
    """Of the last beginnings."""


def follow(
    buffer: Buffer, *, live: Live, sample_rate: int, account: Account, stopped: Callable[[], bool]
) -> Iterator[Told | Lost]:
    """Tell what is heard until the stream is over, or one is told to stop; what is heard then ends there.

    Args:
        buffer: that another thread fills.
        live: hears.
        sample_rate: of the buffer's sound, in hertz.
        account: is kept up to date.
        stopped: asked ten times a second.

    Raises:
        ValueError, OSError: the stream broke off, or the model refuses it.
    """
    rate = live.embedder.sample_rate
    resampler = _resampler(sample_rate, rate)
    untold, told_at = 0.0, -np.inf
    piece: Piece | None = None
    while not stopped():
        try:
            now = buffer.take(seconds=WAIT_SECONDS)
        except EOFError:
            break
        if now is None:
            continue
        piece = now
        found: list[Heard] = []
        if piece.lost_samples:
            found += _rest(live, resampler)
            lost = piece.lost_samples / sample_rate
            account.seconds += lost
            account.lost_seconds += lost
            untold += lost
            # Counted from the account, so that the fractions of samples of many gaps do not add up.
            found += live.lost(account.seconds - live.seconds)
            resampler = _resampler(sample_rate, rate)
        account.seconds += len(piece.waveform) / sample_rate
        found += live.hear(resampler.resample_chunk(piece.waveform) if resampler else piece.waveform)
        yield from _told(found, piece, account)
        if untold and time.monotonic() - told_at > TELL_LOST_SECONDS:
            yield Lost(untold)
            untold, told_at = 0.0, time.monotonic()
    buffer.close()
    if piece is not None:
        yield from _told([*_rest(live, resampler), *live.lost(0.0)], piece, account)
    if untold:
        yield Lost(untold)


def _resampler(from_rate: int, to_rate: int) -> soxr.ResampleStream | None:
    if from_rate == to_rate:
        return None
    return soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")


def _rest(live: Live, resampler: soxr.ResampleStream | None) -> list[Heard]:
    """What is heard in what the resampler holds back, when no more comes behind it."""
    return live.hear(resampler.resample_chunk(np.zeros(0, np.float32), last=True)) if resampler else []


def _told(found: list[Heard], piece: Piece, account: Account) -> Iterator[Told]:
    for heard in found:
        now, clock = time.monotonic(), datetime.now().astimezone()

        def ago(seconds: float, now: float = now) -> float:
            return now - piece.arrived + account.seconds - seconds

        begins = clock - timedelta(seconds=ago(heard.begin_seconds))
        if heard.end_seconds is None:
            account.delays.append(ago(heard.begin_seconds))
            yield Told(heard, begins, None, ago(heard.begin_seconds))
        else:
            account.events += 1
            ends = clock - timedelta(seconds=ago(heard.end_seconds))
            yield Told(heard, begins, ends, ago(heard.end_seconds))
