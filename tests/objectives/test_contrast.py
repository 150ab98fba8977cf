"""Contrast against the formula written out, across processes, and at its extremes."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import processes
import tiny
from lapis import distributed
from lapis.data.batching import Batch, Draw
from lapis.data.sample import Location, Sample
from lapis.objectives.contrast import Sigmoid, Softmax, positives, sigmoid_contrast, softmax_contrast
from lapis.objectives.learner import Encoded
from lapis.ragged import Ragged


def _unit(count, width=8, seed=0):
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return F.normalize(rows, dim=-1).requires_grad_()


def _batch(captions, more=(), first=0):
    """Clips that drew `captions`; each also has those of `more`, by its number."""
    draws = tuple(
        Draw(
            first + number,
            Sample(
                f"clip{first + number}", Location(Path("nowhere")), {"eng_Latn": (caption, *dict(more).get(number, ()))}
            ),
        )
        for number, caption in enumerate(captions)
    )
    return Batch(
        Ragged(torch.zeros(len(captions)), (1,) * len(captions)), tuple(captions), draws, first + len(captions)
    )


def test_softmax_is_the_published_loss_where_each_has_one_positive():
    audio, text, scale = _unit(6), _unit(6, seed=1), torch.tensor(9.0)
    logits, own = scale * audio @ text.T, torch.arange(6)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    torch.testing.assert_close(softmax_contrast(audio, text, torch.eye(6, dtype=torch.bool), scale=scale), expected)


def test_sigmoid_is_the_double_sum():
    audio, text = _unit(5), _unit(5, seed=1)
    scale, bias = torch.tensor(7.0), torch.tensor(-3.0)
    positive = torch.eye(5, dtype=torch.bool)
    positive[0, 3] = True
    total = torch.tensor(0.0)
    for i in range(5):
        for j in range(5):
            sign = 1 if positive[i, j] else -1
            total = total - torch.log(torch.sigmoid(sign * (scale * audio[i] @ text[j] + bias)))
    torch.testing.assert_close(sigmoid_contrast(audio, text, positive, scale=scale, bias=bias), total / 5)


def test_logits_are_float32_under_autocast():
    audio, text, positive = _unit(6), _unit(6, seed=1), torch.eye(6, dtype=torch.bool)
    exact = softmax_contrast(audio, text, positive, scale=torch.tensor(100.0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(softmax_contrast(audio, text, positive, scale=torch.tensor(100.0)), exact)


def test_equal_captions_share_their_target():
    """Two clips with one caption: the best answer is a tie between them, where the pair rule would punish it."""
    audio = _unit(1).expand(2, -1)
    positive = torch.ones(2, 2, dtype=torch.bool)
    shared = softmax_contrast(audio, audio, positive, scale=torch.tensor(5.0))
    torch.testing.assert_close(shared, torch.tensor(2.0).log())


def test_rules_of_positives():
    """A caption belongs to every clip that has it, whoever drew it; a clip's row need not be a caption's column."""
    batch = _batch(["a dog", "a dog", "rain", "a dog barks"], {3: ("a dog",)})
    device = torch.device("cpu")
    assert torch.equal(positives(batch, rule="pair", device=device), torch.eye(4, dtype=torch.bool))
    assert positives(batch, rule="caption", device=device).int().tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 0],
        [1, 1, 0, 1],
    ]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("same", [False, True])
def test_finite_at_the_extremes(count, same):
    audio = _unit(count)
    text = audio if same else -audio
    positive = torch.ones(count, count, dtype=torch.bool)
    for loss in (
        softmax_contrast(audio, text, positive, scale=torch.tensor(100.0)),
        sigmoid_contrast(audio, text, positive, scale=torch.tensor(100.0), bias=torch.tensor(-10.0)),
    ):
        assert loss.isfinite()
        assert torch.autograd.grad(loss, audio)[0].isfinite().all()


CAPTIONS = ("a dog", "rain", "a dog", "wind", "a cat")
COUNTS = (3, 2)


def _values_and_gradients(kind: str, rule: str) -> list[np.ndarray]:
    """This process's share of the loss on five clips: the loss, and the gradients of rows and parameters."""
    config = (Softmax if kind == "softmax" else Sigmoid).Config(positives=rule)
    model = tiny.model()
    objective = config.build(model)
    first = sum(COUNTS[: distributed.rank()]) if distributed.is_running() else 0
    count = COUNTS[distributed.rank()] if distributed.is_running() else sum(COUNTS)
    share = slice(first, first + count)
    audio, text = (_unit(5, seed=seed).detach()[share].clone().requires_grad_() for seed in (0, 1))
    batch = _batch(CAPTIONS[share], first=first)
    encoded = Encoded(model, batch)
    vars(encoded).update(audio=audio, text=text)  # as if the towers had been asked already
    loss = objective(model, batch, encoded)["contrast"]
    loss.backward()
    # Data-parallel training averages gradients over the processes; rows belong to one process each.
    shares = [gradient / distributed.world_size() for gradient in (audio.grad, text.grad)]
    return [value.detach().numpy() for value in (loss, *shares, *(p.grad for p in objective.parameters()))]


@pytest.mark.parametrize("rule", ["pair", "caption"])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_two_processes_equal_one(kind, rule):
    alone = _values_and_gradients(kind, rule)
    shares = processes.run(_values_and_gradients, kind, rule)
    for share in shares:
        np.testing.assert_allclose(share[0], alone[0], atol=1e-5)
        for of_share, expected in zip(share[3:], alone[3:], strict=True):
            np.testing.assert_allclose(of_share, expected, atol=1e-5)
    for place in (1, 2):
        np.testing.assert_allclose(np.concatenate([share[place] for share in shares]), alone[place], atol=1e-5)
