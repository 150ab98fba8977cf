"""Mixup (arXiv 1710.09412) on sound: every clip of a step is laid over another one, and so are their classes.

Who is mixed with whom, and how much of each, follows from the numbers of the draws: the clips of a step are mixed alike
however many processes share them, and after an interruption.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lapis import distributed
from lapis.ragged import Ragged

SHIFT, SHARE = 1, 2
"""Keep random numbers of different uses apart."""


@dataclass(frozen=True)
class Pairs:
    """Of every clip of a step the place of its partner and the clip's own share; places count the clips of all."""

    partners: tuple[int, ...]
    shares: tuple[float, ...]

    def mixed(self, rows: Float[Tensor, "clips width"]) -> Float[Tensor, "clips width"]:
        """Rows of one length, such as classes: share times own plus the rest of the partner's."""
        shares = torch.tensor(self.shares, dtype=rows.dtype, device=rows.device)[:, None]
        return shares * rows + (1 - shares) * rows[list(self.partners)]


def pairs(numbers: Sequence[int], *, alpha: float, seed: int) -> Pairs:
    """Partners and shares of the draws of a step, a share being drawn from Beta(alpha, alpha) for each clip.

    In the order of their numbers, which the mixture has shuffled, each draw's partner stands a random number of places
    on, the same for all of a step; only a draw that is alone is its own partner.
    """
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    shift = 0
    if len(order) > 1:
        shift = int(np.random.default_rng((SHIFT, seed, min(numbers))).integers(1, len(order)))
    partners = [0] * len(order)
    for place, clip in enumerate(order):
        partners[clip] = order[(place + shift) % len(order)]
    shares = [float(np.random.default_rng((SHARE, seed, number)).beta(alpha, alpha)) for number in numbers]
    return Pairs(tuple(partners), tuple(shares))


def overlaid(waveforms: Ragged, of: Pairs) -> Ragged:
    """The clips of this process, each mixed with its partner's sound, which may be another process's.

    A clip keeps its length: a longer partner is cut to it, and where a shorter one ends silence goes on.
    """
    lengths = distributed.gather(torch.tensor(waveforms.lengths, device=waveforms.rows.device))
    everyone = distributed.gather(waveforms.rows).split(lengths.tolist())
    first = _first(len(waveforms))
    mixed = []
    for clip, own in enumerate(waveforms.split(), start=first):
        partner, share = everyone[of.partners[clip]][: len(own)], of.shares[clip]
        whole = share * own
        whole[: len(partner)] += (1 - share) * partner
        mixed.append(whole)
    return Ragged.pack(mixed)


def _first(count: int) -> int:
    """The place of this process's first clip among those of all."""
    counts = distributed.gather_numbers([float(count)])
    return sum(int(number) for (number,) in counts[: distributed.rank()])
