"""Batches with sound and captions, made of tones, and what a process's share of an objective does to a model."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import tiny
from lapis import distributed
from lapis.data.batching import Batch, Draw
from lapis.data.sample import Location, Sample
from lapis.objectives.learner import Encoded, Objective
from lapis.ragged import Ragged

CAPTIONS = ("a low tone", "a tone", "a tone", "", "a high tone that goes on", "hm", "a tone", "noise")


def tone(number: int) -> torch.Tensor:
    """A noisy tone of its own height, between 0.1 and 0.8 s."""
    generator = torch.Generator().manual_seed(number)
    time = torch.arange(1600 * (1 + number * 3 % 8)) / 16_000
    return 0.3 * torch.sin(2 * torch.pi * (200 + 90 * number) * time) + 0.01 * torch.randn(
        len(time), generator=generator
    )


def heard(numbers: range) -> Batch:
    """The tones of these numbers with their captions."""
    captions = tuple(CAPTIONS[number] for number in numbers)
    draws = tuple(
        Draw(number, Sample(f"tone{number}", Location(Path("nowhere")), {"eng_Latn": (caption,)}))
        for number, caption in zip(numbers, captions, strict=True)
    )
    return Batch(Ragged.pack([tone(number) for number in numbers]), captions, draws, numbers.stop)


def share(counts: tuple[int, ...]) -> range:
    """The numbers of this process's clips; on one process those of all."""
    rank, counts = (distributed.rank(), counts) if distributed.is_running() else (0, (sum(counts),))
    first = sum(counts[:rank])
    return range(first, first + counts[rank])


def values_and_gradients(kind: type[Objective], config, counts: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The terms of this process's share, and the gradients as data-parallel training averages them."""
    model = tiny.model(audio=replace(tiny.CONFIG.audio, augment=None))
    torch.manual_seed(1)
    objective = config.build(model)
    batch = heard(share(counts))
    terms = objective(model, batch, Encoded(model, batch))
    torch.stack(list(terms.values())).sum().backward()
    found = {name: term.detach().numpy() for name, term in (terms | objective.measures()).items()}
    for owner, module in (("model", model), ("objective", objective)):
        for name, parameter in module.named_parameters():
            if parameter.grad is not None:
                whole = distributed.gather(parameter.grad[None]).mean(0)
                found[f"{owner}.{name}"] = whole.numpy()
    return found


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """All terms and gradients within 1e-5."""
    assert found.keys() == expected.keys() and len(expected) > 5
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, rtol=1e-4, err_msg=name)
