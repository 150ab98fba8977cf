"""Figures that others have published, each with its source, its protocol and how sure it is; none was measured here.

They lie in `published.csv` as they were printed, and the benchmarks they are of in `published_benchmarks.csv`. Where
sources differ on the same thing all of them are kept: `conflicts` finds them.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Literal

from lapis.values import nearest

Level = Literal["read", "second-hand", "third party", "computed", "digitised", "memory"]
"""How a figure was come by: read where its authors wrote it; read where somebody tells of it; measured by somebody
else; made from published results; read off a plot; or remembered and not checked."""

Direction = Literal["text to audio", "audio to text", "text to text", ""]


@dataclass(frozen=True)
class Mark:
    """How sure the figures are that have it."""

    level: Level
    meaning: str


MARKS: Mapping[str, Mark] = {
    "glap:D": Mark("second-hand", "a machine-written digest of the paper; the paper itself could not be read"),
    "glap:P": Mark("read", "a number printed on a picture in the authors' repository"),
    "glap:P~": Mark("digitised", "a polygon of that picture, read off to about 0.5"),
    "slap:D": Mark("second-hand", "a machine-written digest of the paper; the paper itself could not be read"),
    "slap:W": Mark("second-hand", "a leaderboard that was extracted from the paper by machine"),
    "slap:own": Mark("second-hand", "cited beside SLAP's figures from the papers and repositories of the models"),
    "m2d_clap:T24": Mark("read", "pictures of the 2024 paper's tables in the authors' repository"),
    "m2d_clap:TX": Mark("read", "pictures of the M2D-X paper's tables in the authors' repository"),
    "m2d_clap:T24+TX": Mark(
        "read", "the tables of both papers put together: which of the two has a figure is not noted"
    ),
    "m2d_clap:P": Mark("read", "the abstract"),
    "m2d_clap:R26": Mark("read", "the authors' repository of February 2026"),
    "m2d_clap:K": Mark("second-hand", "a note that sums up the first version of the paper"),
    "m2d_clap:W": Mark("second-hand", "a leaderboard that was extracted from the paper by machine"),
    "m2d_clap:3P": Mark("third party", "measured or tabulated by people who are not the model's authors"),
    "peers:R": Mark("read", "the repository, model card or package itself"),
    "peers:D": Mark("second-hand", "a digest or an aggregator that quotes the paper's table"),
    "peers:M": Mark("computed", "computed from MTEB's public results of 2026-08-20"),
    "peers:mem": Mark("memory", "from memory, not checked"),
}

METRICS = (
    "accuracy",
    "top-5 accuracy",
    "mAP",
    "R@1",
    "R@5",
    "R@10",
    "HNSR@10",
    "CIDEr",
    "SPICE",
    "SPIDEr",
    "FENSE",
    "AUROC",
    "R1@0.5",
    "R1@0.7",
    "main score",
    "mean score",
)
UNBOUNDED = ("CIDEr", "SPIDEr")
"""May lie above 100: CIDEr-D ends at 1,000."""
LANGUAGE = re.compile(r"-[a-z]{3}_[A-Z][a-z]{3}$")


@dataclass(frozen=True)
class Known:
    """A benchmark that has a stable name. A language other than English stands behind it: `esc50-zeroshot-deu_Latn`."""

    name: str
    dataset: str
    """The module in `lapis.datasets`, or empty where there is none."""
    task: str
    about: str


@dataclass(frozen=True)
class Published:
    """One figure, in [0, 1] where the source has percent (CIDEr and its like: divided by 100 too)."""

    benchmark: str
    model: str
    """The family; which of its models is told by `checkpoint`."""
    checkpoint: str
    split: str
    """Empty where the source does not say."""
    setting: str
    """`zero-shot`, `linear`, `fine-tuned`, or empty where the source does not say."""
    metric: str
    direction: Direction
    value: float
    printed: str
    """As the source has it, in percent."""
    interval: float | None
    """Half of the 95 % confidence interval."""
    seen: bool
    """Whether the source says that the task's own training data was in the model's training."""
    source: str
    mark: str
    """A key of `MARKS`."""
    protocol: str

    @property
    def level(self) -> Level:
        """How the figure was come by."""
        return MARKS[self.mark].level


@cache
def benchmarks() -> Mapping[str, Known]:
    """Every benchmark by its name, those of other languages under the name without the language."""
    return {row["name"]: Known(**row) for row in _rows("published_benchmarks.csv")}


@cache
def figures() -> tuple[Published, ...]:
    """Every figure.

    Raises:
        ValueError: a row lacks its source, its protocol or another field, or holds what is not known.
    """
    return tuple(_figure(row, line=line) for line, row in enumerate(_rows("published.csv"), start=2))


def published(
    *,
    benchmark: str | None = None,
    metric: str | None = None,
    model: str | None = None,
    direction: Direction | None = None,
) -> tuple[Published, ...]:
    """The figures of a benchmark, metric, model or direction, in the order of the table; empty where there are none.

    Raises:
        ValueError: there is no such benchmark, metric or model.
    """
    if benchmark is not None:
        check_benchmark(benchmark)
    if metric is not None and metric not in METRICS:
        raise ValueError(f"no metric {metric!r}{nearest(metric, METRICS)}; there are {', '.join(METRICS)}")
    models = sorted({figure.model for figure in figures()})
    if model is not None and model not in models:
        raise ValueError(f"no figure of a model {model!r}{nearest(model, models)}")
    return tuple(
        figure
        for figure in figures()
        if benchmark in (None, figure.benchmark)
        and metric in (None, figure.metric)
        and model in (None, figure.model)
        and direction in (None, figure.direction)
    )


def check_benchmark(name: str) -> Known:
    """The benchmark of a name, with or without a language behind it.

    Raises:
        ValueError: there is none.
    """
    base = LANGUAGE.sub("", name)
    if base not in benchmarks():
        raise ValueError(f"no benchmark {name!r}{nearest(base, list(benchmarks()))}")
    return benchmarks()[base]


def conflicts(of: Sequence[Published] | None = None) -> tuple[tuple[Published, ...], ...]:
    """Figures that should be one: same benchmark, split, setting, checkpoint, metric and direction, other value.

    Values that are the same once rounded to the digits of the shortest are no conflict.
    """
    groups: dict[tuple[str, ...], list[Published]] = {}
    for figure in figures() if of is None else of:
        key = (figure.benchmark, figure.model, figure.checkpoint, figure.split, figure.setting)
        groups.setdefault((*key, figure.metric, figure.direction), []).append(figure)
    return tuple(tuple(group) for group in groups.values() if _differ(group))


def _differ(group: Sequence[Published]) -> bool:
    digits = min(len(figure.printed.partition(".")[2]) for figure in group)
    return len({round(Decimal(figure.printed), digits) for figure in group}) > 1


def _figure(row: Mapping[str, str], *, line: int) -> Published:
    where = f"published.csv, line {line}"
    for field in ("benchmark", "model", "metric", "value", "mark", "source", "protocol"):
        if not row[field].strip():
            raise ValueError(f"{where}: expected a {field}, there is none")
    check_benchmark(row["benchmark"])
    if row["mark"] not in MARKS:
        raise ValueError(f"{where}: no mark {row['mark']!r}{nearest(row['mark'], list(MARKS))}")
    if row["metric"] not in METRICS:
        raise ValueError(f"{where}: no metric {row['metric']!r}{nearest(row['metric'], METRICS)}")
    return Published(
        **{name: row[name] for name in ("benchmark", "model", "checkpoint", "split", "setting", "metric")},
        direction=row["direction"],  # pyright: ignore[reportArgumentType] -- a test looks at every one
        value=_fraction(row["value"], where=where, bounded=row["metric"] not in UNBOUNDED),
        printed=row["value"],
        interval=_fraction(row["interval"], where=where) if row["interval"] else None,
        seen=row["seen"] == "yes",
        **{name: row[name] for name in ("source", "mark", "protocol")},
    )


def _fraction(percent: str, *, where: str, bounded: bool = True) -> float:
    try:
        value = float(percent)
    except ValueError as error:
        raise ValueError(f"{where}: expected a number in percent, got {percent!r}") from error
    if not 0 <= value <= (100 if bounded else float("inf")):
        raise ValueError(f"{where}: expected percent within 0 to 100, got {percent}")
    return round(value / 100, 6)


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files("lapis.evaluation").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
