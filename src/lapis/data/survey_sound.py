"""What a clip sounds like in a few numbers: how long, how loud, how much of it at full scale, and a digest."""

import hashlib
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lapis import audio
from lapis.data.making import reason_of
from lapis.data.sample import Sample
from lapis.data.storage import StorageError
from lapis.data.workers import Tick
from lapis.files import sha256_of

FULL_SCALE = 0.99
LARGEST_PEAK = 2.0**31
"""Numbers that nobody has brought to full scale at 1 may be as large; sound has no larger ones."""


@dataclass(frozen=True)
class Measured:
    """A clip that was read, or could not be, by its number among the source's."""

    number: int
    where: str
    stated: float | None
    """Seconds, as the source has it."""
    error: str | None = None
    warning: str | None = None
    seconds: float = 0.0
    peak: float = 0.0
    level: float = -math.inf
    """The root mean square in decibels to full scale."""
    full_share: float = 0.0
    """Of the samples, those at 0.99 of full scale or above."""
    sample_rate: int = 0
    format: str = ""
    digest: bytes = b""
    """Of the file's bytes."""


def measure(clips: Sequence[tuple[int, Sample]], tick: Tick) -> list[Measured]:
    """Read clips, at their own rate and in the memory of a piece of each."""
    measured = []
    for number, sample in clips:
        measured.append(_measured(sample, number=number))
        tick()
    return measured


def _measured(sample: Sample, *, number: int) -> Measured:
    where = str(sample.audio)
    try:
        source = sample.audio.open()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            info = audio.info(source)
            count, full, peak, energy = 0, 0, 0.0, 0.0
            for chunk in audio.chunks(source, sample_rate=info.sample_rate):
                size = np.abs(chunk)
                count += len(chunk)
                full += int(np.count_nonzero(size >= FULL_SCALE))
                peak = max(peak, float(size.max(initial=0.0)))
                energy += float(np.dot(chunk, chunk))
            if peak > LARGEST_PEAK:
                raise ValueError(f"{where}: expected samples in [-1, 1], got {peak:.3g}")
    except StorageError:
        raise
    except Exception as error:  # Any: it is what is looked for.
        return Measured(number, where, sample.seconds, error=reason_of(error))
    digest = sha256_of(source) if isinstance(source, Path) else hashlib.sha256(source).hexdigest()
    return Measured(
        number,
        where,
        sample.seconds,
        warning=str(caught[0].message) if caught else None,
        seconds=count / info.sample_rate,
        peak=peak,
        level=10 * math.log10(energy / count) if energy > 0 else -math.inf,
        full_share=full / count,
        sample_rate=info.sample_rate,
        format=info.format,
        digest=bytes.fromhex(digest)[:16],
    )
