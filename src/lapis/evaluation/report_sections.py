"""A benchmark of several runs side by side, each metric beside what others have published of it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from lapis.evaluation.benchmark import Beside
from lapis.evaluation.figure import Figure
from lapis.evaluation.published import LANGUAGE, Published, published
from lapis.evaluation.results import Measured, RunResults
from lapis.evaluation.suite import SUITES

ENGLISH = "eng_Latn"
METRIC = re.compile(r"^(.*?)(?: (text to audio|audio to text|text to text))?(?: ([a-z]{3}_[A-Z][a-z]{3}))?$")
"""Name, direction and language, of which the last two may be away."""


@dataclass(frozen=True)
class Row:
    """One metric of a benchmark: what each run has, and what others have published."""

    metric: str
    figures: tuple[Figure | None, ...]
    published: tuple[Published, ...]


@dataclass(frozen=True)
class Section:
    """One benchmark with all that must be known of it; the runs' statements are told apart where they differ."""

    benchmark: str
    measured: tuple[Measured | None, ...]
    rows: tuple[Row, ...]

    @property
    def any(self) -> Measured:
        """Of the first run that has it."""
        return next(one for one in self.measured if one is not None)

    @property
    def never_given(self) -> bool:
        """Whether its languages were never given to the training of some run."""
        return any(one is not None and one.languages_in_training == "never given" for one in self.measured)

    @property
    def same_clips(self) -> bool:
        """Whether all runs that have it measured it on the same data."""
        return len({one.data_checksum for one in self.measured if one is not None}) == 1

    def said(self, of: Callable[[Measured], Any], *, names: Sequence[str]) -> list[tuple[str, Any]]:
        """What the runs that have it say: once, without a name, where all agree, else that of each, by its name.

        What is empty is left out.
        """
        found = [(name, of(one)) for name, one in zip(names, self.measured) if one is not None]
        if all(value == found[0][1] for _, value in found):
            found = [("", found[0][1])]
        return [(name, value) for name, value in found if value]


def section(benchmark: str, *, runs: Sequence[RunResults]) -> Section:
    """What the runs have of a benchmark."""
    measured = tuple(run.benchmarks.get(benchmark) for run in runs)
    metrics = dict.fromkeys(metric for one in measured if one for metric in one.figures)
    rows = []
    for metric in metrics:
        figures = tuple(one.figures.get(metric) if one else None for one in measured)
        rows.append(Row(metric, figures, _published(benchmark, metric)))
    return Section(benchmark, measured, tuple(rows))


def parts_of(metric: str) -> tuple[str, str, str]:
    """Name, direction and language of a metric; empty where it has none."""
    name, direction, language = METRIC.match(metric).groups(default="")  # pyright: ignore[reportOptionalMemberAccess]
    return name, direction, language


def unversioned(benchmark: str) -> str:
    """A benchmark's name without its version, as published figures know it."""
    return re.sub(r"-\d+$", "", benchmark)


def language_of(section: Section) -> str | None:
    """The one language of a benchmark that exists in several, from what was measured or its name."""
    if found := LANGUAGE.search(unversioned(section.benchmark)):
        return found[0][1:]
    languages = section.any.languages
    return languages[0] if len(languages) == 1 else None


@cache
def _beside() -> Mapping[str, Beside | None]:
    """What stands beside each benchmark of the suites."""
    return {benchmark.name: benchmark.published for of in SUITES.values() for benchmark in of}


def _published(benchmark: str, metric: str) -> tuple[Published, ...]:
    """Of the benchmark that its line in a suite names, and of no other split."""
    name, direction, language = parts_of(metric)
    beside = _beside().get(benchmark)
    if beside is None or language:
        return ()
    return tuple(
        one
        for one in published(benchmark=beside.benchmark)
        if (one.metric, one.direction) == (name, direction) and one.split in ("", beside.split)
    )
