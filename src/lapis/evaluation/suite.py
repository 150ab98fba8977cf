"""Suites of benchmarks run on a model: every clip embedded once for all of them, and every figure in one table.

What cannot be measured is listed with its reason, and the rest is measured; only a model whose vectors are not finite
stops a run. A benchmark is never edited, only superseded by one with a higher version; the suites' lines are in
`suites`.
"""

import hashlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.datasets.reading import MissingClips
from lapis.evaluation.benchmark import Benchmark
from lapis.evaluation.cache import EmbeddingCache
from lapis.evaluation.embeddings import NotFiniteError
from lapis.evaluation.figure import Result, shown
from lapis.evaluation.keywords import KeywordsResult
from lapis.evaluation.results import Measured, RunResults, Training, data_checksum, surroundings
from lapis.evaluation.subject import Describer, Subject
from lapis.evaluation.suites import papers, pocket, pool
from lapis.model import Embedder
from lapis.values import nearest

__all__ = ["POCKET_LANGUAGES", "SUITES", "Benchmark", "Result", "SuiteResults", "run_suite", "table"]

POCKET_LANGUAGES = pocket.LANGUAGES

SUITES: Mapping[str, tuple[Benchmark, ...]] = {
    "pocket": pocket.BENCHMARKS,
    "pocket-linear": pocket.LINEAR,
    "pool": pool.BENCHMARKS,
    "papers": papers.BENCHMARKS,
    "papers-finetuning": papers.FINE_TUNING,
}

ELSEWHERE: Mapping[str, Mapping[str, str]] = {"papers": papers.ELSEWHERE}
"""What belongs to a suite and is not measured by it, and why."""

ENDED = "the run ended before it"


@dataclass(frozen=True, eq=False)
class SuiteResults(Mapping[str, Result]):
    """Results by the benchmark's name, and what was not measured."""

    suite: str
    identity: str
    results: Mapping[str, Result]
    absent: Mapping[str, str]
    """Why a benchmark could not be measured: its clips are not there, or the model has not what it asks for."""
    incomplete: Mapping[str, str]
    """Which clips of a benchmark that was measured are not there."""
    benchmarks: Mapping[str, Benchmark]
    clips: Mapping[str, Sequence[Sample]]
    """Those that were tested."""
    taught: Mapping[str, Sequence[Sequence[Sample]]]
    """Those that something was learned or chosen on before, a sequence a source."""
    seconds: Mapping[str, float]
    trained: AbstractSet[str] | None
    """The languages of the texts that training was given, where that is known."""
    started: str
    _measured: dict[str, Measured] = field(default_factory=dict, repr=False)
    """What `to_run` has made before, of this run while it goes on."""

    def __getitem__(self, name: str) -> Result:
        return self.results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def training(self, name: str) -> Training:
        """Whether training was given the languages of a benchmark: all, some or none of them."""
        languages = set(self.benchmarks[name].languages)
        if self.trained is None or not languages:
            return "unknown"
        if languages <= self.trained:
            return "given"
        return "partly given" if languages & self.trained else "never given"

    def to_run(self, *, model: str, device: str = "cpu") -> RunResults:
        """All of it as a run that `results_file` writes."""
        for name in self.results.keys() - self._measured.keys():
            self._measured[name] = self._as_measured(name)
        return RunResults(
            model=model,
            identity=self.identity,
            suite=self.suite,
            benchmarks={name: self._measured[name] for name in self.results},
            started=self.started,
            seconds=sum(self.seconds.values()),
            surroundings=surroundings(device=device),
            absent=dict(self.absent),
        )

    def _as_measured(self, name: str) -> Measured:
        value = Measured.of(
            self.results[name],
            clips=self.clips[name],
            seconds=self.seconds[name],
            languages=self.benchmarks[name].languages,
            languages_in_training=self.training(name),
        )
        beside = {"definition": self.benchmarks[name].digest}
        if name in self.incomplete:
            beside["incomplete"] = self.incomplete[name]
        checksum = value.data_checksum
        if self.taught[name]:  # what a probe learns from decides a figure as much as what it is tested on
            parts = [checksum, *(data_checksum(clips) for clips in self.taught[name])]
            checksum = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        return replace(value, data_checksum=checksum, details={**value.details, **beside})


def run_suite(
    embedder: Embedder,
    *,
    suite: str,
    progress: Callable[[str], None] | None = None,
    cache: EmbeddingCache | None = None,
    trained: AbstractSet[str] | None = None,
    only: Sequence[str] = (),
    captioner: Describer | None = None,
    keep: Callable[[SuiteResults], None] | None = None,
) -> SuiteResults:
    """Measure an embedder on every benchmark of a suite; each clip is embedded once for all of them.

    Args:
        embedder: the model.
        suite: which benchmarks.
        progress: called with the name of each benchmark before it is measured.
        cache: where embeddings are kept; in memory while this runs unless told.
        trained: the languages of the texts that training was given, where that is known.
        only: the benchmarks to measure, where not all; names or patterns, as `pocket-*`.
        captioner: what writes captions with this model, where it can.
        keep: called with what there is after each benchmark that was measured; those to come are among the absent.

    Raises:
        ValueError: there is no such suite or benchmark, or none of it could be measured.
        NotFiniteError: the model gives a vector that is not finite.
    """
    if suite not in SUITES:
        raise ValueError(f"expected a suite among {sorted(SUITES)}, got {suite!r}")
    known = {benchmark.name: benchmark for benchmark in SUITES[suite]}
    chosen = {name: known[name] for name in _chosen(suite, only)}
    subject = Subject(embedder, cache or EmbeddingCache(), captioner)
    sources: dict[str, _Opened] = {}
    results: dict[str, Result] = {}
    absent = {} if only else dict(ELSEWHERE.get(suite, {}))
    incomplete: dict[str, str] = {}
    clips: dict[str, Sequence[Sample]] = {}
    taught: dict[str, Sequence[Sequence[Sample]]] = {}
    seconds: dict[str, float] = {}
    written: dict[str, Measured] = {}
    started = datetime.now(UTC).isoformat(timespec="seconds")

    def so_far() -> SuiteResults:
        return SuiteResults(
            suite=suite,
            identity=embedder.identity,
            results=dict(results),
            absent={**absent, **{name: ENDED for name in chosen if name not in results and name not in absent}},
            incomplete=dict(incomplete),
            benchmarks={name: chosen[name] for name in results},
            clips=dict(clips),
            taught=dict(taught),
            seconds=dict(seconds),
            trained=trained,
            started=started,
            _measured=written,
        )

    for name, benchmark in chosen.items():
        if reason := _hindrance(benchmark, subject=subject, sources=sources):
            absent[name] = reason
            continue
        if progress:
            progress(name)
        opened = [sources[repr(source)] for source in _sources(benchmark)]
        began = time.monotonic()
        try:
            result = subject.measure(benchmark.protocol, clips=opened[0].samples)
        except NotFiniteError as error:
            raise NotFiniteError(f"{name}: {error}") from error
        except ValueError as error:
            absent[name] = f"it cannot be measured: {error}"
            continue
        if isinstance(result, KeywordsResult) and trained is not None:
            result = replace(result, trained=frozenset(trained))
        results[name], seconds[name] = result, time.monotonic() - began
        clips[name], taught[name] = opened[0].samples, [of.samples for of in opened[1:]]
        if gaps := "; ".join(dict.fromkeys(of.gaps for of in opened if of.gaps)):
            incomplete[name] = gaps
        if keep:
            keep(so_far())
    if not results:
        reasons = "\n".join(f"{name}: {reason}" for name, reason in absent.items())
        raise ValueError(f"nothing of the suite {suite} could be measured:\n{reasons}")
    return so_far()


def _chosen(suite: str, only: Sequence[str]) -> list[str]:
    """The names of a suite's benchmarks that names or patterns ask for, in the suite's order; all where none do."""
    known = [benchmark.name for benchmark in SUITES[suite]]
    for pattern in only:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise ValueError(f"the suite {suite} has no benchmark {pattern!r}{nearest(pattern, known)}")
    return [name for name in known if not only or any(fnmatchcase(name, pattern) for pattern in only)]


@dataclass(frozen=True, eq=False)
class _Opened:
    """What opening a source gave: samples, or why there are none."""

    samples: Sequence[Sample]
    gaps: str = ""
    problem: str = ""


def _sources(benchmark: Benchmark) -> list[SourceConfig]:
    """Of the clips that are tested first, then of those that teach."""
    further = [getattr(benchmark.protocol, name, None) for name in ("train", "validation")]
    return [benchmark.source, *(source for source in further if source is not None)]


def _hindrance(benchmark: Benchmark, *, subject: Subject, sources: dict[str, _Opened]) -> str:
    """Why a benchmark cannot be measured; empty where it can. Sources are opened once."""
    for source in _sources(benchmark):
        if repr(source) not in sources:
            sources[repr(source)] = _opened(source)
        if problem := sources[repr(source)].problem:
            return f"{problem} {benchmark.obtain}".rstrip()
    return subject.lacks(benchmark.protocol)


def _opened(source: SourceConfig) -> _Opened:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            samples = source.build()
        except (ValueError, OSError) as error:
            return _Opened((), problem=str(error))
    for warning in caught:
        warnings.warn(warning.message, stacklevel=2)
    gaps = [str(warning.message) for warning in caught if issubclass(warning.category, MissingClips)]
    return _Opened(samples, gaps="; ".join(gaps))


def table(results: Mapping[str, Result]) -> list[dict[str, str]]:
    """A row a figure: benchmark, metric, measured, its 95 % interval, chance, whether training had its languages, and
    which of its clips are not there.
    """
    incomplete = results.incomplete if isinstance(results, SuiteResults) else {}
    training = results.training if isinstance(results, SuiteResults) else lambda name: "unknown"
    return [
        {
            "benchmark": name,
            "metric": metric,
            "measured": str(figure),
            "interval": ""
            if figure.interval is None
            else " to ".join(shown(end, figure.unit) for end in figure.interval),
            "chance": "" if figure.chance is None else shown(figure.chance, figure.unit),
            "languages": training(name),
            "incomplete": incomplete.get(name, ""),
        }
        for name, result in results.items()
        for metric, figure in result.figures.items()
    ]
