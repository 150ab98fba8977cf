from itertools import pairwise

import pytest

import tiny
from lapis.train.optim import AdamW, Constant, Cosine


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
