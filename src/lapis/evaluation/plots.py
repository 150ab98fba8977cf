"""Plots as SVG that stands within a page: sharp at any size, coloured by the page's variables and so light and dark
alike, each mark telling its number, each plot its sentence. No library draws them, so a report needs no extra.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from lapis.evaluation.figure import Unit, shown

Number = int | float  # of an SVG coordinate
DASHES = ("", "6 3", "2 3", "8 3 2 3")


@dataclass(frozen=True)
class Mark:
    """A number, and its interval where it has one."""

    value: float
    interval: tuple[float, float] | None = None
    hollow: bool = False
    """Drawn as an outline: a language that training has not heard, say."""


@dataclass(frozen=True)
class Series:
    """What one model has at each place; None where it was not measured."""

    name: str
    marks: Sequence[Mark | None]


def bars(places: Sequence[str], *, series: Sequence[Series], title: str, unit: Unit = "share") -> str:
    """Horizontal bars, a band a place with a bar each series, and the interval as a whisker; below zero to the left."""
    thick, gap, left, width = 13, 9, 12 + 7 * max(map(len, places)), 900
    band = thick * len(series) + gap
    height, right = band * len(places) + 30, width - 118
    edges = [edge for one in series for mark in one.marks if mark for edge in _edges(mark)]
    top = _ceiling(edges, unit)
    ticks = _ticks(top)
    below = math.ceil(max(0.0, -min(edges, default=0.0)) / ticks[1] - 1e-9)
    ticks = [-ticks[1] * step for step in range(below, 0, -1)] + ticks

    def across(value: float) -> float:
        return left + (right - left) * min(max((value - ticks[0]) / (top - ticks[0]), 0.0), 1.0)

    zero = across(0.0)
    parts = _grid_down([(across(tick), shown_short(tick, unit)) for tick in ticks], bottom=height - 22)
    for row, place in enumerate(places):
        middle = row * band + (band - gap) / 2 + 4
        parts.append(_text(left - 8, middle + 4, place, anchor="end"))
        for number, one in enumerate(series):
            mark = one.marks[row]
            if mark is None:
                continue
            y, end = row * band + number * thick + 4, across(mark.value)
            told = f"{place}, {one.name}: {_told(mark, unit)}"
            kind = f"s{number % 6}" + (" hollow" if mark.hollow else "")
            parts.append(
                f'<rect class="{kind}" x="{min(zero, end):.1f}" y="{y}" width="{max(abs(end - zero), 1):.1f}" '
                f'height="{thick - 2}" rx="2">'
                f"<title>{escape(told)}</title></rect>"
            )
            if mark.interval:
                low, high = (across(edge) for edge in mark.interval)
                parts.append(f'<path class="whisker" d="M{low:.1f} {y + thick / 2 - 1}H{high:.1f}"/>')
                end = max(end, high)
            parts.append(_text(max(end, zero) + 6, y + thick - 3, shown(mark.value, unit), kind="number"))
    return _svg(parts, width=width, height=height, title=title)


def radar(places: Sequence[str], *, series: Sequence[Series], title: str) -> str:
    """Shares in [0, 1] on rays, a polygon each series; one that is named chance is thin and dashed.

    A polygon breaks at a place without a mark.
    """
    radius, width, height = 150, 700, 390
    x, y = width / 2, height / 2
    angles = [2 * math.pi * number / len(places) - math.pi / 2 for number in range(len(places))]

    top = _ceiling([mark.value for one in series for mark in one.marks if mark], "share")

    def at(angle: float, share: float) -> str:
        reach = radius * share / top
        return f"{x + reach * math.cos(angle):.1f},{y + reach * math.sin(angle):.1f}"

    parts = []
    for tick in _ticks(top)[1:]:
        parts.append(f'<polygon class="grid" points="{" ".join(at(angle, tick) for angle in angles)}"/>')
        parts.append(_text(x + 4, y - radius * tick / top - 3, f"{tick:.0%}", kind="small"))
    for angle, place in zip(angles, places):
        parts.append(f'<path class="grid" d="M{x} {y}L{at(angle, top)}"/>')
        side = "middle" if abs(math.cos(angle)) < 0.2 else "start" if math.cos(angle) > 0 else "end"
        down = 4 + (10 if math.sin(angle) > 0.5 else -6 if math.sin(angle) < -0.5 else 0)
        parts.append(
            _text(x + (radius + 14) * math.cos(angle), y + (radius + 14) * math.sin(angle) + down, place, anchor=side)
        )
    for number, one in enumerate(series):
        shares = [min(max(mark.value, 0.0), 1.0) if mark else None for mark in one.marks]
        dash = "" if one.name == "chance" else _dash(number)
        if None not in shares:
            kind = "chance" if one.name == "chance" else f"s{number % 6} area"
            points = " ".join(at(angle, share) for angle, share in zip(angles, shares) if share is not None)
            parts.append(f'<polygon class="{kind}"{dash} points="{points}"/>')
        else:
            kind = "chance" if one.name == "chance" else f"s{number % 6} line"
            around = list(zip(angles, shares))
            for (angle, share), (after, other) in pairwise([*around, around[0]]):
                if share is not None and other is not None:
                    parts.append(f'<path class="{kind}"{dash} d="M{at(angle, share)}L{at(after, other)}"/>')
        for angle, share, place in zip(angles, shares, places) if one.name != "chance" else ():
            if share is None:
                continue
            cx, cy = at(angle, share).split(",")
            parts.append(
                f'<circle class="s{number % 6}" cx="{cx}" cy="{cy}" r="3.5">'
                f"<title>{escape(f'{place}, {one.name}: {share:.1%}')}</title></circle>"
            )
    return _svg(parts, width=width, height=height, title=title)


@dataclass(frozen=True)
class Curve:
    """Points from left to right."""

    name: str
    points: Sequence[tuple[float, float]]


def curves(of: Sequence[Curve], *, title: str, x_name: str) -> str:
    """Shares in [0, 1] over counts from 1 on a logarithmic axis; a curve named chance is thin and dashed."""
    left, right, top, bottom, width, height = 44, 328, 10, 178, 340, 220
    last = max(2.0, *(point[0] for one in of for point in one.points))

    def place(count: float, share: float) -> str:
        return f"{left + (right - left) * math.log(count) / math.log(last):.1f} {bottom - (bottom - top) * share:.1f}"

    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        level = bottom - (bottom - top) * share
        parts += [
            f'<path class="grid" d="M{left} {level:.1f}H{right}"/>',
            _text(left - 6, level + 4, f"{share:.0%}", anchor="end", kind="small"),
        ]
    for tick in (step * 10**power for power in range(7) for step in (1, 2, 5)):
        if tick <= last:
            parts.append(
                _text(
                    float(place(float(tick), 0.0).split()[0]), bottom + 15, f"{tick:,}", anchor="middle", kind="small"
                )
            )
    parts.append(_text((left + right) / 2, height - 8, x_name, anchor="middle", kind="small"))
    for number, one in enumerate(of):
        kind, dash = ("chance", "") if one.name == "chance" else (f"s{number % 6} line", _dash(number))
        path = "L".join(place(*point) for point in one.points)
        parts.append(f'<path class="{kind}"{dash} d="M{path}"><title>{escape(one.name)}</title></path>')
        few = one.points if len(one.points) <= 12 and one.name != "chance" else ()
        for count, share in few:
            cx, cy = place(count, share).split()
            told = f"{one.name}, {x_name} {count:g}: {share:.1%}"
            parts.append(
                f'<circle class="s{number % 6}" cx="{cx}" cy="{cy}" r="3"><title>{escape(told)}</title></circle>'
            )
    return _svg(parts, width=width, height=height, title=title)


def reliability(of: Sequence[Curve], *, title: str) -> str:
    """What was said and what came true, both on logarithmic axes: most pairs are improbable. Rings: none came true."""
    left, right, top, bottom, width, height = 62, 402, 10, 350, 420, 396
    least = min((edge for one in of for point in one.points for edge in point if edge > 0), default=0.1)
    powers = min(5, max(1, math.ceil(-math.log10(least) - 1e-9)))

    def along(share: float) -> float:
        return 1 - min(-math.log10(max(share, 1e-12)) / powers, 1.0)

    def place(said: float, true: float) -> tuple[float, float]:
        return left + (right - left) * along(said), bottom - (bottom - top) * along(true)

    parts = []
    for power in range(powers + 1):
        tick = 10.0**-power
        x, y = place(tick, tick)
        parts += [
            f'<path class="grid" d="M{left} {y:.1f}H{right}M{x:.1f} {top}V{bottom}"/>',
            _text(left - 6, y + 4, f"{100 * tick:g}%", anchor="end", kind="small"),
            _text(x, bottom + 15, f"{100 * tick:g}%", anchor="middle", kind="small"),
        ]
    parts.append(f'<path class="chance" d="M{left} {bottom}L{right} {top}"><title>as it was said</title></path>')
    parts.append(_text((left + right) / 2, height - 10, "probability said", anchor="middle", kind="small"))
    parts.append(_text(left + 6, top + 12, "share that came true", kind="small"))
    for number, one in enumerate(of):
        line = "L".join("{:.1f} {:.1f}".format(*place(*point)) for point in one.points)
        parts.append(f'<path class="s{number % 6} line"{_dash(number)} d="M{line}"/>')
        for said, true in one.points:
            x, y = place(said, true)
            told = f"{one.name}: of pairs called {said:.2%} probable {true:.2%} came true"
            kind = f"s{number % 6}" if true > 0 else "hollow"
            parts.append(
                f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{escape(told)}</title></circle>'
            )
    return _svg(parts, width=width, height=height, title=title)


@dataclass(frozen=True)
class Span:
    """A difference, between which values it may lie, and on whose side it really is: 0, 1, or None."""

    name: str
    value: float
    interval: tuple[float, float] | None
    side: int | None
    told: str


def spans(of: Sequence[Span], *, title: str, below: str, above: str) -> str:
    """Differences of shares, in points, with their intervals; those that are not told apart from zero are rings."""
    left, width, band = 12 + 7 * max(len(one.name) for one in of), 860, 20
    right, height = width - 26, band * len(of) + 54
    reach = max(1e-9, *(abs(edge) for one in of for edge in (*(one.interval or ()), one.value))) * 1.08

    def across(value: float) -> float:
        return left + (right - left) * (value / reach + 1) / 2

    zero = across(0.0)
    step = next(step for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if reach <= 4 * step)
    ticks = [number * step for number in range(-4, 5) if abs(number * step) <= reach]
    names = [f"{100 * tick:+g}" if tick else "0" for tick in ticks]
    parts = _grid_down([(across(tick), name) for tick, name in zip(ticks, names)], bottom=height - 20, top=24)
    parts.append(f'<path class="zero" d="M{zero:.1f} 24V{height - 20}"/>')
    parts += [
        _text(zero - 10, 14, f"← {below}", anchor="end", kind="small"),
        _text(zero + 10, 14, f"{above} →", kind="small"),
    ]
    for row, one in enumerate(of):
        y = 36 + row * band
        parts.append(_text(left - 8, y + 4, one.name, anchor="end"))
        kind = "hollow" if one.side is None else f"s{one.side}"
        if one.interval:
            low, high = (across(edge) for edge in one.interval)
            parts.append(f'<path class="whisker" d="M{low:.1f} {y}H{high:.1f}"/>')
        told = f"<title>{escape(one.told)}</title>"
        parts.append(f'<circle class="{kind}" cx="{across(one.value):.1f}" cy="{y}" r="5">{told}</circle>')
    return _svg(parts, width=width, height=height, title=title)


def shown_short(value: float, unit: Unit) -> str:
    """A number of an axis."""
    return f"{value:.0%}" if unit in ("share", "lost share") else f"{value:g}"


def _svg(parts: Sequence[str], *, width: Number, height: Number, title: str) -> str:
    inside = "\n".join(parts)
    return (
        f'<svg class="plot" role="img" aria-label="{escape(title)}" viewBox="0 0 {width} {height:.0f}" '
        f'style="max-width:{width}px;min-width:{560 if width > 560 else 240}px">\n{inside}\n</svg>'
    )


def _text(x: Number, y: Number, words: str, *, anchor: str = "start", kind: str = "") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<text{name} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _dash(number: int) -> str:
    """Another dash each series: colour alone tells nothing apart for some eyes."""
    pattern = DASHES[number % len(DASHES)]
    return f' stroke-dasharray="{pattern}"' if pattern else ""


def _edges(mark: Mark) -> tuple[float, ...]:
    return (mark.value, *(mark.interval or ()))


def _told(mark: Mark, unit: Unit) -> str:
    if mark.interval is None:
        return shown(mark.value, unit)
    return f"{shown(mark.value, unit)} ({' to '.join(shown(edge, unit) for edge in mark.interval)})"


def _ceiling(values: Sequence[float], unit: Unit) -> float:
    """Where an axis ends: all of it for shares that come near, else the next round number."""
    highest = max(values, default=1.0)
    if unit in ("share", "lost share") and highest > 0.5:
        return 1.0
    if highest <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(highest))
    return next(step * size for step in (1, 2, 2.5, 5, 10) if step * size >= highest)


def _ticks(top: float) -> list[float]:
    """Four or five steps, whichever are round."""
    steps = 5 if f"{top:.1e}".startswith(("5", "2.5")) else 4
    return [top * step / steps for step in range(steps + 1)]


def _grid_down(ticks: Sequence[tuple[Number, str]], *, bottom: Number, top: Number = 0) -> list[str]:
    lines = [f'<path class="grid" d="M{x:.1f} {top}V{bottom}"/>' for x, _ in ticks]
    return lines + [_text(x, bottom + 15, words, anchor="middle", kind="small") for x, words in ticks]
