"""A small embedder that really listens: the shares of energy in frequency bands. Texts name a band."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 8000
BAND_EDGES_HERTZ = (0, 200, 400, 800, 1600, 4001)
BAND_OF_WORD = {"rumble": 0, "low": 1, "middle": 2, "high": 3, "hiss": 4}


@dataclass
class ToneEmbedder:
    identity: str = "tones"
    sample_rate: int = SAMPLE_RATE
    width: int = len(BAND_EDGES_HERTZ) - 1
    pause_seconds: float = 0.0
    seconds_heard: list[float] = field(default_factory=list)

    def embed_audio(self, waveforms: Sequence[np.ndarray]) -> np.ndarray:
        time.sleep(self.pause_seconds)
        self.seconds_heard += [len(waveform) / self.sample_rate for waveform in waveforms]
        return np.stack([self._bands(waveform) for waveform in waveforms])

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([np.eye(self.width, dtype=np.float32)[BAND_OF_WORD[text.split()[0]]] for text in texts])

    def _bands(self, waveform: np.ndarray) -> np.ndarray:
        power = np.abs(np.fft.rfft(waveform.astype(np.float64))) ** 2
        hertz = np.fft.rfftfreq(len(waveform), 1 / self.sample_rate)
        energy, _ = np.histogram(hertz, bins=BAND_EDGES_HERTZ, weights=power)
        amplitude = np.sqrt(energy + 1e-9)
        return (amplitude / np.linalg.norm(amplitude)).astype(np.float32)


def tone(*hertz: float, seconds: float = 1.0) -> np.ndarray:
    """Equally loud sine tones, together."""
    instants = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return sum(0.2 * np.sin(2 * np.pi * each * instants) for each in hertz).astype(np.float32)


def write_tone(path: Path, *hertz: float, seconds: float = 1.0) -> Path:
    return write_sound(path, tone(*hertz, seconds=seconds))


def write_sound(path: Path, waveform: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, SAMPLE_RATE)
    return path
