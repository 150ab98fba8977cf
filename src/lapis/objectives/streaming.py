"""Contrast without the matrix of logits: block by block, in memory that does not grow with the square of the batch.

The same losses as the plain ones in `contrast.py`, values and gradients. With `ring` the captions of all processes
pass by in turn, so that no process holds all of them either; on one process, or without it, there is one part to visit.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from lapis.objectives.positives import Positives
from lapis.objectives.ring import add_up, tour


def streamed_softmax(
    audio: Float[Tensor, "clips width"],
    text: Float[Tensor, "texts width"],
    positives: Positives,
    *,
    scale: Float[Tensor, ""],
    chunk: int | None,
    ring: bool = False,
) -> Float[Tensor, ""]:
    """`softmax_contrast` in blocks of `chunk` clips and `chunk` captions (None: a process's part at once)."""
    with torch.autocast(audio.device.type, enabled=False):
        return _Softmax.apply(audio.float(), text.float(), scale.float(), _Way(positives, chunk, ring))


def streamed_sigmoid(
    audio: Float[Tensor, "clips width"],
    text: Float[Tensor, "texts width"],
    positives: Positives,
    *,
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
    chunk: int | None,
    ring: bool = False,
) -> Float[Tensor, ""]:
    """`sigmoid_contrast` in blocks of `chunk` clips and `chunk` captions (None: a process's part at once)."""
    with torch.autocast(audio.device.type, enabled=False):
        return _Sigmoid.apply(audio.float(), text.float(), scale.float(), bias.float(), _Way(positives, chunk, ring))


@dataclass(frozen=True)
class _Way:
    """What is not a tensor that learns."""

    positives: Positives
    chunk: int | None
    ring: bool


class _Softmax(torch.autograd.Function):
    """Two tours: one for each row's and column's log of the sum, one for the gradients that need them whole.

    With z = scale * similarity, p_i and q_j the positives of a row and of a column, over n clips:
    loss = 1/2n sum_i (log sum_j exp z_ij - mean of i's positive z) + 1/2n sum_j (log sum_i exp z_ij - mean of j's),
    d loss/d z_ij = 1/2n (exp(z_ij - row_i) + exp(z_ij - column_j) - positive_ij (1/p_i + 1/q_j)).
    """

    @staticmethod
    def forward(context: Any, audio: Tensor, text: Tensor, scale: Tensor, way: "_Way") -> Tensor:
        of_clips, of_texts = _no_statistics(audio), _no_statistics(text)

        def visit(rows: Tensor, carried: Sequence[Tensor], place: slice) -> None:
            for clips, texts in _blocks(len(audio), len(rows), way.chunk):
                logits = (audio[clips] @ rows[texts].T).mul_(scale)
                positive = way.positives.block(clips, _within(place, texts))
                _add_statistics(of_clips[clips], logits, positive)
                _add_statistics(carried[0][texts], logits.T, positive.T)

        (of_texts,) = tour(text, [of_texts], visit=visit, ring=way.ring)
        total = _sum_of_losses(of_clips) + _sum_of_losses(of_texts)
        context.save_for_backward(audio, text, scale, of_clips, of_texts)
        context.way = way
        context.share = 1 / (2 * int(add_up(torch.tensor(len(audio), device=audio.device), ring=way.ring)))
        return (add_up(total, ring=way.ring) * context.share).to(audio.dtype)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:  # type: ignore[override]  (torch declares *gradients)
        audio, text, scale, of_clips, of_texts = context.saved_tensors
        way = context.way
        of_audio, of_text, of_scale = torch.zeros_like(audio), torch.zeros_like(text), _zero(audio)

        def visit(rows: Tensor, carried: Sequence[Tensor], place: slice) -> None:
            of_rows, statistics = carried
            for clips, texts in _blocks(len(audio), len(rows), way.chunk):
                similarity = audio[clips] @ rows[texts].T
                logits = similarity * scale
                row, column = of_clips[clips], statistics[texts]
                pull = (logits - row[:, :1]).exp_() + logits.sub_(column[None, :, 0]).exp_()
                held = way.positives.block(clips, _within(place, texts))
                pull -= torch.where(held, 1 / row[:, 2:] + 1 / column[None, :, 2], 0.0)
                of_scale.add_(similarity.mul_(pull).sum(dtype=torch.float64))
                of_audio[clips].addmm_(pull, rows[texts])
                of_rows[texts].addmm_(pull.T, audio[clips])

        of_text, _ = tour(text, [of_text, of_texts], visit=visit, ring=way.ring)
        # Every process answers with the loss of all: its rows were used by as many losses as there are processes.
        factor = add_up(gradient, ring=way.ring) * context.share * scale
        whole = add_up(of_scale, ring=way.ring) * (gradient * context.share)
        return of_audio.mul_(factor), of_text.mul_(factor), whole.to(scale.dtype), None


class _Sigmoid(torch.autograd.Function):
    """One tour: no pair waits for another, so its gradient is found beside its loss.

    d loss/d logit_ij = (sigmoid(logit_ij) - positive_ij) / n.
    """

    @staticmethod
    def forward(  # noqa: PLR0917  (autograd hands everything over by its place)
        context: Any, audio: Tensor, text: Tensor, scale: Tensor, bias: Tensor, way: "_Way"
    ) -> Tensor:
        of_audio, of_text = torch.zeros_like(audio), torch.zeros_like(text)
        total, of_scale, of_bias = _zero(audio), _zero(audio), _zero(audio)

        def visit(rows: Tensor, carried: Sequence[Tensor], place: slice) -> None:
            for clips, texts in _blocks(len(audio), len(rows), way.chunk):
                similarity = audio[clips] @ rows[texts].T
                logits = similarity * scale + bias
                positive = way.positives.block(clips, _within(place, texts))
                total.sub_(F.logsigmoid(torch.where(positive, logits, -logits)).sum(dtype=torch.float64))
                pull = logits.sigmoid_().sub_(positive.to(logits.dtype))
                of_bias.add_(pull.sum(dtype=torch.float64))
                of_scale.add_(similarity.mul_(pull).sum(dtype=torch.float64))
                of_audio[clips].addmm_(pull, rows[texts])
                carried[0][texts].addmm_(pull.T, audio[clips])

        (of_text,) = tour(text, [of_text], visit=visit, ring=way.ring)
        share = 1 / int(add_up(torch.tensor(len(audio), device=audio.device), ring=way.ring))
        total, of_scale, of_bias = (add_up(value, ring=way.ring) * share for value in (total, of_scale, of_bias))
        of_audio.mul_(scale * share), of_text.mul_(scale * share)
        context.save_for_backward(of_audio, of_text, of_scale.to(scale.dtype), of_bias.to(bias.dtype))
        context.way = way
        return total.to(audio.dtype)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Any:  # type: ignore[override]  (torch declares *gradients)
        of_audio, of_text, of_scale, of_bias = context.saved_tensors
        everybody = add_up(gradient, ring=context.way.ring)
        return of_audio * everybody, of_text * everybody, of_scale * gradient, of_bias * gradient, None


def _blocks(clips: int, texts: int, chunk: int | None) -> Iterator[tuple[slice, slice]]:
    for first_clip in range(0, clips, chunk or clips):
        for first_text in range(0, texts, chunk or texts):
            yield (
                slice(first_clip, min(first_clip + (chunk or clips), clips)),
                slice(first_text, min(first_text + (chunk or texts), texts)),
            )


def _within(place: slice, part: slice) -> slice:
    """A part of a process's rows as places among those of all."""
    return slice(place.start + part.start, place.start + part.stop)


def _zero(like: Tensor) -> Float[Tensor, ""]:
    """For sums over millions of pairs."""
    return torch.zeros((), dtype=torch.float64, device=like.device)


def _no_statistics(rows: Tensor) -> Float32[Tensor, "rows 3"]:
    """Of each row: the log of the sum of exponentials, the sum of the positive logits, and how many those are."""
    nothing = torch.zeros(len(rows), 3, device=rows.device)
    nothing[:, 0] = -torch.inf
    return nothing


def _add_statistics(
    statistics: Float32[Tensor, "rows 3"], logits: Float32[Tensor, "rows cols"], positive: Bool[Tensor, "rows cols"]
) -> None:
    torch.logaddexp(statistics[:, 0], logits.logsumexp(1), out=statistics[:, 0])
    statistics[:, 1] += torch.where(positive, logits, 0.0).sum(1)
    statistics[:, 2] += positive.sum(1)


def _sum_of_losses(statistics: Float32[Tensor, "rows 3"]) -> Float[Tensor, ""]:
    log_sum, of_positives, count = statistics.unbind(1)
    return (log_sum - of_positives / count).sum(dtype=torch.float64)
