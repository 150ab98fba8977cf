"""What can be seen of a model without asking it anything: its tensors, each read once."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from lapis.doctor.finding import Finding, Level

# Front ends kept as weights have rows of zeros: of the bins of a 48 kHz spectrum, 42 % lie above 14 kHz.
MOST_DEAD_ROWS = 0.5
# Small tensors may be equal by chance.
FEWEST_COPIED_VALUES = 16
NAMES_SHOWN = 3


@dataclass(frozen=True)
class _Extent:
    """The least and the greatest value of a tensor, NaN where it holds one."""

    name: str
    tensor: Tensor
    low: float
    high: float
    dead_rows: float | None
    """The share of rows that hold one value only; None for what is not a matrix."""

    @property
    def is_finite(self) -> bool:
        return abs(self.low) < torch.inf and abs(self.high) < torch.inf

    @property
    def is_dead(self) -> bool:
        """Whether it is a matrix and holds one value only."""
        return self.dead_rows is not None and self.low == self.high


def examine(module: nn.Module) -> list[Finding]:
    """All checks of a model's tensors."""
    extents = _extents(module)
    return [finite(module, extents), dead(extents), copied(extents), float16_range(extents)]


def survey(module: nn.Module) -> list[Finding]:
    """The checks that find what cannot be right, for every time a model is loaded."""
    extents = _extents(module)
    return [finite(module, extents), dead(extents)]


def finite(module: nn.Module, extents: Iterable[_Extent]) -> Finding:
    """Whether all weights are numbers. Buffers may hold infinities (masks do), but no NaN."""
    extents = list(extents)
    broken = [extent.name for extent in extents if not extent.is_finite]
    broken += [name for name, buffer in module.named_buffers() if buffer.is_floating_point() and buffer.isnan().any()]
    figures = {"tensors": float(len(extents)), "broken": float(len(broken))}
    if broken:
        sentence = f"NaN or infinity in {_listed(broken)}: the file is damaged, or training had diverged"
        return Finding("finite weights", "failure", sentence, figures)
    return Finding("finite weights", "fine", f"all values of {len(extents)} tensors are finite numbers", figures)


def dead(extents: Iterable[_Extent]) -> Finding:
    """Whether a matrix, or most of its rows, let nothing through: they hold one value only."""
    matrices = [extent for extent in extents if extent.dead_rows is not None]
    constant = [f"{extent.name} (all {extent.low:g})" for extent in matrices if extent.is_dead]
    sparse = [
        f"{extent.name} ({extent.dead_rows:.0%})"
        for extent in matrices
        if not extent.is_dead and (extent.dead_rows or 0.0) > MOST_DEAD_ROWS
    ]
    figures = {"matrices": float(len(matrices)), "constant": float(len(constant)), "sparse": float(len(sparse))}
    if constant:
        sentence = f"one value fills the whole of {_listed(constant)}: weights are missing, or were never trained"
        return Finding("dead weights", "failure", sentence, figures)
    if sparse:
        sentence = f"most rows hold one value only in {_listed(sparse)}: a large part of these weights does nothing"
        return Finding("dead weights", "warning", sentence, figures)
    return Finding("dead weights", "fine", f"none of {len(matrices)} matrices is constant or mostly so", figures)


def copied(extents: Iterable[_Extent]) -> Finding:
    """Whether weights under different names are equal without being the same memory.

    Constants are left out: biases and norms begin as zeros and ones, and some stay so.
    """
    groups: dict[tuple, list[_Extent]] = defaultdict(list)
    for extent in extents:
        if extent.low < extent.high and extent.tensor.numel() >= FEWEST_COPIED_VALUES:
            groups[extent.tensor.shape, extent.tensor.dtype, extent.low, extent.high].append(extent)
    pairs = [
        f"{one.name} and {other.name}"
        for group in groups.values()
        for one, other in combinations(group, 2)
        if not _same_memory(one.tensor, other.tensor) and torch.equal(one.tensor, other.tensor)
    ]
    figures = {"pairs": float(len(pairs))}
    if pairs:
        sentence = f"{_listed(pairs)} are equal, yet not tied: unless meant so, weights were copied to a wrong name"
        return Finding("copied weights", "warning", sentence, figures)
    return Finding("copied weights", "fine", "no weights are a copy of others", figures)


def float16_range(extents: Iterable[_Extent]) -> Finding:
    """Whether all weights fit into float16."""
    greatest_float16 = torch.finfo(torch.float16).max
    greatest = 0.0
    beyond = []
    for extent in extents:
        if extent.is_finite:
            size = max(abs(extent.low), abs(extent.high))
            greatest = max(greatest, size)
            if size > greatest_float16:
                beyond.append(f"{extent.name} ({size:.3g})")
    level: Level = "warning" if beyond else "fine"
    sentence = f"the greatest value is {greatest:.3g}, float16 holds up to {greatest_float16:g}"
    if beyond:
        sentence = f"float16 cannot hold the values of {_listed(beyond)}: use bfloat16 or float32"
    return Finding("float16 range", level, sentence, {"greatest": greatest, "beyond": float(len(beyond))})


def _extents(module: nn.Module) -> list[_Extent]:
    # A parameter that several modules share has several names; one is enough.
    return [_extent(name, tensor.detach()) for name, tensor in module.named_parameters() if tensor.numel()]


def _extent(name: str, tensor: Tensor) -> _Extent:
    values = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    if not values.is_floating_point() or values.dtype.itemsize == 1:
        values = values.float()  # torch has no minimum of the smallest types
    rows = values.squeeze()
    if rows.dim() < 2:
        return _Extent(name, tensor, float(values.min()), float(values.max()), None)
    rows = rows.flatten(1)
    lows, highs = rows.amin(1), rows.amax(1)
    return _Extent(name, tensor, float(lows.min()), float(highs.max()), float((lows == highs).float().mean()))


def _same_memory(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.stride() == other.stride()


def _listed(names: list[str]) -> str:
    """The first few of the names, and how many more there are."""
    shown = ", ".join(names[:NAMES_SHOWN])
    return f"{shown} and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else shown
