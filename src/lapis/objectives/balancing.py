"""Scores to targets that use all prototypes alike, over the tokens of all processes (Sinkhorn-Knopp)."""

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from lapis import distributed


@torch.no_grad()
def sinkhorn(
    scores: Float[Tensor, "tokens prototypes"], *, temperature: Float[Tensor, ""], iterations: int
) -> Float32[Tensor, "tokens prototypes"]:
    """Targets that use all prototypes alike over the tokens of all processes (arXiv 2006.09882, equation 3).

    diag(of_token) exp(scores / temperature) diag(of_prototype), each token's row summing to one. Only the two vectors
    are made anew in an iteration (arXiv 1306.0895, algorithm 1); processes may bring different numbers of tokens, or
    none, but all must call.
    """
    with torch.autocast(scores.device.type, enabled=False):
        highest = distributed.gather(scores.float().amax().reshape(1) if len(scores) else scores.new_empty(0).float())
        if not len(highest):
            return scores.float()
        kernel = ((scores.float() - highest.max()) / temperature.float()).exp()
        of_token, of_prototype = kernel.new_ones(len(kernel)), kernel.new_ones(kernel.shape[1])
        for _ in range(iterations):
            # Every prototype gets the same sum over all tokens, then every token the sum one.
            of_prototype = 1 / distributed.gather((of_token @ kernel)[None]).sum(0)
            of_token = 1 / (kernel @ of_prototype)
        return of_token[:, None] * kernel * of_prototype


def sinkhorn_plain(
    scores: Float[Tensor, "tokens prototypes"], *, temperature: float, iterations: int
) -> Float[Tensor, "tokens prototypes"]:
    """The same on one process, the matrix itself scaled in turn: the twin that `sinkhorn` is held against."""
    targets = (scores / temperature).exp()
    for _ in range(iterations):
        targets = targets / targets.sum(0, keepdim=True)
        targets = targets / targets.sum(1, keepdim=True)
    return targets
