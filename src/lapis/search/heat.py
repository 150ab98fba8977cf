"""A recording as a picture: its spectrogram, and below it a strip of heat for each text, with what is heard marked."""

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float64

from lapis import audio
from lapis.data.survey_picture import FONTS
from lapis.files import atomic_write
from lapis.search.localise import Located, Locations

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RATE = 16_000
"""At which the spectrogram is made."""
FFT_SAMPLES = 1024
BANDS = 80
LEAST_HERTZ = 60.0
COLUMNS = 900
"""Of the picture at most: a long recording's columns are means (sound) and maxima (heat) over a longer time."""
DYNAMIC_DECIBELS = 60.0
HEARD, INK, PAPER = "#b3360b", "#333333", "#ffffff"


def draw_locations(locations: Locations, *, source: audio.Source, path: Path, title: str) -> None:
    """Draw into a PNG file; the recording is read once more, piece by piece.

    Raises:
        ValueError: matplotlib is not installed, or the sound cannot be read.
    """
    try:
        import matplotlib
        from matplotlib import font_manager
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("the picture needs an extra: pip install 'lapis-audio[search]'") from error
    bands = spectrogram(source, seconds=locations.seconds)
    installed = set(font_manager.get_font_names())
    fonts = ["DejaVu Sans", *(font for font in FONTS if font in installed)]
    with matplotlib.rc_context({"font.family": fonts, "font.size": 9, "text.color": INK, "text.parse_math": False}):
        figure = Figure(figsize=(9, 2.7 + 0.34 * len(locations.found)), layout="constrained", facecolor=PAPER)
        FigureCanvasAgg(figure)
        _fill(figure, locations, bands=bands, title=title)
        with atomic_write(path) as file, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # One for each letter; the boxes can be seen.
            figure.savefig(file, format="png", dpi=100)


def spectrogram(source: audio.Source, *, seconds: float) -> Float64[np.ndarray, "bands columns"]:
    """Decibels below the loudest, in bands of equal width on the mel scale, of a recording of known length."""
    num_columns = max(1, min(COLUMNS, int(seconds * RATE / FFT_SAMPLES)))
    mels = np.linspace(_mels(LEAST_HERTZ), _mels(RATE / 2), BANDS + 1)
    edges = np.round(700.0 * (10 ** (mels / 2595) - 1) / RATE * FFT_SAMPLES).astype(int)
    window = np.hanning(FFT_SAMPLES)
    power, counts, position = np.zeros((num_columns, BANDS)), np.zeros(num_columns), 0
    for frames in _frames(source):
        bands = np.add.reduceat(np.abs(np.fft.rfft(frames * window, axis=1)) ** 2, edges[:-1], axis=1)
        middles = (position + np.arange(len(frames)) + 0.5) * FFT_SAMPLES / RATE
        columns = np.minimum((middles / seconds * num_columns).astype(int), num_columns - 1)
        np.add.at(power, columns, bands / np.diff(edges))
        np.add.at(counts, columns, 1)
        position += len(frames)
    decibels = 10 * np.log10(power / np.maximum(counts, 1)[:, None] + 1e-12)
    return (decibels - decibels.max()).T


def _frames(source: audio.Source) -> Iterator[Float[np.ndarray, "frames samples"]]:
    """The sound cut into frames; what is left at the end is completed with silence where it is all there is."""
    held, any_frame = np.zeros(0, np.float32), False
    array_rate = RATE if isinstance(source, np.ndarray) else None
    for chunk in audio.chunks(source, sample_rate=RATE, array_rate=array_rate):
        held = np.concatenate([held, chunk])
        whole = len(held) // FFT_SAMPLES * FFT_SAMPLES
        if whole:
            yield held[:whole].reshape(-1, FFT_SAMPLES)
            any_frame = True
        held = held[whole:]
    if not any_frame:
        yield np.pad(held, (0, FFT_SAMPLES - len(held)))[None]


def heat(of: Located, *, scores: Float64[np.ndarray, "frames"]) -> Float64[np.ndarray, "columns"]:
    """From 0, what is usual in the recording or less, over 0.5 at the threshold, to 1; the hottest frame a column."""
    usual = min(float(np.median(scores)), of.threshold - 1e-6)
    values = np.clip(0.5 * (scores - usual) / (of.threshold - usual), 0, 1)
    columns = min(COLUMNS, len(values))
    return np.maximum.reduceat(values, np.arange(columns) * len(values) // columns)


def _fill(figure: "Figure", locations: Locations, *, bands: np.ndarray, title: str) -> None:
    strips = len(locations.found)
    axes = figure.subplots(1 + strips, 1, sharex=True, height_ratios=[5.5, *[1] * strips], squeeze=False)[:, 0]
    seconds = locations.seconds
    axes[0].imshow(
        np.maximum(bands, -DYNAMIC_DECIBELS),
        aspect="auto",
        origin="lower",
        extent=(0, seconds, 0, BANDS),
        cmap="Greys",
        interpolation="nearest",
    )
    known = (250.0, 500.0, 1000.0, 2000.0, 4000.0)
    low, high = _mels(LEAST_HERTZ), _mels(RATE / 2)
    axes[0].set_yticks([(_mels(hertz) - low) / (high - low) * BANDS for hertz in known], [_named(of) for of in known])
    axes[0].set_ylabel("Hz")
    axes[0].set_title(_readable(title), loc="left", fontsize=10)
    for of, scores, strip in zip(locations.found, locations.frames.scores.T, axes[1:]):
        _strip(strip, of, scores=scores, seconds=seconds)
        for span in of.spans:
            axes[0].axvspan(span.begin_seconds, span.end_seconds, color=HEARD, alpha=0.08, linewidth=0)
    axes[-1].tick_params(bottom=True, labelbottom=True)
    ticks = axes[-1].get_xticks()
    axes[-1].set_xticks(*_clock([tick for tick in ticks if 0 <= tick <= seconds]))
    axes[-1].set_xlim(0, seconds)
    for axis in axes:
        axis.tick_params(length=2, color="#bbbbbb")
        for side in axis.spines.values():
            side.set_color("#cccccc")
            side.set_linewidth(0.6)
    figure.supxlabel(_readable(locations.found[0].rule), fontsize=7, color="#777777")


def _strip(axis: "Axes", of: Located, *, scores: np.ndarray, seconds: float) -> None:
    axis.imshow(
        heat(of, scores=scores)[None],
        aspect="auto",
        extent=(0, seconds, 0, 1),
        cmap="Oranges",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    for span in of.spans:
        axis.hlines(0.08, span.begin_seconds, span.end_seconds, color=HEARD, linewidth=2.5)
    axis.set_ylim(0, 1)
    axis.set_yticks([])
    axis.set_ylabel(_readable(of.text)[:28], rotation=0, ha="right", va="center")
    axis.text(1.01, 0.5, f"{of.count} ×", transform=axis.transAxes, va="center", fontsize=8)


def _clock(seconds: list[float]) -> tuple[list[float], list[str]]:
    """Places and names of ticks, in whole minutes and seconds where the recording is longer than one."""
    if max(seconds) < 60:
        return seconds, [f"{of:g} s" for of in seconds]
    return seconds, [clock(of) for of in seconds]


def clock(seconds: float) -> str:
    """Minutes and seconds, and hours where there are some: 1:02:03."""
    whole = round(seconds)
    hours = f"{whole // 3600}:" if whole >= 3600 else ""
    minutes = f"{whole // 60 % 60:02}" if hours else f"{whole // 60}"
    return f"{hours}{minutes}:{whole % 60:02}"


def _readable(text: str) -> str:
    """A byte of a file's name that is no UTF-8 is no letter."""
    return text.encode(errors="backslashreplace").decode()


def _named(hertz: float) -> str:
    return f"{hertz / 1000:g}k" if hertz >= 1000 else f"{hertz:g}"


def _mels(hertz: float) -> float:
    return 2595.0 * math.log10(1 + hertz / 700)
