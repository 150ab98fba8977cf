"""A report as one HTML page that asks nothing of the network, runs no script and follows the reader's light or dark."""

from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

from lapis.evaluation import plots
from lapis.evaluation.compare import Comparison
from lapis.evaluation.compare import rows as compared_rows
from lapis.evaluation.plots import Span
from lapis.evaluation.report import Report
from lapis.evaluation.report_figures import confusion, css_class, detail, languages, legend, radar, recall, table, wide
from lapis.evaluation.report_markdown import (
    OTHER_CLIPS,
    SEEN,
    Sources,
    about,
    chance,
    incomplete,
    missing,
    of_run,
    prompt_lines,
    published_words,
    split,
    title,
    with_interval,
)
from lapis.evaluation.report_sections import Row, Section

MANY_PUBLISHED = 6  # above, they are folded
FIRST_ROWS = 5  # of what is told about runs; hardware and software come after them


def page(report: Report) -> str:
    """The whole page."""
    sources = Sources()
    chapters = [("Runs", _runs(report))]
    for heading, sections in split(report.sections):
        chapters.append((heading, _figures(sections, report.names, sources)))
    if report.radar:
        chapters.append(("By domain and task", radar(report.radar)))
    if report.languages:
        chapters.append(("By language", "".join(languages(one, names=report.names) for one in report.languages)))
    if report.recalls:
        grid = "".join(map(recall, report.recalls))
        chapters.append(("Recall", f'{legend([*report.names, "chance"])}<div class="many">{grid}</div>'))
    if report.confusions:
        tables = [confusion(one, unfolded=not number) for number, one in enumerate(report.confusions)]
        chapters.append(("Confusions", "".join(tables)))
    for kind in dict.fromkeys(one.kind for one in report.details):
        of_kind = [one for one in report.details if one.kind == kind]
        chapters.append((kind, "".join(detail(one, names=report.names) for one in of_kind)))
    if report.comparisons:
        chapters.append(("Differences", "".join(map(_comparison, report.comparisons))))
    chapters.append(("Protocols and prompts", "".join(_protocol(one, report.names) for one in report.sections)))
    if absent := missing(report.runs, names=report.names):
        rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(reason)}</dd>" for name, reason in absent)
        chapters.append(("Not measured", f'<dl class="break">{rows}</dl>'))
    if listed := list(sources):
        chapters.append(("Sources of the published figures", _sources(listed)))
    links = "".join(f'<li><a href="#{_anchor(heading)}">{escape(heading)}</a></li>' for heading, _ in chapters)
    body = "\n".join(_chapter(heading, content) for heading, content in chapters)
    style = resources.files("lapis.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{escape(title(report))}</title>
<style>
{style}</style>
</head>
<body>
<main>
<h1>{escape(title(report))}</h1>
<p class="soft">Intervals are of 95 %. Chance is what guessing gives. Published figures keep the protocols
of their sources, which are numbered; compare only where they agree. {SEEN}</p>
<nav aria-label="Contents"><ul>{links}</ul></nav>
{body}
</main>
</body>
</html>
"""


def _chapter(heading: str, content: str) -> str:
    name = _anchor(heading)
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(heading)}</h2>\n{content}\n</section>'


def _runs(report: Report) -> str:
    rows = [[name, *values] for name, values in about(report.runs)]
    first, rest = rows[:FIRST_ROWS], rows[FIRST_ROWS:]
    shown = table(["", *report.names], first, caption="What was measured", numbers=False)
    folded = table(["", *report.names], rest, caption="On what", numbers=False)
    return f"{shown}<details><summary>Hardware and software</summary>{folded}</details>" if rest else shown


def _figures(sections: Sequence[Section], names: Sequence[str], sources: Sources) -> str:
    others = any(row.published for section in sections for row in section.rows)
    header = ["metric", *names, "chance", *(["published"] if others else [])]
    left = ("metric", "published")
    heads = "".join(f'<th scope="col"{css_class("" if name in left else "n")}>{escape(name)}</th>' for name in header)
    bodies = "".join(
        f'<tbody><tr><th scope="rowgroup" colspan="{len(header)}">{escape(section.benchmark)}{_tags(section)}</th></tr>'
        + "".join(_figure_row(row, sources, others=others) for row in section.rows)
        + "</tbody>"
        for section in sections
    )
    return wide(f'<table class="figures"><thead><tr>{heads}</tr></thead>{bodies}</table>', name="Figures")


def _tags(section: Section) -> str:
    words = (
        list(section.any.languages) if len(section.any.languages) < 4 else [f"{len(section.any.languages)} languages"]
    )
    words = ([section.any.domain] if section.any.domain else []) + words
    measured = [one for one in section.measured if one is not None]
    words += ["not all clips readable"] if any(one.unreadable for one in measured) else []
    words += ["not all clips there"] if any(map(incomplete, measured)) else []
    words += [] if section.same_clips else [OTHER_CLIPS]
    return "".join(f'<span class="tag">{escape(word)}</span>' for word in words)


def _figure_row(row: Row, sources: Sources, *, others: bool) -> str:
    cells = []
    for figure in row.figures:
        value, _, interval = with_interval(figure).partition(" (")
        small = f"<small>{interval[:-1]}</small>" if interval else ""
        cells.append(f'<td class="n">{value}{small}</td>')
    cells.append(f'<td class="n">{chance(row)}</td>')
    cells += [f'<td class="published">{_published(row, sources)}</td>'] if others else []
    return f'<tr><th scope="row">{escape(row.metric)}</th>{"".join(cells)}</tr>'


def _published(row: Row, sources: Sources) -> str:
    told = published_words(row, sources)
    spans = "".join(f"<span>{escape(words)}<sup>{_links(numbers)}</sup></span> " for words, numbers in told.items())
    if len(told) <= MANY_PUBLISHED:
        return spans
    high, *_, low = (words.split()[-1] for words in told)
    return f"<details><summary>{len(told)} figures, {low} to {high}</summary>{spans}</details>"


def _links(numbers: Sequence[int]) -> str:
    return " ".join(f'<a href="#source-{one}" aria-label="source {one}">{one}</a>' for one in numbers)


def _comparison(of: Comparison | str) -> str:
    if isinstance(of, str):
        return f"<p>Not compared: {escape(of)}.</p>"
    compared = compared_rows(of)
    sides = {"first is better": 0, "second is better": 1, "not told apart": None}
    drawn = [
        Span(
            f"{one.benchmark} {one.metric}",
            one.value,
            one.interval,
            sides[one.verdict],
            f"{row['difference (95 %)']}, {row['verdict']}",
        )
        for one, row in zip(of.differences, compared)
        if one.unit == "share"
    ]
    plot = ""
    if drawn:
        counted = (
            f"Differences of {len(drawn)} shares between {of.first} and {of.second}; the table below has the numbers"
        )
        below, above = f"{of.first} higher", f"{of.second} higher"
        shares = plots.spans(drawn, title=counted, below=below, above=above)
        plot = f"<figure><figcaption>Rings are not told apart from zero.</figcaption>{shares}</figure>"
    left_out = "".join(f"<li>{escape(name)}: {escape(reason)}</li>" for name, reason in of.left_out.items())
    rest = (
        f"<details><summary>{len(of.left_out)} not compared</summary><ul>{left_out}</ul></details>" if left_out else ""
    )
    cells = [list(row.values()) for row in compared]
    numbers = table(list(compared[0]), cells, caption="Second minus first", numbers=True)
    return f"<h3>{escape(of.first)} and {escape(of.second)}</h3><p>{escape(of.sentence)}</p>{plot}{numbers}{rest}"


def _protocol(section: Section, names: Sequence[str]) -> str:
    sentences = section.said(lambda one: one.protocol, names=names)
    parts = [f"<p>{escape(of_run(name) + said)}</p>" for name, said in sentences]
    for name, one in zip(names, section.measured):
        if one is None:
            continue
        told = [f"{one.num_clips} clips, data {one.data_checksum[:12]}"]
        told += [one.chosen.rstrip(".")] if one.chosen else []
        told += [f"seeds {', '.join(map(str, one.seeds))}"] if one.seeds else []
        told += [f"languages {', '.join(one.languages)}: training {one.languages_in_training}"] if one.languages else []
        told += [f"{one.seconds:,.1f} s"] if one.seconds is not None else []
        told += [f"unreadable: {'; '.join(one.unreadable[:5])}"] if one.unreadable else []
        parts.append(f'<p class="soft break">{escape(name)}: {escape("; ".join(told))}</p>')
    parts += [] if section.same_clips else [f"<p>{OTHER_CLIPS.capitalize()}.</p>"]
    for name, why in section.said(incomplete, names=names):
        parts.append(f'<p class="break">Incomplete: {escape(of_run(name) + why)}</p>')
    for name, prompts in section.said(lambda one: one.prompts, names=names):
        lines = "".join(f"<li>{escape(line)}</li>" for line in prompt_lines(prompts))
        heading = f"Prompts of {escape(name)}" if name else "Prompts"
        parts.append(f'<p class="soft">{heading}</p><ul class="prompts">{lines}</ul>')
    return f"<details><summary>{escape(section.benchmark)}</summary>{''.join(parts)}</details>"


def _sources(listed: Iterable[tuple[int, str, str]]) -> str:
    rows = "".join(
        f'<li id="source-{number}">{escape(source)}<br><small>{escape(how)}</small></li>'
        for number, source, how in listed
    )
    return f'<ol class="break">{rows}</ol>'


def _anchor(heading: str) -> str:
    return heading.lower().replace(" ", "-")
