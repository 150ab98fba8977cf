"""A survey as one picture: durations, levels, words, languages and classes."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lapis.data.survey import Survey
from lapis.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BARS = 20


def draw_survey(survey: Survey, *, path: Path, title: str) -> None:
    """Draw into a PNG file.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("the picture needs an extra: pip install 'lapis-audio[train]'") from error
    figure = Figure(figsize=(14, 8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3).flat
    for name, unit, panel in (
        ("durations", "seconds", axes[0]),
        ("levels", "decibels to full scale (RMS)", axes[1]),
        ("caption characters", "characters", axes[2]),
    ):
        _steps(panel, survey.histograms.get(name), title=name, unit=unit)
    _bars(axes[3], survey.caption_languages, title="clips with captions in")
    _bars(axes[4], survey.spoken_languages or survey.domains, title="spoken" if survey.spoken_languages else "domains")
    _bars(axes[5], survey.labels, title=f"classes ({len(survey.labels):,})")
    figure.suptitle(f"{title}: {survey.clips:,} clips, {survey.hours:,.2f} h")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=100)


def _steps(axes: "Axes", histogram: Mapping[str, list[float]] | None, *, title: str, unit: str) -> None:
    axes.set(title=title, xlabel=unit, ylabel="clips" if title != "caption characters" else "captions")
    if histogram:
        axes.stairs(np.array(histogram["counts"]), np.array(histogram["edges"]), fill=True)
    else:
        axes.text(0.5, 0.5, "not known", ha="center", transform=axes.transAxes)


def _bars(axes: "Axes", counts: Mapping[str, int], *, title: str) -> None:
    shown = dict(list(counts.items())[:BARS])
    if len(counts) > BARS:
        shown[f"{len(counts) - BARS} more"] = sum(list(counts.values())[BARS:])
    axes.set(title=title)
    axes.barh(range(len(shown)), list(shown.values()))
    # A dollar sign would begin a formula; a script that the font lacks is drawn as boxes.
    axes.set_yticks(range(len(shown)), [name[:24].replace("$", r"\$") for name in shown], fontsize="small")
    axes.invert_yaxis()
