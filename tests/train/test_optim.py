from itertools import pairwise

import pytest
import torch
from torch import nn

import tiny
from lapis.objectives.contrast import Softmax
from lapis.objectives.learner import Learner
from lapis.train.optim import AdamW, Constant, Cosine, Lars, Sgd, rates


def test_cosine_rises_then_falls():
    schedule = Cosine(peak=1.0, warmup_steps=10, end=0.1)
    rates = [schedule(step, steps=110) for step in range(110)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == rates[10] == 1.0
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert schedule(60, steps=110) == pytest.approx(0.55) and schedule(110, steps=110) == pytest.approx(0.1)


def test_constant_rises_then_stays():
    assert [Constant(2.0, warmup_steps=4)(step, steps=9) for step in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert Constant(2.0)(0, steps=1) == 2.0


def test_only_matrices_decay_and_frozen_parameters_stay_out():
    model = tiny.model()
    model.text_projection.requires_grad_(False)
    decayed, kept = AdamW(weight_decay=0.3).build(model).param_groups
    assert decayed["weight_decay"] == 0.3 and kept["weight_decay"] == 0.0
    assert {p.ndim for p in kept["params"]} == {1} and all(p.ndim >= 2 for p in decayed["params"])
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert len(decayed["params"]) + len(kept["params"]) == len(trainable) < len(list(model.parameters()))


def _learner():
    model = tiny.model()
    return Learner(model, [Softmax.Config().build(model)], {"contrast": 1.0})


def test_the_longest_beginning_of_a_name_decides_its_rate():
    found = rates(_learner(), factors={"model": 0.5, "model.text_encoder": 0.1, "objectives": 2.0}, layer_decay=None)
    assert found["model.text_encoder.table.weight"] == 0.1
    assert {found[name] for name in found if "audio" in name} == {0.5}
    assert found["objectives.0.log_scale"] == 2.0
    with pytest.raises(ValueError, match=r"no trainable parameter of 'model\.text', did you mean"):
        AdamW(factors={"model.text": 0.1}).build(_learner())


def test_layers_further_down_learn_less():
    found = rates(_learner(), factors={}, layer_decay=0.5)
    assert {found[name] for name in found if ".patches." in name} == {0.25}
    assert {found[name] for name in found if ".blocks.0." in name} == {0.5}
    assert {found[name] for name in found if ".blocks.1." in name or ".pooling." in name} == {1.0}
    assert found["model.audio_encoder.transformer.norm.weight"] == found["objectives.0.log_scale"] == 1.0
    groups = AdamW(layer_decay=0.5).build(_learner()).param_groups
    assert {group["factor"] for group in groups} == {0.25, 0.5, 1.0}
    assert sum(len(group["params"]) for group in groups) == len(found)


@pytest.mark.parametrize("shares", [{"factors": {"model": -1.0}}, {"layer_decay": 0.0}, {"layer_decay": 1.5}])
def test_rates_that_make_no_sense_are_refused(shares):
    for kind in (AdamW, Lars, Sgd):
        with pytest.raises(ValueError, match="factors must not be negative"):
            kind(**shares)


def test_lars_takes_the_steps_of_its_paper():
    layer = nn.Linear(3, 2)
    optimizer = Lars(momentum=0.9, weight_decay=0.1, trust=0.02).build(layer)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    velocity, of_bias = torch.zeros_like(weight), torch.zeros_like(bias)
    for step in range(3):
        for group in optimizer.param_groups:
            group["lr"] = 0.5 * group["factor"]
        gradient = torch.full((2, 3), 1.0 + step)
        layer.weight.grad, layer.bias.grad = gradient.clone(), torch.tensor([1.0, -2.0])
        optimizer.step()
        local = 0.02 * weight.norm() / (gradient.norm() + 0.1 * weight.norm())
        velocity = 0.9 * velocity + 0.5 * local * (gradient + 0.1 * weight)
        of_bias = 0.9 * of_bias + 0.5 * torch.tensor([1.0, -2.0])
        weight, bias = weight - velocity, bias - of_bias
        torch.testing.assert_close(layer.weight.detach(), weight)
        torch.testing.assert_close(layer.bias.detach(), bias)


def test_lars_leaves_zero_and_what_has_no_gradient():
    layer = nn.Linear(2, 2, bias=False)
    frozen = nn.Parameter(torch.ones(2, 2))
    layer.frozen = frozen
    nn.init.zeros_(layer.weight)
    optimizer = Lars().build(layer)
    optimizer.param_groups[0]["lr"] = 1.0
    layer.weight.grad = torch.ones(2, 2)
    optimizer.step()
    assert (layer.weight == -1).all() and (frozen == 1).all()


def test_sgd_remembers_and_takes_shares():
    model = tiny.model()
    optimizer = Sgd(momentum=0.5, factors={"text_encoder": 0.1}).build(model)
    assert {group["factor"] for group in optimizer.param_groups} == {0.1, 1.0}
    assert all(group["weight_decay"] == 0 and group["momentum"] == 0.5 for group in optimizer.param_groups)
    weight = nn.Linear(1, 1, bias=False)
    nn.init.ones_(weight.weight)
    optimizer = Sgd(momentum=0.5).build(weight)
    optimizer.param_groups[0]["lr"] = 0.1
    for expected in (0.9, 0.75):  # the second step is 1 + 0.5 times the first gradient
        weight.weight.grad = torch.ones(1, 1)
        optimizer.step()
        assert weight.weight.item() == pytest.approx(expected)
