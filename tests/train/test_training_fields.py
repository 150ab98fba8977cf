"""What the fields of `Training` do: several batches a step, half precision, averages, the best model, recomputing."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from torch import nn

import tiny
from data.corpus import tones, write_tar
from lapis.data.batching import Batch
from lapis.data.sources import Tars
from lapis.layers.transformer import Block
from lapis.objectives.contrast import Softmax
from lapis.objectives.learner import Learner
from lapis.train.average import Average
from lapis.train.checkpoint import Checkpoints
from lapis.train.loop import Training, train
from lapis.train.optim import AdamW, Constant
from lapis.train.recompute import recomputed_blocks
from lapis.train.report import Report, read_log


@pytest.fixture
def batch(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    write_tar(tmp_path / "a.tar", tones(6))
    return tiny.batch(Tars("a.tar"))


class Run:
    """A run on one batch again and again, and what it measured and wrote."""

    def __init__(self, batch, folder, *, scores=None, steps=6, weight=1.0, **training):
        model = tiny.model(audio=replace(tiny.CONFIG.audio, augment=None))
        torch.manual_seed(1)
        self.learner = Learner(model, [Softmax.Config().build(model)], {"contrast": weight})
        self.measured, self.written = [], {}
        scores = iter(scores or [0.5] * steps)

        def batches(position):
            for number in count(position // len(batch)):
                yield Batch(batch.waveforms, batch.captions, batch.draws, (number + 1) * len(batch))

        def validate(model):
            self.measured.append(_weights(model))
            return {"score": next(scores)}

        self.progress = train(
            self.learner,
            batches=batches,
            optimizer_config=AdamW(),
            schedule=Constant(3e-3),
            training=Training(steps=steps, **{"validate_every": 2, "save_every": 2} | training),
            checkpoints=Checkpoints(folder, recipe={}),
            report=Report(folder, name="test", steps=steps),
            validate=validate,
            export=lambda model, name, objectives: self.written.update({name: _weights(model)}),
        )
        self.log = [line for line in read_log(folder / "log.jsonl") if "losses" in line]
        self.weights = _weights(model)


def _weights(model):
    return {name: tensor.detach().clone().numpy() for name, tensor in model.state_dict().items()}


def _same(one, other):
    assert one.keys() == other.keys()
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_two_equal_batches_are_a_step_like_one(batch, tmp_path):
    once, twice = Run(batch, tmp_path / "once"), Run(batch, tmp_path / "twice", accumulate=2)
    assert (once.progress.position, twice.progress.position) == (36, 72)
    assert [line["clips"] for line in twice.log] == [12] * 6
    for name, weight in once.weights.items():
        np.testing.assert_allclose(twice.weights[name], weight, atol=1e-6, err_msg=name)


def test_float16_learns_and_skips_what_overflows(batch, tmp_path):
    run = Run(batch, tmp_path / "run", steps=30, precision="float16", weight=1e2)
    norms = [line["gradient_norm"] for line in run.log]
    assert norms[0] is None and norms[-1] is not None
    assert run.log[0]["losses"] == run.log[1]["losses"] != run.log[-1]["losses"]
    assert run.log[-1]["losses"]["contrast"] < run.log[0]["losses"]["contrast"]


def test_the_scale_of_float16_goes_on_where_it_was(batch, tmp_path):
    whole = Run(batch, tmp_path / "whole", steps=6, precision="float16")
    Run(batch, tmp_path / "parts", steps=3, precision="float16")
    assert _same(Run(batch, tmp_path / "parts", steps=6, precision="float16").weights, whole.weights)


def test_the_average_follows_the_weights():
    layer = nn.Linear(1, 1, bias=False)
    frozen = nn.Linear(1, 1, bias=False).requires_grad_(False)
    with torch.no_grad():
        layer.weight.fill_(0.0)
    average = Average(nn.Sequential(layer, frozen), decay=0.5)
    expected = 0.0
    for step, value in enumerate([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]):
        with torch.no_grad():
            layer.weight.fill_(value)
        average.update(step=step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.state_dict().keys() == {"0.weight"}
    with average.in_place():
        assert layer.weight.item() == pytest.approx(expected)
    assert layer.weight.item() == 10.0


def test_the_average_is_measured_and_written_beside_the_weights(batch, tmp_path):
    plain, averaged = Run(batch, tmp_path / "plain"), Run(batch, tmp_path / "averaged", average=0.9)
    assert _same(averaged.weights, plain.weights) and _same(averaged.written[""], plain.weights)
    assert _same(averaged.measured[-1], averaged.written["average"])
    assert not _same(averaged.written["average"], averaged.written[""])
    assert "average" not in plain.written
    Run(batch, tmp_path / "parts", average=0.9, steps=3)
    assert _same(Run(batch, tmp_path / "parts", average=0.9).written["average"], averaged.written["average"])


def test_the_best_is_kept_and_remembered(batch, tmp_path):
    run = Run(batch, tmp_path / "run", scores=[0.2, 0.9, 0.5], keep_best="score")
    assert run.progress.best == 0.9
    assert _same(run.written["best"], run.measured[1]) and not _same(run.written["best"], run.written[""])
    more = Run(batch, tmp_path / "run", scores=[0.8], steps=8, keep_best="score")
    assert more.progress.best == 0.9 and more.written.keys() == {""}
    with pytest.raises(ValueError, match=r"keep_best: no score 'recall' among \['score'\]"):
        Run(batch, tmp_path / "other", keep_best="recall")


def test_recomputed_blocks_give_the_same_weights(batch, tmp_path):
    plain = Run(batch, tmp_path / "plain")
    recomputed = Run(batch, tmp_path / "recomputed", checkpoint_activations=True)
    assert _same(recomputed.weights, plain.weights)


def test_recomputed_blocks_run_twice_and_only_while_asked(batch):
    model = tiny.model()
    block = next(module for module in model.modules() if isinstance(module, Block))
    calls = []
    block.attention.register_forward_hook(lambda *_: calls.append(1))
    with recomputed_blocks(model, enabled=True):
        model.audio_tokens(batch.waveforms).rows.sum().backward()
    assert len(calls) == 2 and "forward" not in vars(block)
    model.audio_tokens(batch.waveforms).rows.sum().backward()
    assert len(calls) == 3


def test_a_step_tells_its_speeds(batch, tmp_path):
    line = Run(batch, tmp_path / "run", count_operations=True, steps=2).log[-1]
    assert line["clips"] == 6 and line["audio_seconds"] == pytest.approx(1.95) and line["tokens"] > 6
    assert line["clips_per_second"] > 0 and line["tokens_per_second"] > line["clips_per_second"]
    assert line["speed_share"] > 0 and line["bottleneck"] in ("data", "computing")
    assert "speed_share" not in Run(batch, tmp_path / "plain", steps=1).log[0]


@pytest.mark.parametrize("field", [{"accumulate": 0}, {"average": 1.0}, {"average": -0.1}, {"clip_norm": 0.0}])
def test_what_makes_no_sense_is_refused(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        Training(steps=1, **field)
