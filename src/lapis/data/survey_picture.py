"""A survey as one picture: durations, levels, words, languages and classes."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lapis.data.surveyed import Survey
from lapis.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BARS = 20
FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "WenQuanYi Zen Hei",
    "Noto Sans Devanagari",
)
"""Taken where they are installed for letters that matplotlib's own font lacks; else those are drawn as boxes."""


def draw_survey(survey: Survey, *, path: Path, title: str) -> None:
    """Draw into a PNG file.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib import font_manager
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("the picture needs an extra: pip install 'lapis-audio[train]'") from error
    installed = set(font_manager.get_font_names())
    with matplotlib.rc_context({"font.family": ["DejaVu Sans", *(font for font in FONTS if font in installed)]}):
        figure = Figure(figsize=(14, 8), layout="constrained")
        FigureCanvasAgg(figure)
        _fill(figure, survey, title=title)
        with atomic_write(path) as file, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # One for each letter; the boxes can be seen.
            figure.savefig(file, format="png", dpi=100)


def _fill(figure: "Figure", survey: Survey, *, title: str) -> None:
    axes = figure.subplots(2, 3).flat
    for name, unit, panel in (
        ("durations", "seconds (the last bar: and above)", axes[0]),
        ("levels", "decibels to full scale (RMS; the last bar: and above)", axes[1]),
        ("caption characters", "characters (the last bar: and above)", axes[2]),
    ):
        _steps(panel, survey.histograms.get(name), title=name, unit=unit)
    spoken = "clips by spoken language" if survey.spoken_languages else "clips by domain"
    _bars(axes[3], survey.caption_languages, title="clips by language of captions")
    _bars(axes[4], survey.spoken_languages or survey.domains, title=spoken)
    _bars(axes[5], survey.labels, title="clips by class")
    figure.suptitle(_drawable(f"{title}: {survey.clips:,} clips, {survey.hours:,.2f} h"))


def _steps(axes: "Axes", histogram: Mapping[str, list[float]] | None, *, title: str, unit: str) -> None:
    axes.set(title=title, xlabel=unit, ylabel="clips" if title != "caption characters" else "captions")
    if histogram:
        axes.stairs(np.array(histogram["counts"]), np.array(histogram["edges"]), fill=True)
    else:
        _say_unknown(axes)


def _say_unknown(axes: "Axes") -> None:
    axes.text(0.5, 0.5, "not known", ha="center", transform=axes.transAxes)


def _bars(axes: "Axes", counts: Mapping[str, int], *, title: str) -> None:
    shown = dict(list(counts.items())[:BARS])
    axes.set(title=f"{title}: {BARS} of {len(counts):,}" if len(counts) > BARS else title)
    if not counts:
        _say_unknown(axes)
        return
    axes.barh(range(len(shown)), list(shown.values()))
    axes.set_yticks(range(len(shown)), [_drawable(name[:24]) for name in shown], fontsize="small")
    axes.invert_yaxis()


def _drawable(text: str) -> str:
    """As matplotlib takes it: a dollar sign would begin a formula, and a byte that is no UTF-8 is no letter."""
    return text.encode(errors="backslashreplace").decode().replace("$", r"\$")
