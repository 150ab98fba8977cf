"""What is in a source: how much, how long, in which words and languages, and what is wrong with it.

What is known without reading sound is taken of all clips; sound is read of as many as asked for, drawn at random. What
is kept in memory of a clip is a few numbers.
"""

import hashlib
import random
import unicodedata
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import islice

import numpy as np

from lapis.data.listing import Listing, Unreadable
from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.data.survey_sound import Measured, measure
from lapis.data.surveyed import Listed, Sounds, Survey
from lapis.data.workers import spread

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
TASK_CLIPS = 64
LISTED = 20
# Of a peak: below it a clip counts as silent (-60 dB), or quiet (-40 dB).
SILENT_PEAK, QUIET_PEAK = 1e-3, 1e-2
# A clip counts as clipped where more than this share of its samples is at full scale.
CLIPPED_SHARE = 1e-3
DIFFERENCE_SECONDS = 0.1


def survey(
    config: SourceConfig,
    *,
    read: int = 10_000,
    workers: int = 1,
    seed: int = 0,
    progress: Callable[[str, int, int | None], None] | None = None,
) -> Survey:
    """Look through a source.

    Args:
        config: the source.
        read: of how many clips the sound is read, drawn at random; 0 for none.
        workers: processes that read.
        seed: of the draw.
        progress: called with what is being done, and how many clips of how many are.

    Raises:
        ValueError: the source cannot be opened, or has no clip.
    """
    listing = Listing(config)
    words = _Words()
    # A sample of so many of a stream whose length need not be known (reservoir sampling).
    drawn: list[tuple[int, Sample]] = []
    state = random.Random(seed)
    total = listing.total if progress else None
    for number, place in enumerate(listing):
        if progress and number % 100 == 0:
            progress("listing", number, total)
        if isinstance(place, Unreadable):
            words.unreadable(place)
            continue
        if len(drawn) < read:
            drawn.append((words.clips, place))
        elif read and (row := state.randrange(words.clips + 1)) < read:
            drawn[row] = (words.clips, place)
        words.add(place)
    if not words.clips and not words.lost:
        raise ValueError(f"{config} has no clips")
    drawn.sort(key=lambda pair: pair[0])
    measured = _read(drawn, workers=workers, progress=progress)
    repeated = _repeated(listing, hashes=words.most_repeated(LISTED))
    return words.survey(sound=_sounds(measured) if measured else None, measured=measured, repeated=repeated)


def _read(
    drawn: list[tuple[int, Sample]], *, workers: int, progress: Callable[[str, int, int | None], None] | None
) -> list[Measured]:
    def tasks() -> Iterator[tuple[tuple[int, Sample], ...]]:
        iterator = iter(drawn)
        while group := tuple(islice(iterator, TASK_CLIPS)):
            yield group

    def tell(count: int) -> None:
        if progress:
            progress("reading sound", count, len(drawn))

    measured: list[Measured] = []
    with closing(spread(measure, tasks(), workers=workers, progress=tell)) as results:
        for result in results:
            measured += result
    return sorted(measured, key=lambda one: one.number)


class _Words:
    """What is gathered without reading sound."""

    def __init__(self) -> None:
        self.clips = 0
        self.lost: list[str] = []
        self._num_lost = self._without_words = 0
        self._seconds = array("d")
        self._keys, self._captions = array("Q"), array("Q")
        names = ("domain", "language", "label", "licence", "source", "split")
        self._counts: dict[str, Counter[str]] = {name: Counter() for name in names}
        self._languages: Counter[str] = Counter()
        self._a_clip: Counter[int] = Counter()
        self._characters: dict[str, Counter[int]] = {}

    def unreadable(self, place: Unreadable) -> None:
        self._num_lost += 1
        if len(self.lost) < LISTED:
            self.lost.append(_named(place.name, place.reason))

    def add(self, sample: Sample) -> None:
        self.clips += 1
        self._keys.append(_hash(sample.key))
        if sample.seconds is not None:
            self._seconds.append(sample.seconds)
        for name, counter in self._counts.items():
            values = sample.labels if name == "label" else (getattr(sample, name),)
            counter.update(value for value in values if value is not None)
        num_captions = 0
        # Of one clip each text once: a transcript may be its caption too.
        different = set()
        for language, texts in sample.captions.items():
            kept = [text for text in texts if text.strip()]
            num_captions += len(kept)
            self._languages[language] += bool(kept)
            self._characters.setdefault(language, Counter()).update(map(len, kept))
            different.update(map(_hash_of_caption, kept))
        self._captions.extend(sorted(different))
        self._a_clip[num_captions] += 1
        self._without_words += num_captions == 0 and not sample.labels and sample.transcript is None

    def most_repeated(self, count: int) -> dict[int, int]:
        """Hash to number of the captions that most clips share."""
        hashes, times = np.unique(np.array(self._captions), return_counts=True)
        order = [place for place in np.argsort(-times, kind="stable")[:count] if times[place] > 1]
        return {int(hashes[place]): int(times[place]) for place in order}

    def survey(self, *, sound: Sounds | None, measured: list[Measured], repeated: Mapping[str, int]) -> Survey:
        stated = np.array(self._seconds)
        mean = sound.seconds / sound.read if sound and sound.read else 0.0
        hours = (float(stated.sum()) + (self.clips - len(stated)) * mean) / 3600
        durations = stated if len(stated) else np.array([one.seconds for one in measured if one.error is None])
        everything = sum(self._characters.values(), Counter())
        good = [one for one in measured if one.error is None]
        histograms = {
            "durations": _histogram(durations),
            "caption characters": _histogram(*_as_arrays(everything)),
            "levels": _histogram(np.array([max(one.level, -100.0) for one in good])),
        }
        return Survey(
            clips=self.clips,
            hours=hours,
            stated=len(stated),
            durations=_quantiles(durations),
            domains=_counted(self._counts["domain"]),
            spoken_languages=_counted(self._counts["language"]),
            caption_languages=_counted(+self._languages),
            captions=sum(count * clips for count, clips in self._a_clip.items()),
            captions_a_clip={str(count): clips for count, clips in sorted(self._a_clip.items())},
            caption_characters={
                language: _quantiles(*_as_arrays(lengths))
                for language, lengths in sorted(self._characters.items())
                if lengths
            },
            without_words=self._without_words,
            labels=_counted(self._counts["label"]),
            licences=_counted(self._counts["licence"]),
            sources=_counted(self._counts["source"]),
            splits=_counted(self._counts["split"]),
            unreadable=Listed(self._num_lost, tuple(self.lost)),
            equal_keys=_num_equal(self._keys),
            equal_captions=_num_equal(self._captions),
            repeated_captions=repeated,
            sound=sound,
            histograms={name: histogram for name, histogram in histograms.items() if histogram},
        )


def _repeated(places: Iterable[Sample | Unreadable], *, hashes: Mapping[int, int]) -> dict[str, int]:
    """The texts of the captions with these hashes."""
    texts: dict[int, str] = {}
    for place in places if hashes else ():
        if isinstance(place, Sample):
            for text in (text for texts_of in place.captions.values() for text in texts_of if text.strip()):
                if (found := _hash_of_caption(text)) in hashes:
                    texts.setdefault(found, text)
            if len(texts) == len(hashes):
                break
    return {texts[found]: times for found, times in hashes.items() if found in texts}


def _sounds(measured: list[Measured]) -> Sounds:
    good = [one for one in measured if one.error is None]
    seen: dict[bytes, str] = {}
    equal = []
    for one in good:
        if (first := seen.setdefault(one.digest, one.where)) != one.where:
            equal.append(_named(one.where, f"as {first}"))
    silent = [one for one in good if one.peak < SILENT_PEAK]
    quiet = [one for one in good if SILENT_PEAK <= one.peak < QUIET_PEAK]
    return Sounds(
        read=len(good),
        seconds=float(sum(one.seconds for one in good)),
        durations=_quantiles(np.array([one.seconds for one in good])),
        levels=_quantiles(np.array([one.level for one in good if one.peak > 0])),
        formats=_counted(Counter(f"{one.format}, {one.sample_rate} Hz" for one in good)),
        unreadable=_listed([_named(one.where, one.error) for one in measured if one.error is not None]),
        broken_off=_listed([_named(one.where, one.warning) for one in good if one.warning is not None]),
        silent=_listed([_named(one.where, f"peak {one.peak:.2g}") for one in silent]),
        quiet=_listed([_named(one.where, f"peak {one.peak:.2g}") for one in quiet]),
        clipped=_listed(
            [
                _named(one.where, f"{one.full_share:.2%} of its samples at full scale")
                for one in good
                if one.full_share > CLIPPED_SHARE
            ]
        ),
        other_duration=_listed(
            [
                _named(one.where, f"{one.seconds:.2f} s, stated {one.stated:.2f} s")
                for one in good
                if one.stated is not None and abs(one.seconds - one.stated) > DIFFERENCE_SECONDS
            ]
        ),
        equal_bytes=_listed(equal),
    )


def _listed(entries: list[str]) -> Listed:
    return Listed(len(entries), tuple(entries[:LISTED]))


def _named(where: str, reason: str) -> str:
    return reason if where in reason else f"{where}: {reason}"


def _counted(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda entry: (-entry[1], entry[0])))


def _quantiles(values: np.ndarray, times: np.ndarray | None = None) -> dict[str, float]:
    """Of values that each stand there so many times; each is one of the values."""
    if not len(values):
        return {}
    found = np.quantile(values, QUANTILES, weights=times, method="inverted_cdf")
    return {f"{q:.0%}": float(value) for q, value in zip(QUANTILES, found, strict=True)}


def _histogram(values: np.ndarray, times: np.ndarray | None = None) -> dict[str, list[float]]:
    """Counts and edges; the last bin holds what lies above the 99th percentile too."""
    if not len(values):
        return {}
    most = np.quantile(values, 0.99, weights=times, method="inverted_cdf")
    counts, edges = np.histogram(np.minimum(values, most), bins=40, weights=times)
    return {"counts": counts.astype(float).tolist(), "edges": edges.tolist()}


def _as_arrays(counter: Counter[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(sorted(counter), np.int64), np.array([counter[value] for value in sorted(counter)], np.int64)


def _num_equal(hashes: array) -> int:
    return len(hashes) - len(np.unique(np.array(hashes)))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


def _hash_of_caption(text: str) -> int:
    return _hash(unicodedata.normalize("NFC", " ".join(text.split())).casefold())
