"""A small embedder that listens: the strongest frequency of a clip, or the one that a text names, as an angle."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from lapis.data.sample import Location, Sample

SAMPLE_RATE = 8000


@dataclass
class PitchEmbedder:
    identity: str = "pitch"
    sample_rate: int = SAMPLE_RATE
    width: int = 2
    batches: list[list[float]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def embed_audio(self, waveforms: Sequence[np.ndarray]) -> np.ndarray:
        self.batches.append([len(waveform) / SAMPLE_RATE for waveform in waveforms])
        hertz = [np.abs(np.fft.rfft(waveform)).argmax() / len(waveform) * SAMPLE_RATE for waveform in waveforms]
        return _angles(hertz)

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += texts
        return _angles([float(text.split()[0]) for text in texts])


class CollapsedEmbedder(PitchEmbedder):
    """One vector for everything, as a model that has learned nothing may give."""

    def embed_audio(self, waveforms: Sequence[np.ndarray]) -> np.ndarray:
        return _angles([1000.0] * len(waveforms))

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        return _angles([1000.0] * len(texts))


def _angles(hertz: Sequence[float]) -> np.ndarray:
    angle = np.asarray(hertz) / SAMPLE_RATE * np.pi
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def pitched(folder: Path, key: str, *, hertz: float, seconds: float = 0.5, **fields) -> Sample:
    path = folder / f"{key}.wav"
    instants = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * hertz * instants), SAMPLE_RATE)
    return Sample(key=key, audio=Location(path), **fields)
