"""What embedders around another library's model share: frozen weights and a name for them."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from lapis.calibration import Calibration
from lapis.weights import digest


class Frozen(nn.Module):
    """A module whose weights are used as they were published: never trained, and named by a digest of them."""

    def __init__(self) -> None:
        super().__init__()
        self._digest = ""
        self.calibration: Calibration | None = None  # set by `lapis.load`

    def train(self, mode: bool = True) -> "Frozen":
        """Stays in evaluation mode: what is random in training has no place in an embedder."""
        return super().train(False)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that name all tensors; computed once, since 200 M weights take about a second."""
        if not self._digest:
            self._digest = digest(self.state_dict())
        return self._digest

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # Every change of device or precision passes here; half precision rounds the weights, so it is another digest.
        self._digest = ""
        return super()._apply(fn, recurse)
