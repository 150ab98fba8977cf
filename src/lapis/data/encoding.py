"""A sound as the bytes of an Ogg Opus or FLAC file: the same samples give the same bytes, however often they are asked.

Opus is written by FFmpeg in its exact mode, since libsndfile draws the stream's number anew each time. What comes out
has as many samples as went in and begins where they began: libsndfile and FFmpeg both read it so.
"""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Literal

import av
import numpy as np
import soundfile
from av.audio.stream import AudioStream

from lapis.shapes import Waveform
from lapis.values import check_choice

OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
# FFmpeg's flag for output that depends on nothing but its input.
EXACT_CODEC, EXACT_CONTAINER = 1 << 23, "+bitexact"

CodecName = Literal["opus", "flac"]


@dataclass(frozen=True)
class Codec:
    """How sounds are written, mono."""

    name: CodecName = "opus"
    sample_rate: int = 16_000
    bits_per_second: int = 32_000
    """On average, of Opus; FLAC takes as many as it needs (16 bits a sample before packing)."""

    def __post_init__(self) -> None:
        check_choice(self.name, CodecName, name="codec")
        if self.name == "opus" and self.sample_rate not in OPUS_RATES:
            raise ValueError(f"Opus has the rates {OPUS_RATES} Hz, got {self.sample_rate}: choose one, or flac")
        if self.name == "opus" and not 6_000 <= self.bits_per_second <= 256_000:
            raise ValueError(f"expected Opus of 6,000 to 256,000 bits per second, got {self.bits_per_second}")
        if self.sample_rate < 1:
            raise ValueError(f"expected a sample rate above 0 Hz, got {self.sample_rate}")

    @property
    def writer(self) -> str:
        """What makes the bytes: other versions may make others."""
        return f"av {version('av')}" if self.name == "opus" else f"soundfile {soundfile.__libsndfile_version__}"

    def encode(self, chunks: Iterable[Waveform]) -> tuple[bytes, int]:
        """The file's bytes and its number of samples; memory holds a chunk and the file.

        Args:
            chunks: of one sound, in order, at `sample_rate`.
        """
        buffer = io.BytesIO()
        if self.name == "flac":
            count = 0
            with soundfile.SoundFile(buffer, "w", self.sample_rate, 1, "PCM_16", format="FLAC") as file:
                for chunk in chunks:
                    file.write(chunk)
                    count += len(chunk)
            return buffer.getvalue(), count
        with av.open(buffer, "w", format="ogg", options={"fflags": EXACT_CONTAINER}) as container:
            stream = container.add_stream("libopus", rate=self.sample_rate, layout="mono")
            assert isinstance(stream, AudioStream)
            stream.bit_rate = self.bits_per_second
            stream.codec_context.flags |= EXACT_CODEC
            count = 0
            for frame in self._frames(chunks):
                count += frame.samples
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return buffer.getvalue(), count

    def _frames(self, chunks: Iterable[Waveform]) -> Iterator[av.AudioFrame]:
        place = 0
        for chunk in chunks:
            if len(chunk):
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(chunk)[None], format="flt", layout="mono")
                frame.sample_rate, frame.pts = self.sample_rate, place
                place += len(chunk)
                yield frame
