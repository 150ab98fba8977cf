"""Suites of benchmarks run on a model: every clip embedded once for all of them, and every figure in one table.

A benchmark is never edited, only superseded by one with a higher version; the suites' lines are in `suites`.
"""

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.datasets.reading import MissingClips
from lapis.evaluation.benchmark import Benchmark
from lapis.evaluation.cache import EmbeddingCache
from lapis.evaluation.figure import Result, shown
from lapis.evaluation.keywords import KeywordsResult
from lapis.evaluation.results import Measured, RunResults, Training, surroundings
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
    seconds: Mapping[str, float]
    trained: AbstractSet[str] | None
    """The languages of the texts that training was given, where that is known."""
    started: str

    def __getitem__(self, name: str) -> Result:
        return self.results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def training(self, name: str) -> Training:
        """Whether training was given the languages of a benchmark, all of them."""
        languages = set(self.benchmarks[name].languages)
        if self.trained is None or not languages:
            return "unknown"
        return "given" if languages <= self.trained else "never given"

    def to_run(self, *, model: str, device: str = "cpu") -> RunResults:
        """All of it as a run that `results_file` writes."""
        measured = {}
        for name, result in self.results.items():
            value = Measured.of(
                result,
                clips=self.clips[name],
                seconds=self.seconds[name],
                languages=self.benchmarks[name].languages,
                languages_in_training=self.training(name),
            )
            beside = {"definition": self.benchmarks[name].digest}
            if name in self.incomplete:
                beside["incomplete"] = self.incomplete[name]
            measured[name] = replace(value, details={**value.details, **beside})
        return RunResults(
            model=model,
            identity=self.identity,
            suite=self.suite,
            benchmarks=measured,
            started=self.started,
            seconds=sum(self.seconds.values()),
            surroundings=surroundings(device=device),
            absent=dict(self.absent),
        )


def run_suite(
    embedder: Embedder,
    *,
    suite: str,
    progress: Callable[[str], None] | None = None,
    cache: EmbeddingCache | None = None,
    trained: AbstractSet[str] | None = None,
    only: Sequence[str] = (),
    captioner: Describer | None = None,
) -> SuiteResults:
    """Measure an embedder on every benchmark of a suite; each clip is embedded once for all of them.

    Args:
        embedder: the model.
        suite: which benchmarks.
        progress: called with the name of each benchmark before it is measured.
        cache: where embeddings are kept; in memory while this runs unless told.
        trained: the languages of the texts that training was given, where that is known.
        only: the benchmarks to measure, where not all.
        captioner: what writes captions with this model, where it can.

    Raises:
        ValueError: there is no such suite or benchmark, or none of it could be measured; or what the model gives cannot
            be measured: a vector that is not finite, say.
    """
    if suite not in SUITES:
        raise ValueError(f"expected a suite among {sorted(SUITES)}, got {suite!r}")
    known = {benchmark.name: benchmark for benchmark in SUITES[suite]}
    for name in only:
        if name not in known:
            raise ValueError(f"the suite {suite} has no benchmark {name!r}{nearest(name, list(known))}")
    chosen = {name: benchmark for name, benchmark in known.items() if not only or name in only}
    subject = Subject(embedder, cache or EmbeddingCache(), captioner)
    sources: dict[str, _Opened] = {}
    results: dict[str, Result] = {}
    absent = {} if only else dict(ELSEWHERE.get(suite, {}))
    incomplete: dict[str, str] = {}
    clips: dict[str, Sequence[Sample]] = {}
    seconds: dict[str, float] = {}
    started = datetime.now(UTC).isoformat(timespec="seconds")
    for name, benchmark in chosen.items():
        if reason := _hindrance(benchmark, subject=subject, sources=sources):
            absent[name] = reason
            continue
        if progress:
            progress(name)
        opened = [sources[repr(source)] for source in _sources(benchmark)]
        if gaps := "; ".join(dict.fromkeys(of.gaps for of in opened if of.gaps)):
            incomplete[name] = gaps
        clips[name] = opened[0].samples
        began = time.monotonic()
        result = _measured(benchmark, subject=subject, samples=clips[name])
        if isinstance(result, KeywordsResult) and trained is not None:
            result = replace(result, trained=frozenset(trained))
        results[name] = result
        seconds[name] = time.monotonic() - began
    if not results:
        reasons = "\n".join(f"{name}: {reason}" for name, reason in absent.items())
        raise ValueError(f"nothing of the suite {suite} could be measured:\n{reasons}")
    return SuiteResults(
        suite=suite,
        identity=embedder.identity,
        results=results,
        absent=absent,
        incomplete=incomplete,
        benchmarks={name: chosen[name] for name in results},
        clips=clips,
        seconds=seconds,
        trained=trained,
        started=started,
    )


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


def _measured(benchmark: Benchmark, *, subject: Subject, samples: Sequence[Sample]) -> Result:
    try:
        return subject.measure(benchmark.protocol, clips=samples)
    except ValueError as error:
        raise ValueError(f"{benchmark.name}: {error}") from error


def table(results: Mapping[str, Result]) -> list[dict[str, str]]:
    """A row a figure: benchmark, metric, measured, its 95 % interval, chance, whether training had its languages."""
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
        }
        for name, result in results.items()
        for metric, figure in result.figures.items()
    ]
