"""A report as Markdown: its tables and sentences, and lists where the page has plots."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lapis.evaluation.compare import rows as compared_rows
from lapis.evaluation.figure import Figure, shown
from lapis.evaluation.published import MARKS, Published
from lapis.evaluation.report import Report
from lapis.evaluation.report_details import Detail
from lapis.evaluation.report_sections import Row, Section
from lapis.evaluation.report_views import Confusion
from lapis.evaluation.results import Measured, RunResults

SEEN = "†: the model was trained on training clips of the same corpus."
OTHER_CLIPS = "the runs measured other clips"


class Sources:
    """Numbers the sources of published figures as they are first named."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}

    def number(self, figure: Published) -> int:
        """Of the source, as it was come by, on which clips, with its note on the protocol."""
        mark = MARKS[figure.mark]
        of = f"split {figure.split}" if figure.split else "the split is not named"
        how = ", ".join([of, *([figure.setting] if figure.setting else [])])
        key = (figure.source, f"{mark.level}: {mark.meaning}. Protocol: {how}; {figure.protocol}")
        return self._numbers.setdefault(key, len(self._numbers) + 1)

    def __iter__(self) -> Iterator[tuple[int, str, str]]:
        """Number, source, and how it was come by and measured."""
        return iter([(number, *key) for key, number in self._numbers.items()])


def markdown(report: Report) -> str:
    """The whole report."""
    sources = Sources()
    parts = [f"# {title(report)}\n"]
    parts.append(_table(["", *report.names], [[name, *values] for name, values in about(report.runs)]))
    parts.append(
        "Figures with 95 % intervals; the prompts and protocols stand below, published figures with their source. "
        f"{SEEN}\n"
    )
    for heading, sections in split(report.sections):
        parts.append(f"## {heading}\n")
        header = ["benchmark", "metric", *report.names, "chance", "published"]
        parts.append(
            _table(
                header,
                [
                    [
                        section.benchmark + ("" if section.same_clips else f" ({OTHER_CLIPS})"),
                        row.metric,
                        *map(with_interval, row.figures),
                        chance(row),
                        _published(row, sources),
                    ]
                    for section in sections
                    for row in section.rows
                ],
            )
        )
    if report.radar:
        parts.append(
            "## By domain and task\n\nThe mean of the main figure of so many benchmarks, without lines as released and "
            "variants of a line.\n"
        )
        columns = [[f"{mark.value:.1%}" if mark else "" for mark in one.marks] for one in report.radar.series]
        parts.append(_table(["", *(one.name for one in report.radar.series)], [*zip(report.radar.places, *columns)]))
    parts += [_confused(report)] if report.confusions else []
    parts += [_detail(one) for one in report.details]
    for comparison in report.comparisons:
        parts.append("## Differences\n")
        if isinstance(comparison, str):
            parts.append(f"Not compared: {_cell(comparison)}.\n")
            continue
        parts.append(comparison.sentence + "\n")
        compared = compared_rows(comparison)
        parts.append(_table(list(compared[0]), [list(row.values()) for row in compared]))
        parts += [f"- not compared: {_cell(name)}: {_cell(reason)}\n" for name, reason in comparison.left_out.items()]
    parts.append("## Protocols and prompts\n")
    parts += [_protocol(section, report.names) for section in report.sections]
    if absent := missing(report.runs, names=report.names):
        parts.append("## Not measured\n")
        parts += [f"- {_cell(name)}: {_cell(reason)}\n" for name, reason in absent]
    if listed := list(sources):
        parts.append("## Sources of the published figures\n")
        parts += [f"{number}. {_cell(source)}: {_cell(how)}\n" for number, source, how in listed]
    return "\n".join(parts)


def title(report: Report) -> str:
    """What the report is of."""
    return "Evaluation of " + ", ".join(dict.fromkeys(report.names))


def split(sections: Sequence[Section]) -> list[tuple[str, list[Section]]]:
    """Languages that were never given to training stand by themselves."""
    parts = (
        ("Figures", [section for section in sections if not section.never_given]),
        ("Languages never given to training", [section for section in sections if section.never_given]),
    )
    return [(heading, part) for heading, part in parts if part]


def about(runs: Sequence[RunResults]) -> list[tuple[str, list[str]]]:
    """Rows on the runs: what they are of, and on what they ran."""
    rows = [
        ("model", [run.model for run in runs]),
        ("identity", [run.identity for run in runs]),
        ("suite", [run.suite for run in runs]),
        ("started", [run.started for run in runs]),
        ("took", ["" if run.seconds is None else f"{run.seconds:,.0f} s" for run in runs]),
    ]
    names = dict.fromkeys(name for run in runs for name in run.surroundings)
    return rows + [(name, [run.surroundings.get(name, "") for run in runs]) for name in names]


def missing(runs: Sequence[RunResults], *, names: Sequence[str]) -> list[tuple[str, str]]:
    """Benchmarks that a run has not, and why; with the run's name where others have it or another reason."""
    reasons: dict[str, dict[str, str]] = {}
    for name, run in zip(names, runs):
        for benchmark, reason in run.absent.items():
            if benchmark not in run.benchmarks:
                reasons.setdefault(benchmark, {})[name] = reason
    told = []
    for benchmark, by_run in reasons.items():
        alike = len(by_run) == len(runs) and len(set(by_run.values())) == 1
        several = [(f"{benchmark}, {name}", reason) for name, reason in by_run.items()]
        told += [(benchmark, next(iter(by_run.values())))] if alike else several
    return told


def with_interval(figure: Figure | None) -> str:
    """A figure as people read it, or a dash where there is none."""
    if figure is None:
        return "–"
    if figure.interval is None:
        return str(figure)
    low, high = (shown(edge, figure.unit).removesuffix("%") for edge in figure.interval)
    return f"{figure} ({low} to {high})" if low.startswith("-") else f"{figure} ({low}–{high})"


def chance(row: Row) -> str:
    """What guessing gives."""
    figure = next(figure for figure in row.figures if figure is not None)
    return "" if figure.chance is None else shown(figure.chance, figure.unit)


def published_words(row: Row, sources: Sources) -> dict[str, list[int]]:
    """What others have, the highest first, with the numbers of the sources that say so; † as `SEEN` tells."""
    unit = next(figure for figure in row.figures if figure is not None).unit
    told: dict[str, list[int]] = {}
    for one in sorted(row.published, key=lambda one: -one.value):
        words = f"{one.model} {one.checkpoint}".strip() + f" {shown(one.value, unit)}{'†' if one.seen else ''}"
        numbers = told.setdefault(words, [])
        if (number := sources.number(one)) not in numbers:
            numbers.append(number)
    return told


def prompt_lines(prompts: Any) -> list[str]:
    """A line a class, or what there is."""
    if isinstance(prompts, Mapping):
        return [f"{name}: {_texts(texts)}" for name, texts in prompts.items()]
    return [_texts(prompts)]


def _texts(texts: Any) -> str:
    if isinstance(texts, list) and all(isinstance(text, str) for text in texts):
        return " · ".join(texts)
    return texts if isinstance(texts, str) else json.dumps(texts, ensure_ascii=False)


def _published(row: Row, sources: Sources) -> str:
    told = published_words(row, sources)
    return "; ".join(f"{words} [{', '.join(map(str, numbers))}]" for words, numbers in told.items())


def _confused(report: Report) -> str:
    lines = ["## Confusions\n", "The three most frequent of each.\n"]
    for confusion in report.confusions:
        told = [
            f"{true} taken for {other} ({count} of {of})" for true, other, count, of in most_confused(confusion)[:3]
        ]
        lines.append(f"- {_cell(confusion.benchmark)}, {_cell(confusion.run)}: {_cell('; '.join(told)) or 'none'}")
    return "\n".join(lines) + "\n"


def most_confused(confusion: Confusion) -> list[tuple[str, str, int, int]]:
    """True class, the class it was taken for, how many times, and how many clips the true class has."""
    counts, names = confusion.counts, confusion.classes
    found = [
        (names[true], names[other], int(counts[true, other]), int(counts[true].sum()))
        for true in range(len(names))
        for other in range(len(names))
        if true != other and counts[true, other]
    ]
    return sorted(found, key=lambda one: (-one[2], one[0], one[1]))


def _detail(detail: Detail) -> str:
    lines = [f"## {detail.kind}: {_cell(detail.benchmark)}\n"]
    for one in detail.tables:
        lines += [f"{_cell(one.caption)}:\n", _table(one.header, one.rows)]
    return "\n".join(lines)


def _protocol(section: Section, names: Sequence[str]) -> str:
    sentences = section.said(lambda one: one.protocol, names=names)
    lines = [f"### {section.benchmark}\n", *(f"{_cell(of_run(name) + said)}\n" for name, said in sentences)]
    for name, one in zip(names, section.measured):
        if one is None:
            continue
        told = [f"{one.num_clips} clips, data {one.data_checksum[:12]}"]
        told += [one.chosen.rstrip(".")] if one.chosen else []
        told += [f"seeds {', '.join(map(str, one.seeds))}"] if one.seeds else []
        told += [f"languages {', '.join(one.languages)}: training {one.languages_in_training}"] if one.languages else []
        told += [f"{len(one.unreadable)} unreadable: {'; '.join(one.unreadable[:5])}"] if one.unreadable else []
        lines.append(f"- {_cell(name)}: {_cell('; '.join(told))}")
    lines += [] if section.same_clips else [f"- {OTHER_CLIPS}"]
    lines += [f"- incomplete: {_cell(of_run(name) + why)}" for name, why in section.said(incomplete, names=names)]
    for name, prompts in section.said(lambda one: one.prompts, names=names):
        heading = f"Prompts of {_cell(name)}:" if name else "Prompts:"
        lines += ["", heading, "", *(f"- {_cell(line)}" for line in prompt_lines(prompts))]
    return "\n".join(lines) + "\n"


def of_run(name: str) -> str:
    """What begins a sentence of one run; nothing where it is of all."""
    return f"{name}: " if name else ""


def incomplete(measured: Measured) -> str:
    """Which clips of a benchmark that was measured were not there."""
    return str(measured.details.get("incomplete", ""))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines) + "\n"


def _cell(words: str) -> str:
    """Words that neither end a cell nor become tags."""
    return " ".join(words.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
