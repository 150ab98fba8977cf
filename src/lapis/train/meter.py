"""What a step cost: time by what it went by on, and the floating-point operations it did, against what the device can.

Operations are counted once, in the first step that is taken, and then assumed to grow with the tokens; a kernel that
PyTorch's counter does not know counts as nothing, so that the share is never too high.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode

from lapis.data.batching import Batch
from lapis.objectives.learner import Learner


def count_tokens(learner: Learner, batches: Sequence[Batch]) -> int:
    """Tokens of the audio tower for these clips; 0 for a tower that does not say."""
    num_tokens = getattr(learner.model.audio_encoder, "num_tokens", None)
    lengths = [length for batch in batches for length in batch.waveforms.lengths]
    return sum(map(num_tokens, lengths)) if num_tokens else 0


def matmul_flops_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """What a product of two large matrices reaches here: the best of a few."""
    size = 8192 if device.type == "cuda" else 768
    one, other = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(6):
        began = time.perf_counter()
        one @ other
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return 2 * size**3 / min(seconds)


class FlopMeter:
    """The share of the device's matrix speed that a run achieves, once one of its steps has been counted."""

    def __init__(self, *, device: torch.device, dtype: torch.dtype, enabled: bool) -> None:
        self._enabled = enabled
        self._peak = matmul_flops_per_second(device, dtype) if enabled else 0.0
        self._per_token: float | None = None

    @contextmanager
    def counting(self, *, tokens: int) -> Iterator[None]:
        """Count what is done in the block, the first time; later blocks run as they are."""
        if not self._enabled or self._per_token is not None or not tokens:
            yield
            return
        with FlopCounterMode(display=False) as counter:
            yield
        self._per_token = counter.get_total_flops() / tokens

    def share(self, *, tokens: int, seconds: float) -> float | None:
        """Of the device's measured speed, for a step of so many tokens; None where nothing was counted."""
        return self._per_token * tokens / seconds / self._peak if self._per_token is not None else None
