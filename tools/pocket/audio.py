"""Decoding, cutting, levelling, encoding and comparing the clips of the pocket corpus."""

from __future__ import annotations

import io
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 16_000
PEAK = 10 ** (-3 / 20)
SHORTEST_SECONDS = 0.12
PADDED_SECONDS = 0.3
LONGEST_SECONDS = 8.0
SILENCE_FLOOR = 10 ** (-55 / 20)
BITRATES = {"speech": "16k", "sound": "24k", "music": "24k"}

Waveform = np.ndarray


def decode(path: Path) -> Waveform:
    """Read any audio file as mono float32 at 16 kHz."""
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-vn", "-ac", "1", "-ar", str(SAMPLE_RATE)]
    result = subprocess.run([*command, "-f", "f32le", "-"], capture_output=True, check=False)
    if result.returncode != 0:
        raise ValueError(f"expected audio that ffmpeg can decode in {path}, got: {result.stderr.decode()[:200]}")
    return np.frombuffer(result.stdout, dtype="<f4").astype(np.float32)


def frame_levels(wave: Waveform, seconds: float = 0.02) -> np.ndarray:
    """Return the RMS of consecutive short frames."""
    size = int(seconds * SAMPLE_RATE)
    if len(wave) < size:
        return np.array([root_mean_square(wave)])
    frames = wave[: len(wave) // size * size].reshape(-1, size)
    return np.sqrt(np.mean(frames.astype(np.float64) ** 2, axis=1))


def root_mean_square(wave: Waveform) -> float:
    """Return the RMS of a whole waveform (0 for an empty one)."""
    return float(np.sqrt(np.mean(wave.astype(np.float64) ** 2))) if len(wave) else 0.0


def trim(wave: Waveform, below_peak_db: float = 45.0, margin_seconds: float = 0.05) -> Waveform:
    """Cut silence from both ends, leaving a margin, and never less than 0.3 s where there is that much."""
    levels = frame_levels(wave)
    loud = np.flatnonzero(levels > levels.max() * 10 ** (-below_peak_db / 20))
    if len(loud) == 0:
        return wave
    step = int(0.02 * SAMPLE_RATE)
    margin = int(margin_seconds * SAMPLE_RATE)
    start = max(0, loud[0] * step - margin)
    stop = min(len(wave), (loud[-1] + 1) * step + margin)
    stop = min(len(wave), max(stop, start + int(0.3 * SAMPLE_RATE)))
    return wave[start:stop]


def cut(wave: Waveform, seconds: float, longest_whole: float, count: int) -> list[tuple[float, Waveform]]:
    """Return (start, piece) pairs: the whole clip when short, else up to `count` evenly spread loud enough pieces."""
    if len(wave) <= longest_whole * SAMPLE_RATE:
        return [(0.0, wave)]
    size = int(seconds * SAMPLE_RATE)
    starts = np.arange(0, len(wave) - size + 1, size)
    levels = np.array([root_mean_square(wave[start : start + size]) for start in starts])
    starts = starts[levels > levels.max() * 10 ** (-18 / 20)]
    if len(starts) > count:
        starts = starts[np.linspace(0, len(starts) - 1, count).round().astype(int)]
    return [(start / SAMPLE_RATE, wave[start : start + size]) for start in starts.tolist()]


def level(wave: Waveform) -> Waveform:
    """Remove the mean, fade the ends by 5 ms and scale the peak to -3 dBFS."""
    wave = wave - wave.mean()
    peak = float(np.abs(wave).max(initial=0.0))
    if peak < 1e-6:
        return np.zeros_like(wave)
    wave = wave * (PEAK / peak)
    ramp = np.linspace(0.0, 1.0, int(0.005 * SAMPLE_RATE), dtype=np.float32)
    wave[: len(ramp)] *= ramp
    wave[len(wave) - len(ramp) :] *= ramp[::-1]
    return wave.astype(np.float32)


def pad(wave: Waveform) -> Waveform:
    """Add silence to the end of a very short clip."""
    return np.pad(wave, (0, max(0, round(PADDED_SECONDS * SAMPLE_RATE) - len(wave))))


def usable(wave: Waveform) -> bool:
    """Tell whether a levelled clip is long enough, short enough and audible."""
    seconds = len(wave) / SAMPLE_RATE
    return SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS and root_mean_square(wave) > SILENCE_FLOOR


def encode(wave: Waveform, domain: str) -> bytes:
    """Encode to Ogg Opus with a fixed stream serial, so that equal input gives equal bytes."""
    command = ["ffmpeg", "-v", "error", "-f", "f32le", "-ar", str(SAMPLE_RATE), "-ac", "1", "-i", "pipe:0"]
    command += ["-map_metadata", "-1", "-c:a", "libopus", "-b:a", BITRATES[domain], "-vbr", "constrained"]
    command += ["-application", "voip" if domain == "speech" else "audio", "-threads", "1"]
    command += ["-fflags", "+bitexact", "-flags:a", "+bitexact", "-f", "ogg", "pipe:1"]
    result = subprocess.run(command, input=wave.astype("<f4").tobytes(), capture_output=True, check=False)
    if result.returncode != 0:
        raise ValueError(f"expected ffmpeg with libopus to encode the clip, got: {result.stderr.decode()[:200]}")
    return result.stdout


def decode_opus(data: bytes) -> tuple[Waveform, int]:
    """Decode an Ogg Opus clip the way readers of the corpus do."""
    return soundfile.read(io.BytesIO(data), dtype="float32")


def spectrum_profile(wave: Waveform, bands: int = 48) -> np.ndarray:
    """Return a unit vector of log energies (mean and spread over time) in logarithmic bands: a coarse fingerprint."""
    size, hop = 512, 256
    padded = np.pad(wave, (0, max(0, size - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(size), axis=1)) ** 2
    edges = np.unique(np.geomspace(2, power.shape[1], bands + 1).round().astype(int))
    energies = np.stack([power[:, low:high].sum(1) for low, high in pairwise(edges)], axis=1)
    logs = np.log(energies + 1e-5)
    profile = np.concatenate([logs.mean(0) - logs.mean(), logs.std(0)])
    return profile / (np.linalg.norm(profile) + 1e-9)


def similarity(first: Waveform, second: Waveform) -> float:
    """Return the largest normalised cross-correlation over the shifts that cover half the shorter clip's energy."""
    short, long = sorted((first, second), key=len)
    size = 1 << int(np.ceil(np.log2(len(short) + len(long))))
    correlation = np.fft.irfft(np.fft.rfft(long, size) * np.conj(np.fft.rfft(short, size)), size)
    energy = np.concatenate([[0.0], np.cumsum(long.astype(np.float64) ** 2)])
    best = 0.0
    shifts = np.arange(-(len(short) // 2), len(long) - len(short) // 2)
    starts, stops = np.clip(shifts, 0, len(long)), np.clip(shifts + len(short), 0, len(long))
    own = np.concatenate([[0.0], np.cumsum(short.astype(np.float64) ** 2)])
    own_part = own[stops - shifts] - own[starts - shifts]
    norm = np.sqrt(np.maximum(energy[stops] - energy[starts], 1e-9) * np.maximum(own_part, 1e-9))
    enough = own_part > 0.5 * own[-1]
    if enough.any():
        best = float(np.max(np.abs(correlation[shifts % size][enough]) / norm[enough]))
    return best
