"""Which sounds of a benchmark another sound is like, found through sorted arrays and then looked at in full.

A key is 24 signs of fixed random sums over a quarter of a second of changes, so that what is alike has a good chance of
equal keys at one of many places. All keys of the benchmark stand sorted in one array; the sounds that are looked up
come one at a time. The few signs that were nearly otherwise are tried both ways. A common key is no proof: what it
points at is compared, first that quarter of a second, then all that overlaps.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float32, UInt32

from lapis.data.leaks.fingerprint import HOP, SAMPLE_RATE, Fingerprint, changes, likeness, similarity

PATCH = 16
"""Frames that a key is of."""
KEY_BITS = 24
UNSURE_BITS = 8
"""Of a key, tried both ways at most; fewer of a long sound, which has many keys."""
INDEXED_KEYS, LOOKED_UP_KEYS = 1024, 16_384
"""About as many of a sound, all ways together, stand in the index, and are looked up in it."""
COMMON = 256
"""A key that the benchmark has more often than this tells nothing and is passed over."""
PATCH_LIKENESS = 0.45
MINIMUM_FRAMES = 20
"""Shorter overlaps, under 0.45 s, prove nothing."""
BLOCK_HITS = 1 << 18


@dataclass(frozen=True)
class Match:
    """A sound of the benchmark that another is like, where they overlap."""

    number: int
    """Of the benchmark's sound."""
    likeness: float
    frames: int
    """That overlap."""
    shift: int
    """Frame n of the sound that was looked up lies on frame n + `shift` of the benchmark's."""

    @property
    def seconds(self) -> float:
        """That overlap."""
        return self.frames * HOP / SAMPLE_RATE


def enough_likeness(seconds: float) -> float:
    """The likeness that proves a shared recording, where two sounds overlap for so long."""
    return 0.4 + 0.1 / seconds


class SoundIndex:
    """The fingerprints of a benchmark: 8 bytes a frame, 12 bytes a key."""

    def __init__(self, prints: Sequence[Fingerprint]) -> None:
        """Sort the keys."""
        self._lengths = np.array([len(one) for one in prints], np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._lengths)])
        self._grown = np.concatenate([np.zeros(0, np.uint32), *(one.grown for one in prints)])
        self._strong = np.concatenate([np.zeros(0, np.uint32), *(one.strong for one in prints)])
        keys, places = [np.zeros(0, np.uint32)], [np.zeros(0, np.int64)]
        for one, start in zip(prints, self._starts):
            frames, probes = probes_of(one, limit=INDEXED_KEYS)
            keys.append(probes.ravel())
            places.append(np.repeat(frames + start, probes.shape[1]))
        whole = np.concatenate(keys)
        order = np.argsort(whole, kind="stable")
        self._keys, self._places = whole[order], np.concatenate(places)[order]

    def matches(self, sound: Fingerprint, *, enough: Callable[[float], float] = enough_likeness) -> list[Match]:
        """The sounds of the benchmark that this one overlaps with and is like, the likest first.

        `enough` says which likeness proves it, for seconds that overlap.
        """
        best: dict[int, Match] = {}
        for number, shift in self._candidates(sound):
            for near in (shift - 1, shift, shift + 1):
                alike, frames = similarity(sound, self._print(number), shift=near)
                if frames >= MINIMUM_FRAMES and alike >= enough(frames * HOP / SAMPLE_RATE):
                    found = Match(number, alike, frames, near)
                    best[number] = max(best.get(number, found), found, key=lambda match: match.likeness)
        return sorted(best.values(), key=lambda match: (-match.likeness, match.number))

    def _print(self, number: int) -> Fingerprint:
        place = slice(self._starts[number], self._starts[number + 1])
        return Fingerprint(self._grown[place], self._strong[place])

    def _candidates(self, sound: Fingerprint) -> set[tuple[int, int]]:
        """Sounds and shifts at which a quarter of a second is alike."""
        frames, probes = probes_of(sound, limit=LOOKED_UP_KEYS)
        first = np.searchsorted(self._keys, probes, side="left")
        counts = np.searchsorted(self._keys, probes, side="right") - first
        counts[counts > COMMON] = 0
        rows, columns = np.nonzero(counts)
        counts, first = counts[rows, columns], first[rows, columns]
        found: set[tuple[int, int]] = set()
        ends = np.cumsum(counts)
        begin = 0
        while begin < len(counts):
            done = ends[begin - 1] if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, done + BLOCK_HITS)))
            some = counts[begin:end]
            within = np.arange(some.sum()) - np.repeat(np.cumsum(some) - some, some)
            places = self._places[np.repeat(first[begin:end], some) + within]
            found |= self._alike(sound, np.repeat(frames[rows[begin:end]], some), places)
            begin = end
        return found

    def _alike(self, sound: Fingerprint, frames: np.ndarray, places: np.ndarray) -> set[tuple[int, int]]:
        """The pairs of a frame of the sound and a place of the benchmark that are alike for a patch."""
        patch = np.arange(PATCH)
        here, there = frames[:, None] + patch, places[:, None] + patch
        alike = likeness(sound.grown[here], sound.strong[here], self._grown[there], self._strong[there])
        kept = alike >= PATCH_LIKENESS
        frames, places = frames[kept], places[kept]
        numbers = np.searchsorted(self._starts, places, side="right") - 1
        shifts = places - self._starts[numbers] - frames
        return set(zip(numbers.tolist(), shifts.tolist(), strict=True))


def probes_of(of: Fingerprint, *, limit: int) -> tuple[np.ndarray, UInt32[np.ndarray, "frames probes"]]:
    """The frames at which a key begins, and the keys that may stand there in another recording, its own first."""
    frames = np.flatnonzero(_informative(of))
    sums = _sums(of)[frames]
    keys = (sums > 0) @ (np.uint32(1) << np.arange(KEY_BITS, dtype=np.uint32))
    bits = min(UNSURE_BITS, max(0, int(np.log2(limit / max(1, len(frames))))))
    unsure = np.argsort(np.abs(sums), axis=1)[:, :bits].astype(np.uint32)
    flips = np.zeros((len(keys), 1), np.uint32)
    for bit in range(bits):
        flips = np.concatenate([flips, flips ^ (np.uint32(1) << unsure[:, bit : bit + 1])], axis=1)
    return frames, keys[:, None].astype(np.uint32) ^ flips


def _informative(of: Fingerprint) -> np.ndarray:
    """For each frame at which a patch can begin, whether enough happens in it."""
    if len(of) < PATCH:
        return np.zeros(0, np.bool_)
    total = np.concatenate([[0], np.cumsum(np.bitwise_count(of.strong), dtype=np.int64)])
    return total[PATCH:] - total[:-PATCH] >= PATCH * 2


def _sums(of: Fingerprint) -> Float32[np.ndarray, "patches bits"]:
    if len(of) < PATCH:
        return np.zeros((0, KEY_BITS), np.float32)
    # A patch is 32 changes in each of PATCH frames: the sum over it is that of PATCH products, each a frame later.
    products = changes(of).astype(np.float32) @ _directions()
    products = products.reshape(len(of), PATCH, KEY_BITS)
    patches = len(of) - PATCH + 1
    return np.sum([products[frame : frame + patches, frame] for frame in range(PATCH)], axis=0)


@cache
def _directions() -> Float32[np.ndarray, "bands sums"]:
    """Random directions in the space of patches, smooth in time, since a cut moves the frames a little."""
    random = np.random.default_rng(24).standard_normal((KEY_BITS, PATCH + 2, 32))
    smooth = (random[:, :-2] + 2 * random[:, 1:-1] + random[:, 2:]) / 4
    return np.ascontiguousarray(smooth.transpose(2, 1, 0).reshape(32, PATCH * KEY_BITS)).astype(np.float32)
