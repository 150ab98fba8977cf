"""Contrast against the formula written out, across processes, and at its extremes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import processes
import tiny
from lapis import distributed
from lapis.objectives.contrast import GLAP, GLAP_AS_RELEASED, Sigmoid, Softmax, sigmoid_contrast, softmax_contrast
from lapis.objectives.learner import Encoded, Learner
from lapis.objectives.positives import Positives
from lapis.objectives.streaming import streamed_sigmoid, streamed_softmax
from lapis.objectives.visible import Visible
from objectives.batches import batch_of


def _unit(count, width=8, seed=0):
    rows = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return F.normalize(rows, dim=-1).requires_grad_()


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


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("equal_captions", [False, True])
def test_finite_and_equal_at_the_extremes(count, same, equal_captions):
    """One clip; texts that are their clips or the opposite; one caption for all; the largest scale."""
    audio = _unit(count)
    text = audio if same else -audio
    numbers = torch.arange(count)
    drawn = torch.zeros_like(numbers) if equal_captions else numbers
    rule = Positives(numbers, drawn[:, None], numbers, drawn)
    learned = {"scale": torch.tensor(100.0, requires_grad=True), "bias": torch.tensor(-10.0, requires_grad=True)}
    scale = {"scale": learned["scale"]}
    for inputs, plain, streamed in (
        (
            [audio, *scale.values()],
            softmax_contrast(audio, text, rule.matrix(), **scale),
            streamed_softmax(audio, text, rule, **scale, chunk=1),
        ),
        (
            [audio, *learned.values()],
            sigmoid_contrast(audio, text, rule.matrix(), **learned),
            streamed_sigmoid(audio, text, rule, **learned, chunk=1),
        ),
    ):
        assert plain.isfinite()
        torch.testing.assert_close(streamed, plain)
        for one, other in zip(torch.autograd.grad(plain, inputs), torch.autograd.grad(streamed, inputs), strict=True):
            assert one.isfinite().all()
            torch.testing.assert_close(other, one, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("config", [Softmax.Config(chunk=2), Sigmoid.Config(chunk=2), Sigmoid.Config()], ids=str)
def test_half_vectors_are_compared_in_float32(config):
    """Under autocast too, and the gradients come back in the vectors' own precision."""
    model = tiny.model()
    objective, batch = config.build(model), batch_of(CAPTIONS)
    losses = []
    for autocast in (False, True):
        encoded = Encoded(model, batch)
        vectors = [_unit(5, seed=seed).detach().bfloat16().requires_grad_() for seed in (0, 1)]
        vars(encoded).update(audio=vectors[0], text=vectors[1])
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = objective(model, batch, encoded)["contrast"]
        loss.backward()
        assert loss.dtype == torch.float32 and all(vector.grad.dtype == torch.bfloat16 for vector in vectors)
        losses.append(loss)
    assert torch.equal(*losses)


def test_no_block_is_larger_than_asked_for():
    """What lies between the inputs and the loss: blocks, rows, and never the matrix."""
    sizes: list[int] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            answer = function(*arguments, **(keywords or {}))
            sizes.extend(part.numel() for part in tree_leaves(answer) if isinstance(part, torch.Tensor))
            return answer

    count, chunk = 64, 8
    audio, text, numbers = _unit(count), _unit(count, seed=1), torch.arange(count)
    rule = Positives(numbers, numbers[:, None], numbers, numbers)
    scale, bias = torch.tensor(10.0, requires_grad=True), torch.tensor(-10.0)
    with Watch():
        streamed_softmax(audio, text, rule, scale=scale, chunk=chunk).backward()
        streamed_sigmoid(audio, text, rule, scale=scale, bias=bias, chunk=chunk).backward()
    assert chunk**2 in sizes and max(sizes) <= audio.numel()


CAPTIONS = ("a dog", "rain", "a dog", "wind", "a cat")
COUNTS = {1: (5,), 2: (3, 2), 4: (1, 2, 1, 1)}


def _values_and_gradients(config, as_rank: int | None = None, world_size: int = 1) -> list[np.ndarray]:
    """The loss on this process's share of five clips, and the gradients of its rows and of the parameters.

    With `as_rank` one process alone takes the share that a process of so many would have.
    """
    model = tiny.model()
    objective = config.build(model)
    counts = COUNTS[world_size if as_rank is not None else distributed.world_size()]
    rank = distributed.rank() if as_rank is None else as_rank
    first = sum(counts[:rank])
    share = slice(first, first + counts[rank])
    audio, text = (_unit(5, seed=seed).detach()[share].clone().requires_grad_() for seed in (0, 1))
    batch = batch_of(CAPTIONS[share], {0: ("wind",), 3: ("rain", "a cat")}, first=first)
    encoded = Encoded(model, batch)
    vars(encoded).update(audio=audio, text=text)  # as if the towers had been asked already
    loss = objective(model, batch, encoded)["contrast"]
    (2 * loss).backward()
    # Data-parallel training averages gradients over the processes; rows belong to one process each.
    shares = [gradient / distributed.world_size() for gradient in (audio.grad, text.grad)]
    return [value.detach().numpy() for value in (loss, *shares, *(p.grad for p in objective.parameters()))]


FORMS = [{}, {"chunk": 2}, {"gather": "ring"}, {"gather": "ring", "chunk": 2}]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("rule", ["pair", "caption"])
@pytest.mark.parametrize("kind", [Softmax, Sigmoid])
def test_every_form_is_the_plain_one(kind, rule, form):
    plain = _values_and_gradients(kind.Config(positives=rule))
    for value, expected in zip(_values_and_gradients(kind.Config(positives=rule, **form)), plain, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


def _all_forms() -> list[list[np.ndarray]]:
    return [_values_and_gradients(config) for config in CONFIGS]


CONFIGS = [
    kind.Config(positives=rule, **form) for kind in (Softmax, Sigmoid) for rule in ("pair", "caption") for form in FORMS
]


@pytest.mark.parametrize("world_size", [2, 4])
def test_several_processes_equal_one(world_size):
    answers = processes.run(_all_forms, world_size=world_size)
    for number, config in enumerate(CONFIGS):
        alone = _values_and_gradients(_plain(config))
        shares = [answer[number] for answer in answers]
        for share in shares:
            for place in (0, *range(3, len(alone))):
                np.testing.assert_allclose(share[place], alone[place], atol=1e-5, err_msg=str(config))
        for place in (1, 2):
            together = np.concatenate([share[place] for share in shares])
            np.testing.assert_allclose(together, alone[place], atol=1e-5, err_msg=str(config))


def _plain(config):
    """The plain form of a config, for one process."""
    return replace(config, gather="gathered", chunk=None)


def _local() -> list[list[np.ndarray]]:
    return [_values_and_gradients(config) for config in LOCAL]


LOCAL = [Softmax.Config(gather="local"), Sigmoid.Config(gather="local", chunk=2), GLAP_AS_RELEASED]


def test_local_comparison_knows_no_other_process():
    answers = processes.run(_local)
    for rank, answer in enumerate(answers):
        for config, values in zip(LOCAL, answer, strict=True):
            alone = _values_and_gradients(config, as_rank=rank, world_size=2)
            for place, (value, expected) in enumerate(zip(values, alone, strict=True)):
                # Rows were divided by the number of processes there, and by one here.
                np.testing.assert_allclose(value * (2 if place in (1, 2) else 1), expected, atol=1e-6)


def test_the_released_form_divides_by_a_temperature_and_adds_a_little():
    objective = GLAP.build(tiny.model())
    assert {name: round(p.item(), 4) for name, p in objective.named_parameters()} == {
        "temperature": 0.07,
        "bias": -10.0,
    }
    torch.testing.assert_close(objective.scale, torch.tensor(1 / 0.07))
    described, released = _values_and_gradients(GLAP)[0], _values_and_gradients(GLAP_AS_RELEASED)[0]
    audio, text = _unit(5).detach(), _unit(5, seed=1).detach()
    little = audio.abs().mean() / audio.norm() + text.abs().mean() / text.norm()
    np.testing.assert_allclose(released - described, little.numpy(), atol=1e-5)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="chunk must be at least 1, or None for no blocks, got 0"):
        Softmax.Config(chunk=0)
    with pytest.raises(ValueError, match='gather="local", got gathered'):
        Sigmoid.Config(spread=True)


def test_what_is_learned_is_in_the_state():
    assert set(Softmax.Config().build(tiny.model()).state_dict()) == {"log_scale"}
    assert set(Sigmoid.Config().build(tiny.model()).state_dict()) == {"log_scale", "bias"}
    assert set(GLAP.build(tiny.model()).state_dict()) == {"temperature", "bias"}


def test_what_is_learned_says_what_a_cosine_means():
    model = tiny.model()
    assert Softmax.Config(temperature=0.05).build(model).logits().scale == pytest.approx(20.0)
    found = GLAP.build(model).logits()
    assert (found.loss, found.bias) == ("sigmoid", -10.0) and found.scale == pytest.approx(1 / 0.07)
    inner = Visible.Config(GLAP).build(model).logits()
    assert inner == found
    assert Learner(model, [Visible.Config(GLAP).build(model)], {}).logits() == found
    assert Learner(model, [], {}).logits() is None


def test_a_scale_beyond_its_bound_is_brought_back_and_keeps_its_gradient():
    """Bounded in the forward, it would have no gradient once there."""
    objective = Softmax.Config(temperature=0.01).build(tiny.model())
    with torch.no_grad():
        objective.log_scale.add_(1.0)
    objective.after_step(tiny.model(), step=0)
    assert objective.log_scale.exp().item() == pytest.approx(100.0)
    objective.log_scale.exp().backward()
    assert objective.log_scale.grad > 0
