"""Words for axes, and the array types that cross the borders of the package.

Axis names, the same everywhere:

    samples   sound at a sample rate          frames   columns of a spectrogram, one a hop
    mels      bands of a spectrogram          rows     rows of a `Ragged`: all items' rows, one after another
    items     clips or texts in a batch       clips / texts   items of one kind
    width     of an embedding or a layer      heads / head_width   of attention

Units stand in names: `seconds`, `hertz`, `decibels`; a count begins with `num_`. An axis that begins with an underscore
is documentation only (jaxtyping does not bind it), because the clips of a batch differ in it.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

Waveform = Float32[np.ndarray, "_samples"]
"""Mono sound in [-1, 1] at a sample rate that stands beside it."""

Waveforms = Sequence[Waveform]
"""Clips of any durations, at one sample rate."""

Vectors = Float32[np.ndarray, "_items _width"]
"""Unit-length embeddings, one row an item."""
