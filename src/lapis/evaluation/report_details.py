"""What the results of single protocols tell beyond their figures: reliability of probabilities, what disturbances do,
where events were found, and the captions that need reading. Tables for every reader, charts for the page.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lapis.evaluation.figure import Figure, Unit, shown
from lapis.evaluation.plots import Curve, Mark, Series
from lapis.evaluation.report_sections import Section

Kind = Literal["Reliability", "Disturbances", "Localisation", "Captions"]
DISTURBED = re.compile(r"^(cosine) after (.+)$|^(.+) lost by (.+)$")
ERRORS = ("ECE", "Brier score", "log loss")


@dataclass(frozen=True)
class Table:
    """Words in rows, whose first cell names the row."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    folded: bool = False
    """On a page: most readers need not see it."""


@dataclass(frozen=True)
class Bars:
    """A bar each run at each place."""

    name: str
    unit: Unit
    places: tuple[str, ...]
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Diagram:
    """The reliability diagram: of each run what was said of bins of pairs, and what share of them came true."""

    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Detail:
    """Of one benchmark."""

    kind: Kind
    benchmark: str
    tables: tuple[Table, ...]
    charts: tuple[Bars | Diagram, ...] = ()


def details(section: Section, *, names: Sequence[str]) -> list[Detail]:
    """What a benchmark has of them; `names` are the runs'."""
    told = [one.details if one is not None else {} for one in section.measured]
    found = (
        _reliability(section, told, names),
        _disturbances(section, names),
        _localisation(section, told, names),
        _captions(section, told, names),
    )
    return [detail for detail in found if detail is not None]


def _reliability(section: Section, told: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Detail | None:
    runs = [(name, of, one) for name, of, one in zip(names, told, section.measured) if one is not None and "bins" in of]
    if not runs:
        return None
    rows = []
    for name, of, one in runs:
        ways = {"its calibration": {metric: one.figures[metric].value for metric in ERRORS}} | of["baselines"]
        rows += [(f"{name}: {way}", *(f"{by[metric]:.4f}" for metric in ERRORS)) for way, by in ways.items()]
        rows.append((f"{name}: so many pairs where nothing is wrong", f"{of['error_if_perfect']:.4f}", "", ""))
    tables = [Table("Errors, beside those of other ways to say a probability", ("", *ERRORS), tuple(rows))]
    for name, of, _ in runs:
        points = tuple(
            (f"{point['probability']:.3%}", f"{point['matching']:.3%}", f"{point['count']:,}") for point in of["bins"]
        )
        caption = f"{name}: {of['num_matches']:,} of {of['num_texts']:,} captions times {of['num_clips']:,} clips match"
        tables.append(Table(caption, ("probability said", "share that came true", "pairs"), points, folded=True))
    curves = [Curve(name, [(point["probability"], point["matching"]) for point in of["bins"]]) for name, of, _ in runs]
    return Detail("Reliability", section.benchmark, tuple(tables), (Diagram(tuple(curves)),))


def _disturbances(section: Section, names: Sequence[str]) -> Detail | None:
    of: dict[str, dict[str, tuple[Figure | None, ...]]] = {}
    for row in section.rows:
        if found := DISTURBED.match(row.metric):
            measure = found[1] or f"{found[3]} lost"
            of.setdefault(measure, {})[found[2] or found[4]] = row.figures
    if "cosine" not in of:
        return None
    places = tuple(of["cosine"])
    header = ("after", *(f"{measure}, {name}" for measure in of for name in names))
    rows = [
        (place, *(str(figure or "–") for by_place in of.values() for figure in by_place.get(place, ())))
        for place in places
    ]
    charts = []
    for measure, by_place in of.items():
        marks = [[_mark(by_place[place][run]) for place in by_place] for run in range(len(names))]
        unit: Unit = next(figure.unit for figures in by_place.values() for figure in figures if figure is not None)
        series = tuple(Series(name, of_run) for name, of_run in zip(names, marks))
        charts.append(Bars(measure, unit, tuple(by_place), series))
    table = Table("Cosine with the clip as it is, and what the task loses", header, tuple(rows), folded=True)
    return Detail("Disturbances", section.benchmark, (table,), tuple(charts))


def _mark(figure: Figure | None) -> Mark | None:
    return None if figure is None else Mark(figure.value, figure.interval)


def _localisation(section: Section, told: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Detail | None:
    if not any("event_f1" in of for of in told):
        return None
    figures = [(row.metric, *(str(figure or "–") for figure in row.figures)) for row in section.rows]
    whole = Table("Means over classes", ("", *names), tuple(figures))
    measures = {"event_f1": "event F1", "segment_f1": "segment F1", "areas": "AUROC"}
    classes = dict.fromkeys(name for of in told for name in of.get("classes", ()))
    header = ("class", *(f"{word}, {name}" for word in measures.values() for name in names))
    rows = [(name, *(_share(of.get(measure, {}).get(name)) for measure in measures for of in told)) for name in classes]
    return Detail("Localisation", section.benchmark, (whole, Table("By class", header, tuple(rows), folded=True)))


def _share(value: float | None) -> str:
    return "–" if value is None else shown(value, "share")


def _captions(section: Section, told: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Detail | None:
    tables = [
        Table(
            f"{name}: the {len(of['worst'])} worst captions by CIDEr-D",
            ("clip", "said", "what people wrote", "CIDEr-D", "ROUGE-L"),
            tuple(
                (
                    clip["key"],
                    clip["caption"] or "(nothing)",
                    " · ".join(clip["references"]),
                    *(f"{clip['scores'][score]:.3f}" for score in ("cider_d", "rouge_l")),
                )
                for clip in of["worst"]
            ),
        )
        for name, of in zip(names, told)
        if "worst" in of
    ]
    return Detail("Captions", section.benchmark, tuple(tables)) if tables else None
