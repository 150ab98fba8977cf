"""The cached step: contrast over a batch whose activations do not fit into memory (GradCache, arXiv 2101.06983).

Gradients of several batches add no negatives. Here all clips of a batch are compared with each other: its parts are
embedded without a graph, the contrast gives the gradients of the vectors, and then the parts are embedded again, each
with its graph, to carry these gradients into the towers. The answer is that of the step in one pass; the towers run
forward twice.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lapis.data.batching import Batch
from lapis.objectives.learner import Encoded, Learner, Objective, Step
from lapis.ragged import Ragged
from lapis.train.parallel import Engine


def cached_backward(
    engine: Engine,
    batch: Batch,
    *,
    clips: int,
    last: bool,
    autocast: Callable[[], AbstractContextManager],
    scaled: Callable[[Tensor], Tensor],
) -> Step:
    """Add the gradients of a batch to the parameters, with activations of at most `clips` clips in memory at a time.

    Args:
        engine: of the learner; every pass goes through its `forward`.
        batch: whose clips are compared with each other, and with those of the other processes.
        clips: in a part.
        last: whether the processes exchange gradients at the end.
        autocast: gives the context of a forward pass. One context for two passes would not do: the weights that it
            keeps in half precision from the pass without a graph would have none in the other either.
        scaled: what of the total the gradient is taken of.

    Raises:
        ValueError: an objective needs more than the vectors, or a layer mixes the clips of a batch.
    """
    _check(engine.learner)
    parts, device = list(split(batch, clips)), batch.waveforms.rows.device
    states: list[_RandomState] = []
    vectors: list[tuple[Tensor, Tensor]] = []
    for part in parts:
        states.append(_RandomState.now(device))
        with engine.exchange(last=False), autocast(), torch.no_grad():
            vectors.append(engine.forward(part, work=_embed))
    audio, text = (torch.cat(of).requires_grad_() for of in zip(*vectors, strict=True))
    with engine.exchange(last=False), autocast():
        step, found = engine.forward(batch, work=partial(_contrast, audio=audio, text=text, scaled=scaled))
    after = _RandomState.now(device)
    for number, part in enumerate(parts):
        states[number].restore()
        final = number + 1 == len(parts)
        rows = slice(number * clips, number * clips + len(part))
        work = partial(_stand_in, gradients=found, rows=rows, with_learned=final)
        with engine.exchange(last=last and final):
            with autocast():
                stand_in = engine.forward(part, work=work)
            if stand_in.requires_grad:
                stand_in.backward()
    after.restore()
    return step


def split(batch: Batch, clips: int) -> Iterator[Batch]:
    """The batch in its order as parts of at most so many clips; their sound is not copied."""
    lengths, begin = iter(batch.waveforms.lengths), 0
    for first in range(0, len(batch), clips):
        of_part, some = slice(first, first + clips), tuple(islice(lengths, clips))
        waveforms = Ragged(batch.waveforms.rows[begin : begin + sum(some)], some)
        begin += sum(some)
        yield replace(
            batch, waveforms=waveforms, captions=batch.captions[of_part], draws=batch.draws[of_part], dropped=()
        )


def _check(learner: Learner) -> None:
    for objective in learner.objectives:
        assert isinstance(objective, Objective)
        if not objective.vectors_only:
            raise ValueError(
                f"cached_clips: {type(objective).__name__} needs more than the vectors of clips and captions, "
                f"which is all that is kept of a part of the batch"
            )
    for name, module in learner.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise ValueError(f"cached_clips: {name} is a batch norm, which answers otherwise to a part of the batch")


@dataclass(frozen=True)
class _Gradients:
    """Of the vectors, and of what the objectives learn."""

    audio: Float[Tensor, "clips width"]
    text: Float[Tensor, "clips width"]
    learned: Sequence[Tensor]


class _Vectors(Encoded):
    """The towers' answers to a whole batch, of which only the vectors were kept."""

    def __init__(self, audio: Float[Tensor, "clips width"], text: Float[Tensor, "clips width"]) -> None:
        self.audio, self.text = audio, text

    @cached_property
    def tokens(self) -> Ragged:
        """Not here."""
        raise ValueError("an objective that says vectors_only asked for tokens, and the cached step has none")


def _embed(learner: Learner, part: Batch) -> tuple[Tensor, Tensor]:
    encoded = Encoded(learner.model, part)
    return encoded.audio, encoded.text


def _contrast(
    learner: Learner,
    batch: Batch,
    *,
    audio: Float[Tensor, "clips width"],
    text: Float[Tensor, "clips width"],
    scaled: Callable[[Tensor], Tensor],
) -> tuple[Step, _Gradients]:
    """The losses of the whole batch, and the gradients of all they depend on but the towers."""
    step = learner.losses(batch, _Vectors(audio, text))
    of_audio, of_text, *learned = torch.autograd.grad(
        scaled(step.total), [audio, text, *_learned(learner)], allow_unused=True, materialize_grads=True
    )
    losses = {name: loss.detach() for name, loss in step.losses.items()}
    return replace(step, total=step.total.detach(), losses=losses), _Gradients(of_audio, of_text, learned)


def _stand_in(
    learner: Learner, part: Batch, *, gradients: _Gradients, rows: slice, with_learned: bool
) -> Float[Tensor, ""]:
    """A number that is not the loss and has its gradient: every gradient goes through the wrapped forward."""
    audio, text = _embed(learner, part)
    total = (audio * gradients.audio[rows]).sum() + (text * gradients.text[rows]).sum()
    if with_learned:
        for parameter, gradient in zip(_learned(learner), gradients.learned, strict=True):
            total = total + (parameter * gradient).sum()
    return total


def _learned(learner: Learner) -> list[nn.Parameter]:
    return [parameter for parameter in learner.objectives.parameters() if parameter.requires_grad]


@dataclass(frozen=True)
class _RandomState:
    """Of the processor and of the device of the batch, so that dropout and masks fall alike in both passes."""

    processor: Tensor
    device: torch.device
    of_device: Tensor | None

    @classmethod
    def now(cls, device: torch.device) -> "_RandomState":
        of_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(torch.get_rng_state(), device, of_device)

    def restore(self) -> None:
        torch.set_rng_state(self.processor)
        if self.of_device is not None:
            torch.cuda.set_rng_state(self.of_device, self.device)
