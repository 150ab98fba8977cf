"""What embedders around another library's model share: frozen weights, a name for them, the contract's checks."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lapis.shapes import Waveforms


class Frozen(nn.Module):
    """A module whose weights are used as they were published: never trained, and named by a digest of them."""

    def __init__(self) -> None:
        super().__init__()
        self._digest = ""

    def train(self, mode: bool = True) -> "Frozen":
        """Stays in evaluation mode: what is random in training has no place in an embedder."""
        return super().train(False)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that name all tensors; computed once, since 200 M weights take about a second."""
        if not self._digest:
            digest = hashlib.sha256()
            for name, tensor in sorted(self.state_dict().items()):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
            self._digest = digest.hexdigest()[:16]
        return self._digest

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # Every change of device or precision passes here; half precision rounds the weights, so it is another digest.
        self._digest = ""
        return super()._apply(fn, recurse)


def check_waveforms(waveforms: Waveforms) -> None:
    """Refuse what no model can embed.

    Raises:
        ValueError: the clips are not in a list, one has no samples, or one that is not a finite number.
    """
    if isinstance(waveforms, np.ndarray) and waveforms.ndim == 1:
        raise ValueError(f"expected a list of clips, got one of {len(waveforms)} samples: put it into a list")
    for number, waveform in enumerate(waveforms):
        if not len(waveform) or not np.isfinite(waveform).all():
            raise ValueError(f"clip {number} must have samples, all of them finite numbers; it has {len(waveform)}")


def check_texts(texts: Sequence[str]) -> None:
    """Refuse what no model can embed.

    Raises:
        ValueError: the texts are not in a list, or one is empty.
    """
    if isinstance(texts, str):
        raise ValueError(f"expected a list of texts, got {texts!r}: put it into a list")
    for number, text in enumerate(texts):
        if not text.strip():
            raise ValueError(f"text {number} is empty")
