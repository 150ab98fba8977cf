"""What a report of runs says, before it is a page: the figures beside published ones, and what the plots show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from lapis.evaluation.compare import Comparison, compare, titles
from lapis.evaluation.report_details import Detail, Kind, details
from lapis.evaluation.report_sections import Section, section
from lapis.evaluation.report_views import Confusion, Languages, Radar, Recall, by_language, confusion, radar, recalls
from lapis.evaluation.results import RunResults


@dataclass(frozen=True)
class Report:
    """Of one run or several."""

    runs: tuple[RunResults, ...]
    names: tuple[str, ...]
    sections: tuple[Section, ...]
    radar: Radar | None
    languages: tuple[Languages, ...]
    recalls: tuple[Recall, ...]
    confusions: tuple[Confusion, ...]
    details: tuple[Detail, ...]
    """Of single protocols, those of a kind together."""
    comparisons: tuple[Comparison | str, ...]
    """Of the first run with each other one, or why there is none."""


def gather(runs: Sequence[RunResults]) -> Report:
    """All that a report says.

    Raises:
        ValueError: there is no run, or none has a benchmark.
    """
    measured = dict.fromkeys(benchmark for run in runs for benchmark in run.benchmarks)
    if not measured:
        raise ValueError("expected the results of at least one run with a benchmark")
    names = titles(*runs)
    sections = tuple(section(benchmark, runs=runs) for benchmark in measured)
    return Report(
        runs=tuple(runs),
        names=names,
        sections=sections,
        radar=radar(sections, names=names),
        languages=by_language(sections, names=names),
        recalls=tuple(recall for one in sections for recall in recalls(one, names=names)),
        confusions=tuple(
            found
            for part in sections
            for name, one in zip(names, part.measured)
            if one is not None and (found := confusion(part.benchmark, run=name, details=one.details))
        ),
        details=tuple(
            sorted(
                (detail for one in sections for detail in details(one, names=names)),
                key=lambda one: get_args(Kind).index(one.kind),
            )
        ),
        comparisons=tuple(_compared(runs[0], other) for other in runs[1:]),
    )


def _compared(first: RunResults, second: RunResults) -> Comparison | str:
    try:
        return compare(first, second=second)
    except ValueError as error:  # what cannot be compared is said in its place
        return str(error)
