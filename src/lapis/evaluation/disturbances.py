"""What may happen to a sound between its making and a listener, each a frozen value that does the same every time."""

import io
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, runtime_checkable
from zlib import crc32

import av
import numpy as np

from lapis import audio
from lapis.shapes import Waveform

OPUS_RATE = 48_000


@runtime_checkable
class Disturbance(Protocol):
    """Changes a sound; printing it names it."""

    def __call__(self, waveform: Waveform, *, sample_rate: int) -> Waveform:
        """The changed sound.

        Args:
            waveform: mono.
            sample_rate: of it.
        """
        ...


@dataclass(frozen=True)
class Shift:
    """Begins later by a time, and what falls off the end comes at the beginning."""

    seconds: float

    def __call__(self, waveform: Waveform, *, sample_rate: int) -> Waveform:
        """The sound turned around its end."""
        return np.roll(waveform, round(self.seconds * sample_rate))

    def __str__(self) -> str:
        return f"shift by {self.seconds:g} s"


@dataclass(frozen=True)
class Crop:
    """Only the middle is left."""

    share: float

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"expected a share above 0 and up to 1, got {self.share}")

    def __call__(self, waveform: Waveform, *, sample_rate: int) -> Waveform:
        """The middle of the sound."""
        kept = max(1, round(len(waveform) * self.share))
        begin = (len(waveform) - kept) // 2
        return waveform[begin : begin + kept]

    def __str__(self) -> str:
        return f"crop to {self.share:.0%}"


@dataclass(frozen=True)
class Gain:
    """Louder or softer; what goes beyond full scale is clipped, as a file would."""

    decibels: float

    def __call__(self, waveform: Waveform, *, sample_rate: int) -> Waveform:
        """The sound at another level."""
        return np.clip(waveform * np.float32(10 ** (self.decibels / 20)), -1.0, 1.0).astype(np.float32)

    def __str__(self) -> str:
        return f"gain of {self.decibels:+g} dB"


@dataclass(frozen=True)
class Noise:
    """White noise over the whole clip, so far below the clip's own root mean square; a silent clip stays silent.

    What is drawn for a clip hangs on its sound alone, neither on its name nor on its neighbours.
    """

    decibels: float
    seed: int = 0

    def __call__(self, waveform: Waveform, *, sample_rate: int) -> Waveform:
        """The sound with noise."""
        number = crc32(np.ascontiguousarray(waveform).tobytes())
        noise = np.random.default_rng((self.seed, number)).normal(size=len(waveform))
        level = np.sqrt(np.square(waveform, dtype=np.float64).mean())
        return (waveform + noise * level * 10 ** (-self.decibels / 20)).astype(np.float32)

    def __str__(self) -> str:
        return f"noise at {self.decibels:g} dB"


@dataclass(frozen=True)
class Opus:
    """Coded and decoded again."""

    bits_per_second: int = 24_000

    def __call__(self, waveform: Waveform, *, sample_rate: int) -> Waveform:
        """The sound as it comes back, as long as it was."""
        wide = audio.resample(waveform, from_rate=sample_rate, to_rate=OPUS_RATE)
        coded = io.BytesIO()
        with av.open(coded, "w", format="ogg") as container:
            stream = container.add_stream("libopus", rate=OPUS_RATE)
            stream.bit_rate = self.bits_per_second
            stream.layout = "mono"
            frame = av.AudioFrame.from_ndarray(np.clip(wide, -1, 1)[None], format="flt", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = OPUS_RATE, 0, Fraction(1, OPUS_RATE)
            for packet in (*stream.encode(frame), *stream.encode(None)):
                container.mux(packet)
        back = audio.read(coded.getvalue(), sample_rate=sample_rate)[: len(waveform)]
        return np.pad(back, (0, len(waveform) - len(back)))

    def __str__(self) -> str:
        return f"Opus at {self.bits_per_second / 1000:g} kbit/s"


COMMON: tuple[Disturbance, ...] = (
    Shift(0.25),
    Crop(0.8),
    Crop(0.5),
    Gain(-20.0),
    Gain(6.0),
    Noise(20.0),
    Noise(10.0),
    Noise(0.0),
    Opus(),
)
"""Those of the protocol unless others are chosen."""
