"""Two runs against each other: for each figure that is a mean over items, whether the difference is real.

Only what was measured on the same clips by the same protocol is compared; anything else is left out by name.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np

from lapis.evaluation import bootstrap
from lapis.evaluation.figure import LOW_IS_GOOD, Unit, shown
from lapis.evaluation.results import Measured, RunResults
from lapis.evaluation.significance import group_sums, holm, sign_flip

Verdict = Literal["first is better", "second is better", "not told apart"]
LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """One figure of both runs."""

    benchmark: str
    metric: str
    unit: Unit
    first: float
    second: float
    interval: tuple[float, float] | None
    """Of `second - first`, of 95 % for this figure by itself; None where all items belong to one clip."""
    p_value: float
    adjusted: float
    """The p value after Holm's correction for all figures compared, which decides."""
    num_items: int
    num_groups: int
    """Clips, where an item is a query and several belong to a clip; else items."""
    verdict: Verdict

    @property
    def value(self) -> float:
        """Second minus first."""
        return self.second - self.first

    def shown(self) -> str:
        """The difference and its interval as people read them, in percentage points where it is of shares."""
        times, digits = {"share": (100, 1), "lost share": (100, 1), "rank": (1, 1), "error": (1, 4)}.get(
            self.unit, (1, 3)
        )
        low_high = (f"{times * edge:+.{digits}f}" for edge in self.interval or ())
        return f"{times * self.value:+.{digits}f}" + (f" ({' to '.join(low_high)})" if self.interval else "")


@dataclass(frozen=True)
class Comparison:
    """Of two runs, as printed names, and what could not be compared with the reason."""

    first: str
    second: str
    differences: tuple[Difference, ...]
    left_out: Mapping[str, str]
    """Reasons by benchmark, or benchmark and metric."""

    def words(self, verdict: Verdict) -> str:
        """Who is better."""
        return {"first is better": f"{self.first} is better", "second is better": f"{self.second} is better"}.get(
            verdict, verdict
        )

    @property
    def sentence(self) -> str:
        """How it was decided, and how often which verdict came."""
        counts = {kind: sum(one.verdict == kind for one in self.differences) for kind in VERDICTS}
        return (
            f"Of {len(self.differences)} figures {self.first} is better in {counts[VERDICTS[0]]}, {self.second} in "
            f"{counts[VERDICTS[1]]}, and {counts[VERDICTS[2]]} are not told apart. Sign-flip test of the differences "
            f"clip by clip, two-sided, at {LEVEL:.0%} after Holm's correction for {len(self.differences)} figures; "
            "intervals of 95 % by the paired bootstrap, each for itself, of shares in points. Low ranks, errors and "
            "losses are good. Not told apart does not mean equal."
        )


VERDICTS: tuple[Verdict, ...] = ("first is better", "second is better", "not told apart")


def compare(first: RunResults, *, second: RunResults, only: tuple[str, ...] = ()) -> Comparison:
    """Compare two runs on what both have measured.

    Args:
        first: a run.
        second: another run.
        only: patterns such as `pocket-*` or `* R@1 *` of "benchmark metric"; the correction is for these figures, so
            choose them before looking.

    Raises:
        ValueError: nothing can be compared: they share no benchmark, as runs of two suites; or the clips, protocols,
            prompts or seeds of all of them differ, which is named; or nothing of what they share is a mean over items,
            or is left by `only`.
    """
    found: list[tuple[str, str, Measured, Measured]] = []
    left_out: dict[str, str] = {}
    names = titles(first, second)
    if not first.benchmarks.keys() & second.benchmarks.keys():
        raise ValueError(_nothing_shared(first, second, names=names))
    for benchmark in dict.fromkeys([*first.benchmarks, *second.benchmarks]):
        ones = first.benchmarks.get(benchmark), second.benchmarks.get(benchmark)
        metrics = dict.fromkeys(metric for one in ones if one for metric in one.figures)
        asked = [metric for metric in metrics if _asked(f"{benchmark} {metric}", only)]
        if not asked:
            continue
        if ones[0] is None or ones[1] is None:
            left_out[benchmark] = f"only {names[0] if ones[0] else names[1]} has it"
            continue
        if reason := _disagreement(ones[0], ones[1]):
            left_out[benchmark] = reason
            continue
        for metric in asked:
            reason = _not_paired(metric, ones[0], ones[1])
            if reason:
                left_out[f"{benchmark} {metric}"] = reason
            else:
                found.append((benchmark, metric, ones[0], ones[1]))
    if not found:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(left_out.items())[:3])
        raise ValueError(f"{names[0]} and {names[1]} have nothing to compare: {reasons or 'no benchmark is asked for'}")
    tested = [_tested(*one) for one in found]
    adjusted = holm([one["p_value"] for one in tested])
    differences = tuple(
        Difference(**one, adjusted=value, verdict=_verdict(one, value)) for one, value in zip(tested, adjusted)
    )
    return Comparison(names[0], names[1], differences, left_out)


def titles(*runs: RunResults) -> tuple[str, ...]:
    """Names of runs that tell them apart."""
    names = [run.title for run in runs]
    return tuple(f"{name} [{number}]" if names.count(name) > 1 else name for number, name in enumerate(names, start=1))


def rows(comparison: Comparison) -> list[dict[str, str]]:
    """The differences as words, a row a figure."""
    return [
        {
            "benchmark": one.benchmark,
            "metric": one.metric,
            comparison.first: shown(one.first, one.unit),
            comparison.second: shown(one.second, one.unit),
            "difference (95 %)": one.shown(),
            "p": shown_p(one.p_value),
            "p, Holm": shown_p(one.adjusted),
            "verdict": comparison.words(one.verdict),
        }
        for one in comparison.differences
    ]


def shown_p(value: float) -> str:
    """A p value as people read it."""
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _nothing_shared(first: RunResults, second: RunResults, *, names: Sequence[str]) -> str:
    """Why two runs cannot be compared at all: mostly, because they are of two suites."""
    has = [
        f"{name} has {next(iter(run.benchmarks), 'none')}{' and others' if len(run.benchmarks) > 1 else ''}"
        + (f" of the suite {run.suite}" if run.suite else "")
        for name, run in zip(names, (first, second))
    ]
    return f"the runs share no benchmark: {has[0]}, {has[1]}. Measure both models on one suite to compare them"


def _asked(name: str, only: tuple[str, ...]) -> bool:
    """Whether a pattern is that of "benchmark metric" or of the benchmark alone; all are where there is none."""
    benchmark = name.partition(" ")[0]
    return not only or any(fnmatchcase(one, pattern) for one in (name, benchmark) for pattern in only)


def _disagreement(first: Measured, second: Measured) -> str:
    """What of the measuring differs; nothing where it is the same."""
    definitions = [one.details.get("definition") for one in (first, second)]
    asked = (
        (
            first.data_checksum == second.data_checksum,
            f"the clips differ, checksum {first.data_checksum[:12]} ({first.num_clips} clips) "
            f"against {second.data_checksum[:12]} ({second.num_clips} clips)",
        ),
        (
            first.protocol == second.protocol,
            f"the protocol differs, {_first_difference(first.protocol, second.protocol)}",
        ),
        (
            _keys(first) == _keys(second),
            f"other clips could not be read, {_keys(first)[:3]} against {_keys(second)[:3]}",
        ),
        (
            first.prompts == second.prompts,
            f"the prompts differ, {_first_prompts(first.prompts, second.prompts)}",
        ),
        (first.seeds == second.seeds, f"the seeds differ, {first.seeds} against {second.seeds}"),
        (
            definitions[0] == definitions[1],
            f"the benchmark is defined otherwise, digest {definitions[0]} against {definitions[1]}",
        ),
    )
    return next((said for same, said in asked if not same), "")


def _keys(measured: Measured) -> list[str]:
    """Of the clips that could not be read; the reasons are words of whatever library reads sound there."""
    return [failure.partition(": ")[0] for failure in measured.unreadable]


def _first_difference(first: str, second: str) -> str:
    """The first words in which two sentences differ, with what stands before them."""
    one, other = first.split(), second.split()
    for tag, a, b, c, d in difflib.SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if tag != "equal":
            before = " ".join(one[max(0, a - 4) : a])
            return f"after '{before}': '{' '.join(one[a:b])}' against '{' '.join(other[c:d])}'"
    return "in its spaces"


def _first_prompts(first: Any, second: Any) -> str:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for name in dict.fromkeys([*first, *second]):
            if first.get(name) != second.get(name):
                return f"of {name!r}: {first.get(name)} against {second.get(name)}"
    return f"{first} against {second}"


def _not_paired(metric: str, first: Measured, second: Measured) -> str:
    """Why a figure cannot be compared item by item; nothing where it can."""
    if metric not in first.figures or metric not in second.figures:
        return "only one run has it"
    if metric not in first.items or metric not in second.items:
        return "it is no mean over items, or its items are not there"
    if len(first.items[metric]) != len(second.items[metric]):
        return f"{len(first.items[metric])} items against {len(second.items[metric])}"
    groups = first.groups.get(metric), second.groups.get(metric)
    if not all(one is None for one in groups) and not np.array_equal(*groups):  # pyright: ignore[reportArgumentType]
        return "its items belong to other clips in the two runs"
    return ""


def _tested(benchmark: str, metric: str, first: Measured, second: Measured) -> dict[str, Any]:
    """The fields of a `Difference` but those that depend on the others."""
    differences = second.items[metric] - first.items[metric]
    groups = first.groups.get(metric, np.arange(len(differences)))
    sums = group_sums(differences, groups=groups)
    return {
        "benchmark": benchmark,
        "metric": metric,
        "unit": first.figures[metric].unit,
        "first": first.figures[metric].value,
        "second": second.figures[metric].value,
        "interval": bootstrap.interval(bootstrap.mean_of(differences), clusters=groups),
        "p_value": sign_flip(sums),
        "num_items": len(differences),
        "num_groups": len(sums),
    }


def _verdict(tested: Mapping[str, Any], adjusted: float) -> Verdict:
    if adjusted > LEVEL:
        return "not told apart"
    higher = tested["second"] > tested["first"]
    return "second is better" if higher != (tested["unit"] in LOW_IS_GOOD) else "first is better"
