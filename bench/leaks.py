"""Nearly equal sound: how much of what is planted is found, and how much is found that has no waveform in common.

Pairs that fingerprints report are judged by what they do not use: the cross-correlation of the two waveforms where the
fingerprints say they overlap. The limits beside the figures are all pairs, and all that was planted.
"""

import argparse
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from lapis import audio
from lapis.data.leaks.fingerprint import HOP, SAMPLE_RATE, Fingerprint, fingerprint
from lapis.data.leaks.prints import prints_of
from lapis.data.leaks.sound_index import Match, SoundIndex
from lapis.data.listing import Listing
from lapis.data.sample import Sample
from lapis.data.sources import Tars

SAME_WAVEFORM = 0.6
SLACK = 1024
CROP = round(0.3 * SAMPLE_RATE)
Printed = list[tuple[Sample, Fingerprint]]


def encoded(waveform: np.ndarray, *, format: str, subtype: str, level: float) -> np.ndarray:
    file = io.BytesIO()
    soundfile.write(file, waveform, SAMPLE_RATE, format=format, subtype=subtype, compression_level=level)
    return audio.read(file.getvalue(), sample_rate=SAMPLE_RATE)


def opus(waveform: np.ndarray) -> np.ndarray:
    """At about 24 kb/s."""
    return encoded(waveform, format="OGG", subtype="OPUS", level=0.928)


def mp3(waveform: np.ndarray) -> np.ndarray:
    return encoded(waveform, format="MP3", subtype="MPEG_LAYER_III", level=0.9)


DISGUISES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Opus": opus,
    "mp3": mp3,
    "300 ms cut off": lambda waveform: waveform[CROP:],
    "gain 1/4": lambda waveform: np.rint(waveform * 8192).astype(np.float32) / 32768,
    "300 ms cut off, gain 1/2, Opus": lambda waveform: opus(waveform[CROP:] / 2),
}


def printed(pattern: str, *, every: int) -> Printed:
    """The clips of tars, every so many of them, with their fingerprints."""
    found = []
    for group in prints_of(Listing(Tars(pattern)), workers=1):
        for number, (place, one) in enumerate(zip(group.group.places, group.prints, strict=True), group.group.first):
            if isinstance(place, Sample) and one is not None and number % every == 0:
                found.append((place, one))
    return found


def sound_of(sample: Sample) -> np.ndarray:
    return audio.read(sample.audio.open(), sample_rate=SAMPLE_RATE)


def correlation(sample: Sample, test: Sample, match: Match) -> float:
    """Of two waveforms where they overlap, the best within 64 ms of it; 1 for the same but for gain."""
    one, other = sound_of(sample), sound_of(test)
    start = match.shift * HOP
    one, other = one[max(0, -start) :], other[max(0, start) :]
    length = min(len(one), len(other))
    one, other = one[:length], np.pad(other[: length + SLACK], (SLACK, SLACK))
    if not np.square(one).sum():
        return 0.0
    size = 1 << (len(one) + len(other)).bit_length()
    products = np.fft.irfft(np.fft.rfft(other, size) * np.conj(np.fft.rfft(one, size)), size)[: 2 * SLACK + 1]
    energies = np.concatenate([[0], np.cumsum(np.square(other, dtype=np.float64))])
    energies = np.array([energies[place + length] - energies[place] for place in range(2 * SLACK + 1)])
    return float(np.max(np.abs(products) / np.sqrt(np.maximum(energies * np.square(one).sum(), 1e-12))))


def reported(training: Printed, benchmark: Printed, *, apart: bool) -> tuple[list[dict], int]:
    """The pairs that are reported, and the number of all pairs; `apart`: only those of different sources."""
    index = SoundIndex([one for _, one in benchmark])
    sources = Counter(sample.source for sample, _ in benchmark)
    pairs, found = 0, []
    for sample, one in training:
        pairs += len(benchmark) - (sources[sample.source] if apart else 0)
        for match in index.matches(one):
            test = benchmark[match.number][0]
            if str(test.audio) == str(sample.audio) or (apart and test.source == sample.source):
                continue
            found.append(
                {
                    "training": sample.key,
                    "benchmark": test.key,
                    "likeness": round(match.likeness, 3),
                    "seconds": round(match.seconds, 2),
                    "correlation": round(correlation(sample, test, match), 3),
                }
            )
    return sorted(found, key=lambda pair: -pair["correlation"]), pairs


def planted(benchmark: Printed, *, count: int, shortest: float) -> Iterator[tuple[str, float, int]]:
    """Of each disguise the share of clips that are found in it, and the number of clips; evenly over the sources."""
    index = SoundIndex([one for _, one in benchmark])
    seen: Counter[str | None] = Counter()
    each = max(1, count // len({sample.source for sample, _ in benchmark}))
    victims = []
    for number, (sample, _) in enumerate(benchmark):
        if (sample.seconds or 0) >= shortest and seen[sample.source] < each:
            seen[sample.source] += 1
            victims.append((number, sound_of(sample)))
    for name, disguise in DISGUISES.items():
        found = [number in {match.number for match in index.matches(fingerprint([disguise(sound)]))}
                 for number, sound in victims]  # fmt: skip
        yield name, float(np.mean(found)), len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--training", default="pocket/pocket-train-*.tar", help="tars, as a glob in the data folder")
    parser.add_argument("--benchmark", default="pocket/pocket-test-*.tar")
    parser.add_argument("--every", type=int, default=1, help="take every so many clips of training")
    parser.add_argument("--apart", action="store_true", help="only pairs of clips of different sources")
    parser.add_argument("--plant", type=int, default=0, help="so many clips of the benchmark in each disguise")
    parser.add_argument("--shortest", type=float, default=0.8, help="seconds that a planted clip has at least")
    parser.add_argument("--quick", action="store_true", help="few clips")
    parser.add_argument("--out", type=Path, default=Path("bench/results/leaks.json"))
    options = parser.parse_args()
    if options.quick:
        options.training = options.benchmark = "pocket/pocket-val-*.tar"
        options.every, options.plant = 10, 3
    benchmark = printed(options.benchmark, every=1)
    training = printed(options.training, every=options.every)
    found, pairs = reported(training, benchmark, apart=options.apart)
    wrong = [pair for pair in found if pair["correlation"] < SAME_WAVEFORM]
    print(f"{len(training):,} clips against {len(benchmark):,}, {pairs:,} pairs: {len(found)} reported")
    clips = len({pair["training"] for pair in wrong})
    print(f"{len(wrong)} of them, of {clips} clips of training, with a correlation under {SAME_WAVEFORM}")
    shares = {}
    if options.plant:
        for name, share, count in planted(benchmark, count=options.plant, shortest=options.shortest):
            shares[name] = share
            print(f"{name:32} {share:6.1%} of {count}")
    asked = {name: getattr(options, name) for name in ("training", "benchmark", "every", "apart")}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({**asked, "pairs": pairs, "reported": found, "planted": shares}, indent=1))


if __name__ == "__main__":
    main()
