"""From a tower's width to the width where the towers meet: a linear map, or a perceptron of two layers."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn


class Linear(nn.Linear):
    """A linear map."""

    @dataclass(frozen=True)
    class Config:
        """`bias` is off in CLAP-like models and on in the text projection of M2D-CLAP's first stage."""

        bias: bool = False

        def build(self, width: int, *, to: int) -> "Linear":
            """The module of this value."""
            return Linear(width, to, bias=self.bias)


class Perceptron(nn.Module):
    """Linear, ReLU, linear, with biases: the projections of GLAP and of M2D-CLAP 2024."""

    @dataclass(frozen=True)
    class Config:
        """`hidden` is the width between the two layers."""

        hidden: int

        def build(self, width: int, *, to: int) -> "Perceptron":
            """The module of this value."""
            return Perceptron(width, hidden=self.hidden, to=to)

    def __init__(self, width: int, *, hidden: int, to: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, to)

    def forward(self, rows: Float[Tensor, "rows width"]) -> Float[Tensor, "rows to"]:
        """Each row by itself."""
        return self.down(self.up(rows).relu())
