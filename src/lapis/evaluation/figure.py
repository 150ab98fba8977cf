"""A measured figure, of which every result is made, so that tables, reports and comparisons know no protocol."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

Unit = Literal["share", "score", "rank", "error", "lost share"]
"""A share is in [0, 1] and shown in per cent; a score is as its metric has it; a rank counts from 1.

An error is a score and a lost share a share of which a low one is good, as is a low rank.
"""
LOW_IS_GOOD: frozenset[Unit] = frozenset({"rank", "error", "lost share"})


@dataclass(frozen=True)
class Figure:
    """One number, what guessing gives, and how far another draw of the test clips may move it."""

    value: float
    chance: float | None = None
    interval: tuple[float, float] | None = None
    """Of 95 % by the bootstrap over queries or clips."""
    unit: Unit = "share"

    def __str__(self) -> str:
        return shown(self.value, self.unit)


def shown(value: float, unit: Unit) -> str:
    """A number as people read it."""
    if unit in ("share", "lost share"):
        return f"{value:.1%}"
    return {"rank": f"{value:,.1f}", "error": f"{value:.4f}"}.get(unit, f"{value:.3f}")


@runtime_checkable
class Result(Protocol):
    """What a protocol gives."""

    @property
    def figures(self) -> Mapping[str, Figure]:
        """By the name of the metric, and the direction where there are two: `R@1 text to audio`."""
        ...

    @property
    def items(self) -> Mapping[str, Float[np.ndarray, " items"]]:
        """What each query or clip contributes to a figure, of the same name, where the figure is their mean.

        Two models measured on the same clips are compared item by item. A figure that is no mean is not among them.
        """
        ...

    @property
    def protocol(self) -> str:
        """In one sentence what was measured, in words that are the same for every model on the same clips.

        What the model itself decides (the best of its layers, say) is in a field `chosen`, where there is such.
        """
        ...

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values, ready for JSON."""
        ...
