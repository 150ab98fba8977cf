"""The plots of a report as figures of its page: each with a caption, a legend, and its numbers for those who listen."""

from collections.abc import Iterable, Sequence
from html import escape

from lapis.evaluation import plots
from lapis.evaluation.figure import shown
from lapis.evaluation.report_details import Bars, Detail, Diagram, Table
from lapis.evaluation.report_markdown import most_confused
from lapis.evaluation.report_views import Confusion, Languages, Radar, Recall

MANY_CLASSES = 40  # above, a table of confusions is a list


def radar(of: Radar) -> str:
    """By domain and task."""
    told = "; ".join(
        f"{one.name}: " + ", ".join(f"{place} {mark.value:.0%}" for place, mark in zip(of.places, one.marks) if mark)
        for one in of.series
    )
    drawn = plots.radar(of.places, series=of.series, title=f"Radar of main figures. {told}")
    caption = (
        "The mean of the main figure over as many benchmarks as stand in brackets, without lines as released and "
        "variants of a line. Areas mean nothing, rays do; a line breaks where nothing is known."
    )
    names = legend([one.name for one in of.series])
    return f"<figure><figcaption>{caption}</figcaption>{names}{drawn}</figure>"


def languages(of: Languages, *, names: Sequence[str]) -> str:
    """One benchmark in several languages; `names` are the runs'."""
    hollow = any(mark and mark.hollow for one in of.series for mark in one.marks)
    note = " Pale bars: a language that was never given to training." if hollow else ""
    told = "; ".join(
        f"{one.name}: "
        + ", ".join(f"{place} {shown(mark.value, of.unit)}" for place, mark in zip(of.languages, one.marks) if mark)
        for one in of.series
    )
    title = f"{of.metric} of {of.family} by language. {told}"
    drawn = plots.bars(of.languages, series=of.series, title=title, unit=of.unit)
    return (
        f"<figure><figcaption><b>{escape(of.family)}</b>{escape(of.metric)}, with intervals of 95 %.{note}</figcaption>"
        f"{legend(names) if len(names) > 1 else ''}{drawn}</figure>"
    )


def recall(of: Recall) -> str:
    """One direction of one benchmark."""
    name = f"{of.benchmark}{f', {of.direction}' if of.direction else ''}"
    told = "; ".join(
        f"{curve.name} " + ", ".join(f"{share:.0%} at {count:g}" for count, share in _few(curve.points))
        for curve in of.curves
    )
    drawn = plots.curves(of.curves, title=f"Recall of {name}: {told}", x_name="first k candidates")
    return f"<figure><figcaption><b>{escape(name)}</b></figcaption>{drawn}</figure>"


def _few(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Enough of a curve to be read aloud."""
    return [points[number] for number in sorted({0, len(points) // 2, len(points) - 1})]


def confusion(of: Confusion, *, unfolded: bool) -> str:
    """A table that is folded, or a list where there are many classes."""
    right = int(of.counts.diagonal().sum())
    name = f"{of.benchmark}, {of.run}: {right} of {int(of.counts.sum())} right"
    if len(of.classes) > MANY_CLASSES:
        found = [[true, other, f"{count} of {clips}"] for true, other, count, clips in most_confused(of)[:20]]
        inside = table(["class", "taken for", "clips"], found, caption="The twenty most frequent", numbers=False)
    else:
        inside = wide(_confusion_table(of), name=f"Confusion of {name}")
    return f"<details{' open' if unfolded else ''}><summary>{escape(name)}</summary>{inside}</details>"


def _confusion_table(of: Confusion) -> str:
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in of.classes)
    rows = []
    for true, name in enumerate(of.classes):
        counts = of.counts[true].tolist()
        total = max(sum(counts), 1)
        cells = "".join(_cell(count, share=count / total, right=true == other) for other, count in enumerate(counts))
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>')
    return (
        '<table class="confusion"><caption>Clips by their class (rows) and the class the model gave (columns)</caption>'
        f"<thead><tr><td></td>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    )


def _cell(count: int, *, share: float, right: bool) -> str:
    """Darker the larger its share of the class; what is right in another colour than what is wrong."""
    colour = f"color-mix(in srgb, var(--s{0 if right else 1}) {55 * share:.0f}%, transparent)"
    return f'<td{css_class("right" if right else "")} style="background: {colour}">{count or ""}</td>'


def detail(of: Detail, *, names: Sequence[str]) -> str:
    """What a single protocol tells beyond its figures."""
    charts = "".join(_diagram(one) if isinstance(one, Diagram) else _bars(one, of, names) for one in of.charts)
    return f"<h3>{escape(of.benchmark)}</h3>{charts}{''.join(map(_detail_table, of.tables))}"


def _detail_table(of: Table) -> str:
    drawn = table(of.header, of.rows, caption=of.caption, numbers=False)
    return f"<details><summary>{escape(of.caption)}</summary>{drawn}</details>" if of.folded else drawn


def _diagram(of: Diagram) -> str:
    told = "; ".join(
        f"{curve.name}: " + ", ".join(f"{said:.2%} said and {true:.2%} true" for said, true in _few(curve.points))
        for curve in of.curves
    )
    drawn = plots.reliability(of.curves, title=f"Reliability diagram. {told}")
    names = legend([curve.name for curve in of.curves])
    caption = "Bins of about as many pairs each; above the dashed line more came true than was said."
    return f"<figure><figcaption>{caption}</figcaption>{names}{drawn}</figure>"


def _bars(of: Bars, detail: Detail, names: Sequence[str]) -> str:
    told = "; ".join(
        f"{one.name}: "
        + ", ".join(f"{place} {shown(mark.value, of.unit)}" for place, mark in zip(of.places, one.marks) if mark)
        for one in of.series
    )
    title = f"{of.name} of {detail.benchmark} by disturbance. {told}"
    drawn = plots.bars(of.places, series=of.series, title=title, unit=of.unit)
    caption = f"<figcaption><b>{escape(of.name)}</b>with intervals of 95 %</figcaption>"
    return f"<figure>{caption}{legend(names) if len(names) > 1 else ''}{drawn}</figure>"


def legend(names: Sequence[str]) -> str:
    """Colour and dash of each series, in the order in which plots draw them."""
    items = []
    for number, name in enumerate(names):
        kind = "chance" if name == "chance" else f"s{number % 6} line"
        dash = plots.DASHES[number % len(plots.DASHES)] if name != "chance" else ""
        drawn = f' stroke-dasharray="{dash}"' if dash else ""
        items.append(f'<li><svg aria-hidden="true"><path class="{kind}"{drawn} d="M0 6H26"/></svg>{escape(name)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str, numbers: bool) -> str:
    """The first cell of a row is its header."""
    heads = "".join(f'<th scope="col">{escape(name)}</th>' if name else "<td></td>" for name in header)
    kind = css_class("one-line" if numbers else "break")
    lines = "".join(
        f'<tr><th scope="row"{kind}>{escape(row[0])}</th>'
        + "".join(f"<td{kind}>{escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    whole = f"<table><caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"
    return wide(whole, name=caption)


def wide(table: str, *, name: str) -> str:
    """Scrolls by itself on a narrow screen, with the keyboard too."""
    return f'<div class="wide" role="region" tabindex="0" aria-label="{escape(name)}">{table}</div>'


def css_class(name: str) -> str:
    """The attribute, or nothing."""
    return f' class="{name}"' if name else ""
