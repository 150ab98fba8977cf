"""A sound as a row of small words that stay the same through codecs, gain and cuts, in numpy alone.

After Haitsma and Kalker (2002): what is kept of a moment is whether the difference between neighbouring bands has grown
or shrunk since a moment before. Gain falls out of it, and a crop is a shift. Unlike theirs a word has three values: a
change that is small, and so may turn its sign in a codec, counts as none.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float32, Int8, UInt32

from lapis.shapes import Waveform

VERSION = 1
"""Of all that follows; kept fingerprints of another version are not used."""

SAMPLE_RATE = 16_000
WINDOW, HOP = 1024, 256
"""Samples of a frame, 64 ms, and from one frame to the next, 16 ms: a cut misses the frames by 8 ms at most."""
NUM_BANDS = 33
LOWEST_HERTZ, HIGHEST_HERTZ = 150.0, 5500.0
"""What a codec of few bits still keeps."""
LAG = 4
"""Frames between the two moments."""
STRONG = 0.5
"""A change of so much, in the logarithm of energy, counts."""
MOMENT_FLOOR, CLIP_FLOOR = 1e-4, 1e-6
"""What is weaker than so much of the loudest band of the moment, or of the clip, is silence."""
BLOCK_SAMPLES = 1 << 20


@dataclass(frozen=True)
class Fingerprint:
    """Of each frame 32 changes: which of them count, and which of these are growths (bits of `grown` within `strong`).

    `digest` is of the decoded sound itself, in 16 bits a sample: equal for equal sound in whatever file; empty where
    all is silence.
    """

    grown: UInt32[np.ndarray, " frames"]
    strong: UInt32[np.ndarray, " frames"]
    digest: bytes = b""

    def __len__(self) -> int:
        return len(self.strong)


NO_SOUND = Fingerprint(np.zeros(0, np.uint32), np.zeros(0, np.uint32))


def fingerprint(chunks: Iterable[Waveform]) -> Fingerprint:
    """Of a sound at `SAMPLE_RATE` that comes in pieces of any length; a minute of it is in memory at a time."""
    digest, sounds = hashlib.blake2b(digest_size=16), False
    held, energies = np.zeros(0, np.float32), []
    for chunk in chunks:
        quantised = np.clip(np.rint(chunk * 32768), -32768, 32767).astype("<i2")
        digest.update(quantised.tobytes())
        sounds = sounds or bool(quantised.any())
        held = np.concatenate([held, chunk])
        if len(held) >= BLOCK_SAMPLES:
            energies.append(_energies(held))
            held = held[len(energies[-1]) * HOP :]
    energies.append(_energies(held))
    grown, strong = _words(np.concatenate(energies))
    return Fingerprint(grown, strong, digest.digest() if sounds else b"")


def similarity(one: Fingerprint, other: Fingerprint, *, shift: int) -> tuple[float, int]:
    """How alike two sounds are where they overlap, and how many frames that are.

    Frame n of `one` lies on frame n + `shift` of `other`. The likeness is the cosine between the changes that count, as
    numbers -1, 0 and 1: 1 for equal sound, about 0 for other sound, 0 where nothing counts.
    """
    begin, end = max(0, -shift), min(len(one), len(other) - shift)
    if end <= begin:
        return 0.0, 0
    a, b = slice(begin, end), slice(begin + shift, end + shift)
    return float(likeness(one.grown[a], one.strong[a], other.grown[b], other.strong[b])), end - begin


def likeness(
    grown: UInt32[np.ndarray, "*any frames"],
    strong: UInt32[np.ndarray, "*any frames"],
    other_grown: UInt32[np.ndarray, "*any frames"],
    other_strong: UInt32[np.ndarray, "*any frames"],
) -> np.ndarray:
    """The cosine of `similarity` over the last axis, of many pairs at once."""
    both = strong & other_strong
    different = np.bitwise_count((grown ^ other_grown) & both).sum(-1, dtype=np.int64)
    common = np.bitwise_count(both).sum(-1, dtype=np.int64)
    lengths = np.bitwise_count(strong).sum(-1, dtype=np.int64) * np.bitwise_count(other_strong).sum(-1, dtype=np.int64)
    return np.asarray((common - 2 * different) / np.sqrt(np.maximum(1, lengths)))


def changes(of: Fingerprint) -> Int8[np.ndarray, "frames 32"]:
    """The changes as numbers: 1 grown, -1 shrunk, 0 where none counts."""
    strong, grown = _bits(of.strong), _bits(of.grown)
    return (strong * (2 * grown - 1)).astype(np.int8)


def _bits(words: UInt32[np.ndarray, " frames"]) -> Int8[np.ndarray, "frames 32"]:
    return np.unpackbits(words.astype("<u4").view(np.uint8).reshape(-1, 4), axis=1, bitorder="little").view(np.int8)


def _words(energies: Float32[np.ndarray, "frames bands"]) -> tuple[np.ndarray, np.ndarray]:
    """Growths and what counts, frames less `LAG` of each."""
    if len(energies) <= LAG:
        return np.zeros(0, np.uint32), np.zeros(0, np.uint32)
    now, before = energies[LAG:], energies[:-LAG]
    loudest = np.maximum(now.max(1), before.max(1))[:, None]
    floor = np.maximum(MOMENT_FLOOR * loudest, CLIP_FLOOR * energies.max()) + np.float32(1e-12)
    change = np.diff(np.log(now + floor) - np.log(before + floor), axis=1)
    return _packed(change > 0), _packed(np.abs(change) > STRONG)


def _packed(bits: np.ndarray) -> UInt32[np.ndarray, " frames"]:
    return np.packbits(bits, axis=1, bitorder="little").view("<u4")[:, 0].astype(np.uint32)


def _energies(waveform: Waveform) -> Float32[np.ndarray, "frames bands"]:
    """Of the frames that are whole."""
    if len(waveform) < WINDOW:
        return np.zeros((0, NUM_BANDS), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, WINDOW)[::HOP]
    window, bank = _window(), _bank()
    energies = np.empty((len(frames), NUM_BANDS), np.float32)
    for begin in range(0, len(frames), 256):
        spectrum = np.fft.rfft(frames[begin : begin + 256] * window, axis=1)
        energies[begin : begin + 256] = (spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ bank
    return energies


@cache
def _window() -> Float32[np.ndarray, " samples"]:
    return np.hanning(WINDOW + 1)[:-1].astype(np.float32)


@cache
def _bank() -> Float32[np.ndarray, "bins bands"]:
    """Triangles, evenly apart in mel."""

    def mel(hertz: float) -> float:
        return 2595 * float(np.log10(1 + hertz / 700))

    corners = 700 * (10 ** (np.linspace(mel(LOWEST_HERTZ), mel(HIGHEST_HERTZ), NUM_BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)[:, None]
    left, centre, right = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
