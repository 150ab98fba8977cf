"""The cached step: the gradients of one pass, with parts of the batch in memory; random masks fall alike twice."""

from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import processes
import tiny
from data.corpus import tones, write_tar
from lapis import distributed
from lapis.audio_encoders.slap import Slap
from lapis.data.batching import Batch
from lapis.data.sources import Tars
from lapis.layers.augment import SpecAugment
from lapis.objectives.contrast import GLAP, Sigmoid, Softmax
from lapis.objectives.learner import Encoded, Learner, Objective
from lapis.train.cached import cached_backward, split
from lapis.train.loop import Training
from lapis.train.optim import AdamW
from lapis.train.parallel import Engine
from lapis.train.step import Stepper

NO_MASKS = Slap.Config(width=16, depth=2, heads=2, hidden=24, augment=None)
MASKS = replace(NO_MASKS, augment=SpecAugment.Config())


@pytest.fixture
def batch(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    write_tar(tmp_path / "a.tar", tones(6))
    return tiny.batch(Tars("a.tar"))


def _learner(config=Softmax.Config(), *, audio=NO_MASKS):
    model = tiny.model(audio=audio)
    torch.manual_seed(1)
    return Learner(model, [config.build(model)], {"contrast": 1.0}).train()


def _gradients(learner):
    return {name: p.grad.clone() for name, p in learner.named_parameters() if p.grad is not None}


def _one_pass(learner, batch):
    step = learner(batch)
    step.total.backward()
    return step.total.item(), _gradients(learner)


def _cached(learner, batch, *, clips, autocast=nullcontext):
    engine = Engine(learner)
    step = cached_backward(engine, batch, clips=clips, last=True, autocast=autocast, scaled=lambda total: total)
    return step.total.item(), _gradients(learner)


def _assert_close(found, expected, *, atol=1e-5):
    assert abs(found[0] - expected[0]) <= atol
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        torch.testing.assert_close(found[1][name], gradient, atol=atol, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("clips", [1, 4, 6, 100])
@pytest.mark.parametrize("config", [Softmax.Config(), Sigmoid.Config(chunk=4), GLAP], ids=["softmax", "chunk", "glap"])
def test_it_is_the_step_in_one_pass(batch, config, clips):
    expected = _one_pass(_learner(config), batch)
    assert max(gradient.abs().max() for gradient in expected[1].values()) > 1e-2
    _assert_close(_cached(_learner(config), batch, clips=clips), expected)


def test_masks_fall_alike_in_both_passes(batch):
    """Against one graph over the same parts, drawn in the same order."""
    learner = _learner(audio=MASKS)
    torch.manual_seed(5)
    parts = [Encoded(learner.model, part) for part in split(batch, 4)]
    whole = Encoded(learner.model, batch)
    vectors = [(part.audio, part.text) for part in parts]
    vars(whole).update({name: torch.cat(of) for name, of in zip(("audio", "text"), zip(*vectors))})
    step = learner.losses(batch, whole)
    step.total.backward()
    after = torch.rand(3)

    other = _learner(audio=MASKS)
    torch.manual_seed(5)
    _assert_close(_cached(other, batch, clips=4), (step.total.item(), _gradients(learner)))
    assert torch.equal(torch.rand(3), after)  # what comes next is random anew, and the same
    torch.manual_seed(6)
    assert abs(_cached(_learner(audio=MASKS), batch, clips=4)[0] - step.total.item()) > 1e-4


def test_half_precision_gives_the_towers_their_gradients(batch):
    """Weights cast for the pass without a graph must not be used again in the one with a graph."""
    autocast = partial(torch.autocast, "cpu", torch.bfloat16)
    learner = _learner()
    with autocast():
        step = learner(batch)
    step.total.backward()
    expected = _gradients(learner)
    for clips in (6, 2):
        total, found = _cached(_learner(), batch, clips=clips, autocast=autocast)
        assert abs(total - step.total.item()) < 0.02
        assert found.keys() == expected.keys()
        one, other = (torch.cat([of[name].flatten() for name in expected]) for of in (found, expected))
        assert (one - other).norm() < 0.03 * other.norm()


def test_a_tower_that_does_not_learn_is_left_alone(batch):
    learner, other = _learner(), _learner()
    for one in (learner, other):
        one.model.text_encoder.requires_grad_(False)
        one.model.text_projection.requires_grad_(False)
    _assert_close(_cached(other, batch, clips=2), _one_pass(learner, batch))


def test_parts_share_the_sound(batch):
    parts = list(split(batch, 4))
    assert [len(part) for part in parts] == [4, 2]
    assert [draw for part in parts for draw in part.draws] == list(batch.draws)
    assert torch.equal(torch.cat([part.waveforms.rows for part in parts]), batch.waveforms.rows)
    assert parts[1].waveforms.rows.untyped_storage().data_ptr() == batch.waveforms.rows.untyped_storage().data_ptr()


class _Tokens(Objective):
    def forward(self, model, batch, encoded):
        return {"contrast": encoded.tokens.rows.mean()}


def test_an_objective_that_needs_more_is_refused(batch):
    learner = Learner(tiny.model(), [_Tokens()], {"contrast": 1.0})
    with pytest.raises(ValueError, match="cached_clips: _Tokens needs more than the vectors"):
        _cached(learner, batch, clips=2)
    learner.objectives[0].vectors_only = True  # and one that says so wrongly
    with pytest.raises(ValueError, match="asked for tokens, and the cached step has none"):
        _cached(learner, batch, clips=2)


def test_a_batch_norm_is_refused_unless_it_is_still(batch):
    learner = _learner()
    learner.model.audio_projection = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.BatchNorm1d(8))
    with pytest.raises(ValueError, match=r"cached_clips: model\.audio_projection\.1 is a batch norm"):
        _cached(learner, batch, clips=2)
    learner.model.audio_projection[1].eval()
    assert np.isfinite(_cached(learner, batch, clips=2)[0])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_steps_of_the_optimiser_are_the_same(batch, accumulate):
    states = []
    for cached_clips in (None, 4):
        learner = _learner()
        optimizer = AdamW().build(learner)
        stepper = Stepper(
            Engine(learner), optimizer, precision="float32", clip_norm=1.0, seed=0, cached_clips=cached_clips
        )
        taken = [stepper([batch] * accumulate, step=step, rate=3e-3).total for step in range(4)]
        assert taken[-1] < taken[0]
        states.append((taken, learner.state_dict()))
    np.testing.assert_allclose(states[0][0], states[1][0], atol=1e-4)


def test_no_clips_at_a_time_are_refused():
    with pytest.raises(ValueError, match="cached_clips must be above zero, or None for one pass, got 0"):
        Training(steps=1, cached_clips=0)


def test_weights_that_are_spread_are_refused():
    """All processes gather them at once, and one may have more parts to embed than another."""
    with pytest.raises(ValueError, match="cached_clips and sharded do not go together"):
        Training(steps=1, cached_clips=2, sharded=True)


COUNTS = (4, 2)


def _of_a_process(batch: Batch, config) -> tuple[float, dict[str, np.ndarray]]:
    first = sum(COUNTS[: distributed.rank()])
    clips = range(first, first + COUNTS[distributed.rank()])
    share = Batch(
        batch.waveforms.take(clips), batch.captions[clips.start : clips.stop], batch.draws[clips.start : clips.stop], 6
    )
    learner = _learner(config)
    total, gradients = _cached(learner, share, clips=2)
    return total, {name: gradient.numpy() for name, gradient in gradients.items()}


@pytest.mark.parametrize("config", [Softmax.Config(), Sigmoid.Config(gather="ring", chunk=2)], ids=["softmax", "ring"])
def test_two_processes_with_uneven_parts_equal_one(batch, config):
    total, expected = _one_pass(_learner(replace(config, gather="gathered")), batch)
    for found, gradients in processes.run(_of_a_process, batch, config):
        assert abs(found - total) < 1e-5
        for name, gradient in expected.items():
            np.testing.assert_allclose(gradients[name], gradient, atol=1e-5, err_msg=name)
