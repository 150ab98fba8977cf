"""A sound of any length in overlapping stretches, read once from its beginning to its end in the memory of a few."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lapis import audio
from lapis.shapes import Waveform


@dataclass(frozen=True)
class Stretch:
    """A part of a sound. Where the sound begins later or ends earlier than the stretch, the waveform is shorter."""

    planned_sample: int
    """Where the stretch begins; below zero in front of the sound."""
    begin_sample: int
    """Where the waveform begins."""
    waveform: Waveform
    last: bool
    """Whether the sound ends with it."""


def stretches(source: audio.Source, *, sample_rate: int, length: int, hop: int, begin: int = 0) -> Iterator[Stretch]:
    """Stretches a hop apart, up to the first that reaches the end.

    Args:
        source: path, content, or array at `sample_rate`.
        sample_rate: of the waveforms, in hertz.
        length: of a stretch, in samples.
        hop: from the beginning of one to that of the next, in samples.
        begin: where the first one begins: at most a length before the sound.

    Raises:
        AudioError: the source cannot be read as sound.
        ValueError: the stretches leave gaps.
    """
    if not 0 < hop <= length or not -length < begin <= 0:
        raise ValueError(f"expected 0 < hop <= length and -length < begin <= 0, got {hop}, {length} and {begin}")
    array_rate = sample_rate if isinstance(source, np.ndarray) else None
    held, held_from = np.zeros(0, np.float32), 0
    waiting: list[Waveform] = []
    received = 0

    def cut(planned: int, *, last: bool) -> Stretch:
        """Take one stretch out of what is held, and let go of what comes before it."""
        nonlocal held, held_from
        held = np.concatenate([held, *waiting])
        waiting.clear()
        first = max(planned, 0)
        held = held[first - held_from :]
        held_from = first
        return Stretch(planned, first, held[: planned + length - first].copy(), last)

    for chunk in audio.chunks(source, sample_rate=sample_rate, array_rate=array_rate):
        waiting.append(chunk)
        received += len(chunk)
        # One that ends just where the sound does is the last one, which shows only when no more sound comes.
        while received > begin + length:
            yield cut(begin, last=False)
            begin += hop
    if not received:
        raise audio.AudioError(f"expected sound, but it is shorter than one sample at {sample_rate} Hz")
    yield cut(begin, last=True)
