"""What the plots of a report show, worked out of its sections; each may be away where there is too little for it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lapis.evaluation.figure import Unit
from lapis.evaluation.plots import Curve, Mark, Series
from lapis.evaluation.published import LANGUAGE
from lapis.evaluation.report_sections import ENGLISH, Row, Section, language_of, parts_of, unversioned

TASKS = ("retrieval", "zeroshot", "kws", "linear", "neighbours", "few-shot", "finetune", "captioning", "localisation")
RECALL = re.compile(r"^R@(\d+)(.*)$")


@dataclass(frozen=True)
class Languages:
    """The main figure of one benchmark in several languages."""

    family: str
    metric: str
    unit: Unit
    languages: tuple[str, ...]
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Radar:
    """The mean main figure by domain and task; chance is its last series."""

    places: tuple[str, ...]
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Recall:
    """The share of queries answered within the first k, of one benchmark and direction."""

    benchmark: str
    direction: str
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Confusion:
    """Clips by true class (rows) and predicted class (columns) of one run."""

    benchmark: str
    run: str
    classes: tuple[str, ...]
    counts: np.ndarray


def _main(section: Section) -> Row:
    """The figure that a benchmark tells first."""
    return section.rows[0]


def _family(benchmark: str) -> tuple[str, str]:
    """A benchmark's name up to its task, and what stands behind that but a version; empty where it is a language."""
    parts = unversioned(benchmark).split("-")
    end = max((place for place, part in enumerate(parts, start=1) if part in TASKS), default=len(parts))
    behind = "-".join(parts[end:])
    return "-".join(parts[:end]), "" if behind and LANGUAGE.search(f"-{parts[end]}") else behind


def _honest(sections: Sequence[Section]) -> list[Section]:
    """Without lines that are too good, as released, and variants (other prompts, say) of a line that is there."""
    plain = {name for name, variant in (_family(section.benchmark) for section in sections) if not variant}
    families = [(section, *_family(section.benchmark)) for section in sections]
    return [
        section
        for section, name, variant in families
        if not variant or (variant != "as-released" and name not in plain)
    ]


def radar(sections: Sequence[Section], *, names: Sequence[str]) -> Radar | None:
    """Over benchmarks that all runs have, whose main figure is a share; None below three rays.

    A line as released, and the variant of a line that is there, are left out.
    """
    places: dict[str, list[Row]] = {}
    for section in _honest(sections):
        row = _main(section)
        if section.any.domain and all(figure is not None and figure.unit == "share" for figure in row.figures):
            task = next((task for task in TASKS if f"-{task}-" in section.benchmark), "other")
            places.setdefault(f"{section.any.domain}, {task}", []).append(row)
    if len(places) < 3:
        return None
    ordered = dict(sorted(places.items()))

    def mean(values: Sequence[float]) -> Mark:
        return Mark(float(np.mean(values)))

    series = [
        Series(name, [mean([row.figures[run].value for row in rows]) for rows in ordered.values()])  # pyright: ignore[reportOptionalMemberAccess]
        for run, name in enumerate(names)
    ]
    known = [[row.figures[0].chance for row in rows] for rows in ordered.values()]  # pyright: ignore[reportOptionalMemberAccess]
    chances = [[chance for chance in of if chance is not None] for of in known]
    if any(chances):  # where guessing gives nothing that is known, as in finding events, the ray has no mark
        series.append(Series("chance", [mean(of) if of else None for of in chances]))
    return Radar(tuple(f"{place} ({len(rows)})" for place, rows in ordered.items()), tuple(series))


def by_language(sections: Sequence[Section], *, names: Sequence[str]) -> tuple[Languages, ...]:
    """Benchmarks that exist in at least two languages, and metrics that one has for each of several languages."""
    families: dict[tuple[str, str], dict[str, tuple[Section, Row]]] = {}
    for section in sections:
        whole = unversioned(section.benchmark)
        family = LANGUAGE.sub("", whole) + section.benchmark.removeprefix(whole)
        members = families.setdefault((family, _main(section).metric), {})
        members[language_of(section) or ENGLISH] = section, _main(section)
        for row in section.rows:
            name, direction, language = parts_of(row.metric)
            if language:
                within = families.setdefault((section.benchmark, f"{name} {direction} by language"), {})
                within[language] = section, row
    return tuple(_languages(*name, of=of, names=names) for name, of in families.items() if len(of) > 1)


def _languages(family: str, metric: str, *, of: Mapping[str, tuple[Section, Row]], names: Sequence[str]) -> Languages:
    """The highest figure of the first run first."""
    ordered = sorted(of, key=lambda language: -getattr(of[language][1].figures[0], "value", -np.inf))
    series = tuple(Series(name, [_mark(*of[language], run) for language in ordered]) for run, name in enumerate(names))
    unit = next(figure for figure in of[ordered[0]][1].figures if figure is not None).unit
    return Languages(family, " ".join(metric.split()), unit, tuple(ordered), series)


def _mark(section: Section, row: Row, run: int) -> Mark | None:
    figure, measured = row.figures[run], section.measured[run]
    if figure is None or measured is None:
        return None
    return Mark(figure.value, figure.interval, hollow=measured.languages_in_training == "never given")


def recalls(section: Section, *, names: Sequence[str]) -> list[Recall]:
    """Whole curves where the items of a mean rank are there, else through the depths that were measured."""
    found: dict[str, list[Curve]] = {}
    chances: dict[str, list[tuple[float, float]]] = {}
    for name, measured in zip(names, section.measured):
        if measured is None:
            continue
        points: dict[str, list[tuple[float, float]]] = {}
        for metric, figure in measured.figures.items():
            if depth := RECALL.match(metric):
                points.setdefault(depth[2].strip(), []).append((float(depth[1]), figure.value))
                if figure.chance is not None:
                    chances.setdefault(depth[2].strip(), []).append((float(depth[1]), figure.chance))
        for direction, of in points.items():
            ranks = measured.items.get(f"mean rank {direction}".strip())
            found.setdefault(direction, []).append(Curve(name, sorted(of) if ranks is None else _whole(ranks)))
    return [
        Recall(
            section.benchmark,
            direction,
            (*of, *([Curve("chance", sorted(set(chances[direction])))] if direction in chances else [])),
        )
        for direction, of in found.items()
        if all(len(curve.points) > 1 for curve in of)
    ]


def _whole(ranks: np.ndarray) -> list[tuple[float, float]]:
    """Recall at depths to the worst rank or 1,000, as many as a plot can show."""
    last = int(min(max(ranks.max(), 10), 1000))
    depths = np.unique(np.geomspace(1, last, 60).round())
    return [(float(depth), float((ranks <= depth).mean())) for depth in depths]


def confusion(benchmark: str, *, run: str, details: Mapping[str, Any]) -> Confusion | None:
    """Of a result that has one."""
    counts, classes = np.asarray(details.get("confusion") or []), details.get("classes")
    if not counts.size or not classes or counts.shape != (len(classes), len(classes)):
        return None
    return Confusion(benchmark, run, tuple(map(str, classes)), counts)
