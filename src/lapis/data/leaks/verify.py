"""Training clips that a benchmark must not be measured with: all that tells of a leak, asked of every clip once.

The benchmarks are in memory, and of training one clip at a time.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from lapis.data.keys import in_utf8
from lapis.data.leaks.equal_words import MOST_CLIPS, captions_of, captions_of_one, plain_words
from lapis.data.leaks.exclusion import Exclusion, clip_of, read_exclusion
from lapis.data.leaks.fingerprint import NO_SOUND, Fingerprint
from lapis.data.leaks.ids import ids_of
from lapis.data.leaks.prints import Printed, prints_of
from lapis.data.leaks.sound_index import Match, SoundIndex
from lapis.data.listing import Listing, Unreadable
from lapis.data.making import Place
from lapis.data.mixture import Mixture, Part
from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig

Reason = Literal["same recording", "equal sound", "nearly equal sound", "equal caption"]
"""Worst first."""
REASONS = get_args(Reason)
Stage = Callable[[str, int, int | None], None]
LISTED_PROBLEMS = 20


@dataclass(frozen=True)
class Offender:
    """A clip of training and the clip of a benchmark that it gives away."""

    source: str
    key: str
    where: str
    benchmark: str
    test_key: str
    test_where: str
    reason: Reason
    score: float
    """1 for what is equal, the likeness of nearly equal sound."""
    detail: str
    """The recording, the caption, or how many seconds are alike."""


@dataclass(frozen=True)
class Leaks:
    """What was found, and what was looked at: clips without a fingerprint were compared by ids and words alone."""

    offenders: tuple[Offender, ...]
    clips: int
    excluded: int
    """Clips that a black-list of the mixture leaves out."""
    benchmark_clips: int
    unreadable: int
    problems: tuple[tuple[str, str], ...]
    """Where and why, of the first that could not be read."""
    exclusion: Exclusion = field(repr=False, default=Exclusion())
    """All recordings of the benchmarks, and the clips of training that offend."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Training clips by reason."""
        return Counter(reason for _, reason in {((o.source, o.key, o.where), o.reason) for o in self.offenders})


def find_leaks(
    training: Iterable[Part],
    *,
    against: Mapping[str, SourceConfig],
    sound: bool = True,
    captions: bool = True,
    workers: int = 1,
    progress: Stage | None = None,
) -> Leaks:
    """Compare all clips of training with all of the benchmarks.

    Args:
        training: parts of a mixture; what they exclude is not looked at.
        against: benchmarks by name.
        sound: whether sound is read and compared; ids and captions need none.
        captions: whether equal captions are looked for.
        workers: processes that read sound.
        progress: called with what is being done, the clips done, and their number where it is known.

    Raises:
        ValueError: a source cannot be opened, or one has no clips, or there is no benchmark: no leak would say nothing.
    """
    if not against:
        raise ValueError("expected a benchmark to compare with, got none")
    benchmarks = Benchmarks(sound=sound, captions=captions)
    for name, config in against.items():
        benchmarks.add(name, config, workers=workers, progress=progress)
    benchmarks.close()
    offenders: list[Offender] = []
    problems = benchmarks.problems
    clips = 0
    excluded: Counter[str] = Counter()
    for leaf in Mixture.Config(tuple(training)).leaves():
        listing = Listing(leaf.source)
        tell = _stage(progress, "training", listing)
        before = clips + excluded.total() + len(problems)
        for place, found in benchmarks.look_up(_kept(listing, leaf.part, excluded), workers=workers, progress=tell):
            offenders += found
            clips += isinstance(place, Sample)
        if clips + excluded.total() + len(problems) == before:
            raise ValueError(f"{leaf.source} has no clips: expected some to be trained on")
    offenders = benchmarks.without_classes(offenders)
    offenders.sort(key=lambda one: (REASONS.index(one.reason), -one.score, one.where, one.test_where))
    return Leaks(
        tuple(map(_printable, offenders)),
        clips=clips,
        excluded=excluded.total(),
        benchmark_clips=len(benchmarks.samples),
        unreadable=len(problems),
        problems=tuple((in_utf8(where), in_utf8(reason)) for where, reason in problems[:LISTED_PROBLEMS]),
        exclusion=Exclusion(frozenset(benchmarks.of_id), frozenset((one.source, one.key) for one in offenders)),
    )


def _printable(offender: Offender) -> Offender:
    """With names that any file and terminal can have."""
    texts = ("source", "key", "where", "benchmark", "test_key", "test_where", "detail")
    return replace(offender, **{name: in_utf8(getattr(offender, name)) for name in texts})


def _kept(listing: Listing, part: Part, excluded: Counter[str]) -> Generator[Place, None, None]:
    """The places of a source that may be trained on; the others are counted."""
    exclusion = None if part.exclude is None else read_exclusion(part.exclude)
    for place in listing:
        reason = exclusion.reason(place) if exclusion is not None and isinstance(place, Sample) else None
        if reason is None:
            yield place
        else:
            excluded[reason] += 1


class Benchmarks:
    """The clips of all benchmarks, by whatever gives one away."""

    def __init__(self, *, sound: bool, captions: bool) -> None:
        self._sound, self._captions = sound, captions
        self.samples: list[Sample] = []
        self.of_id: dict[str, list[int]] = defaultdict(list)
        self.problems: list[tuple[str, str]] = []
        self._names: list[str] = []
        self._prints: list[Fingerprint] = []
        self._of_digest: dict[bytes, list[int]] = defaultdict(list)
        self._of_caption: dict[str, int] = {}
        self._times: Counter[str] = Counter()
        """Clips of training, so far, that have a caption of a benchmark."""

    def add(self, name: str, config: SourceConfig, *, workers: int, progress: Stage | None) -> None:
        """The clips of a benchmark; what cannot be read is among the problems.

        Raises:
            ValueError: it has none.
        """
        listing = Listing(config)
        places = list(listing)
        if not any(isinstance(place, Sample) for place in places):
            reasons = [place.reason for place in places if isinstance(place, Unreadable)]
            told = f", none of {len(reasons)} can be had; the first: {reasons[0]}" if reasons else ""
            raise ValueError(f"the benchmark {name} has no clips{told}")
        found: dict[int, Fingerprint] = {}
        if self._sound:
            for printed in prints_of(places, workers=workers, progress=_stage(progress, name, listing)):
                self.problems += printed.problems
                found |= {n: one for n, one in enumerate(printed.prints, printed.group.first) if one is not None}
        else:
            self.problems += [(place.name, place.reason) for place in places if isinstance(place, Unreadable)]
        first = len(self.samples)
        for number, place in enumerate(places):
            if not isinstance(place, Sample):
                continue
            for one in ids_of(place):
                self.of_id[one].append(len(self.samples))
            # A sound that is nothing but silence is like no other.
            one = found.get(number, NO_SOUND)
            if one.digest:
                self._of_digest[one.digest].append(len(self.samples))
            self._prints.append(one)
            self._names.append(name)
            self.samples.append(place)
        if self._captions:
            own = captions_of_one(self.samples[first:])
            self._of_caption |= {plain: first + number for plain, number in own.items()}

    def close(self) -> None:
        """When all are there."""
        self._index = SoundIndex(self._prints)
        self._prints = []

    def look_up(
        self, places: Iterable[Place], *, workers: int, progress: Callable[[int], None] | None
    ) -> Generator[tuple[Place, list[Offender]], None, None]:
        """Each clip of training with what it gives away."""
        if not self._sound:
            for number, place in enumerate(places, start=1):
                if progress:
                    progress(number)
                if isinstance(place, Unreadable):
                    self.problems.append((place.name, place.reason))
                yield place, self._offences(place, None)
            return
        for printed in prints_of(places, workers=workers, progress=progress):
            self.problems += printed.problems
            yield from self._group(printed)

    def _group(self, printed: Printed) -> Generator[tuple[Place, list[Offender]], None, None]:
        for place, one in zip(printed.group.places, printed.prints, strict=True):
            yield place, self._offences(place, one)

    def _offences(self, place: Place, sound: Fingerprint | None) -> list[Offender]:
        if isinstance(place, Unreadable):
            return []
        found = [
            self._offender(place, n, "same recording", one) for one in ids_of(place) for n in self.of_id.get(one, ())
        ]
        if self._captions:
            shared = {plain: text for plain, text in captions_of(place).items() if plain in self._of_caption}
            self._times.update(shared.keys())
            found += [
                self._offender(place, self._of_caption[plain], "equal caption", text)
                for plain, text in shared.items()
                if self._times[plain] <= MOST_CLIPS
            ]
        if sound is not None:
            equal = self._of_digest.get(sound.digest, []) if sound.digest else []
            found += [self._offender(place, n, "equal sound", "all samples") for n in equal]
            for match in self._index.matches(sound):
                if match.number not in equal:
                    detail = f"{match.seconds:.1f} s alike"
                    found.append(self._offender(place, match.number, "nearly equal sound", detail, match))
        return found

    def without_classes(self, offenders: Iterable[Offender]) -> list[Offender]:
        """Less the captions that turned out to be a class's; of several that two clips share the first is left."""
        kept: dict[tuple[str, ...], Offender] = {}
        for one in offenders:
            if one.reason != "equal caption":
                kept[one.reason, one.where, one.benchmark, one.test_where, one.detail] = one
            elif self._times[plain_words(one.detail)] <= MOST_CLIPS:
                kept.setdefault((one.reason, one.where, one.benchmark, one.test_where), one)
        return list(kept.values())

    def _offender(
        self, sample: Sample, number: int, reason: Reason, detail: str, match: Match | None = None
    ) -> Offender:
        test, (source, key) = self.samples[number], clip_of(sample)
        score = 1.0 if match is None else round(match.likeness, 3)
        where, test_where = str(sample.audio), str(test.audio)
        return Offender(source, key, where, self._names[number], test.key, test_where, reason, score, detail)


def _stage(progress: Stage | None, name: str, listing: Listing) -> Callable[[int], None] | None:
    if progress is None:
        return None
    total = listing.total
    return lambda done: progress(name, done, total)
