"""Self-distillation: its masks, its balancing, its teacher, its alarm, across processes and at its extremes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import processes
import tiny
from lapis import distributed
from lapis.audio_encoders.dasheng import Dasheng
from lapis.audio_encoders.slap import Slap
from lapis.objectives.balancing import sinkhorn, sinkhorn_plain
from lapis.objectives.distill import Distill, masked_patches, momentum_at
from lapis.objectives.learner import Encoded, Learner
from lapis.ragged import Ragged
from objectives.heard import assert_equal, heard, values_and_gradients

SMALL = Distill.Config(steps=50, hidden=24, bottleneck=8, prototypes=12)


def _scores(count, prototypes=12, seed=0):
    return torch.rand(count, prototypes, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _learner(config=SMALL, **changes):
    model = tiny.model(**changes)
    return Learner(model, [config.build(model)], {"distill": 1.0})


def _step(learner, batch, *, step, rate=1e-3):
    found = learner(batch)
    found.total.backward()
    with torch.no_grad():
        for parameter in learner.parameters():
            if parameter.grad is not None:
                parameter.sub_(rate * parameter.grad)
                parameter.grad = None
    learner.after_step(step=step)
    return found


def test_half_of_each_clip_is_masked_and_a_draw_has_always_the_same_mask():
    lengths, numbers = (1, 2, 3, 4, 8, 101, 752), (7, 8, 9, 10, 11, 12, 13)
    chosen = masked_patches(lengths, numbers=numbers, share=0.5, seed=0).split(lengths)
    assert [int(clip.sum()) for clip in chosen] == [round(0.5 * length) for length in lengths]
    torch.manual_seed(5)  # the global state has no part in it
    alone = masked_patches(lengths[-1:], numbers=numbers[-1:], share=0.5, seed=0)
    assert torch.equal(alone, chosen[-1])
    others = masked_patches((752, 752), numbers=(13, 14), share=0.5, seed=1).split((752, 752))
    for other in others:  # of another seed or draw
        assert 0.3 < float((other == alone).float().mean()) < 0.7


@pytest.mark.parametrize("count", [1, 3, 40])
def test_sinkhorn_is_its_plain_twin(count):
    scores = _scores(count)
    plain = sinkhorn_plain(scores, temperature=0.05, iterations=3)
    torch.testing.assert_close(sinkhorn(scores, temperature=torch.tensor(0.05), iterations=3), plain)


def test_balanced_targets_use_all_prototypes_alike():
    targets = sinkhorn(_scores(60), temperature=torch.tensor(0.3), iterations=50)
    torch.testing.assert_close(targets.sum(1), torch.ones(60))
    torch.testing.assert_close(targets.sum(0), torch.full((12,), 60 / 12))


def _balanced(counts):
    rank = distributed.rank()
    own = _scores(sum(counts)).split(counts)[rank]
    return sinkhorn(own, temperature=torch.tensor(0.05), iterations=3).numpy()


@pytest.mark.parametrize("counts", [(5, 2), (4, 0, 3, 1)])
def test_balancing_is_over_the_tokens_of_all_processes(counts):
    shares = processes.run(_balanced, counts, world_size=len(counts))
    expected = sinkhorn_plain(_scores(sum(counts)), temperature=0.05, iterations=3)
    np.testing.assert_allclose(np.concatenate(shares), expected, atol=1e-6)


def test_it_is_finite_at_the_widest_scores_and_lowest_temperature():
    scores = torch.tensor([[1.0, -1.0], [1.0, -1.0], [-1.0, 1.0]])
    targets = sinkhorn(scores, temperature=torch.tensor(0.025), iterations=3)
    assert targets.isfinite().all() and (targets >= 0).all()
    assert not sinkhorn(_scores(0), temperature=torch.tensor(0.05), iterations=3).numel()
    with pytest.raises(ValueError, match=r"temperatures of at least 0\.025"):
        Distill.Config(teacher_temperature=0.01)


@pytest.mark.parametrize("counts", [(3, 2), (2, 1, 1, 3)])
def test_several_processes_equal_one(counts):
    alone = values_and_gradients(Distill, SMALL, (sum(counts),))
    assert alone.keys() >= {"distill", "teacher_entropy", "objective.mask", "objective.head.prototypes"}
    for share in processes.run(values_and_gradients, Distill, SMALL, counts, world_size=len(counts)):
        assert_equal(share, alone)


def test_the_loss_is_the_written_out_sum():
    """Cross-entropy of the masked tokens alone, the mean within a clip and then over clips."""
    model, batch = tiny.model(), heard(range(3))
    objective = SMALL.build(model).eval()
    model.eval()
    found = objective(model, batch, Encoded(model, batch))["distill"]
    encoder = model.audio_encoder
    patches = encoder.embed_patches(batch.waveforms)
    chosen = masked_patches(patches.lengths, numbers=(0, 1, 2), share=0.5, seed=0)
    rows = patches.rows.clone()
    rows[chosen] = objective.mask
    student = objective.head(encoder.encode_patches(Ragged(rows, patches.lengths)).rows)
    teacher = objective.teacher_head(objective.teacher(batch.waveforms).rows)
    targets = torch.zeros_like(teacher)
    targets[chosen] = sinkhorn_plain(teacher[chosen], temperature=0.04, iterations=3)
    of_token = -(targets * (student / 0.1).log_softmax(-1)).sum(-1)
    of_clip = [
        loss[mask].mean()
        for loss, mask in zip(of_token.split(patches.lengths), chosen.split(patches.lengths), strict=True)
    ]
    torch.testing.assert_close(found, torch.stack(of_clip).mean())


def test_the_teacher_has_no_gradient_hears_the_clean_clip_and_moves():
    learner = _learner()
    learner.train()
    (objective,) = learner.objectives
    assert not objective.teacher.training and not objective.teacher_head.training and objective.head.training
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    _step(learner, heard(range(4)), step=0, rate=0.1)
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())
    momentum = momentum_at(0, config=SMALL)
    own = dict(learner.model.audio_encoder.named_parameters())
    for name, average in objective.teacher.named_parameters():
        torch.testing.assert_close(average, momentum * before[f"teacher.{name}"] + (1 - momentum) * own[name])
    assert not torch.equal(objective.state_dict()["teacher_head.prototypes"], before["teacher_head.prototypes"])
    assert not any("pooling" in name for name in before)


def test_the_momentum_rises_by_half_a_cosine():
    assert momentum_at(0, config=SMALL) == pytest.approx(0.994)
    assert momentum_at(49, config=SMALL) == 1.0
    middle = replace(SMALL, steps=51)
    assert momentum_at(25, config=middle) == pytest.approx(0.997)


def test_a_run_longer_than_its_steps_is_refused():
    learner = _learner()
    with pytest.raises(ValueError, match="step 50 is beyond the 50 steps"):
        learner.after_step(step=50)


@pytest.mark.parametrize("columns", [1, 2])
def test_clips_of_one_token(columns):
    """One token cannot be half masked: such a clip has no part, and where no clip has one the loss is zero."""
    audio = Slap.Config(width=16, depth=2, heads=2, hidden=24, patch_mels=64)
    learner = _learner(audio=audio)
    batch = heard(range(1, 2))
    shortened = replace(batch, waveforms=batch.waveforms.first((160 * 16 * columns - 161,)))
    found = _step(learner, shortened, step=0)
    assert found.total.isfinite()
    assert (found.total.item() == 0.0) == (columns == 1)
    assert bool(found.measures) == (columns == 2)


def _alone_and_empty(counts):
    """One process's clip has nothing to mask, the other's has."""
    model = tiny.model(audio=Slap.Config(width=16, depth=2, heads=2, hidden=24, patch_mels=64))
    torch.manual_seed(1)
    objective = SMALL.build(model)
    rank = distributed.rank()
    batch = heard(range(rank, rank + 1))
    if rank == counts:
        batch = replace(batch, waveforms=batch.waveforms.first((2000,)))
    loss = objective(model, batch, Encoded(model, batch))["distill"]
    loss.backward()
    return float(loss.detach()), bool(objective.mask.grad.isfinite().all())


def test_a_process_with_nothing_to_mask_takes_part():
    (one, fine), (other, also) = processes.run(_alone_and_empty, 0)
    assert one == other > 0 and fine and also


def test_all_may_be_masked():
    learner = _learner(replace(SMALL, masked=1.0))
    assert _step(learner, heard(range(2)), step=0).total.isfinite()


def test_equal_clips_are_finite():
    clip = heard(range(1))
    batch = replace(clip, waveforms=Ragged.pack(clip.waveforms.split() * 3), draws=clip.draws * 3, captions=("a",) * 3)
    assert _step(_learner(), batch, step=0).total.isfinite()


def test_under_autocast_it_is_near():
    batch = heard(range(4))
    exact = _learner()(batch)
    with torch.autocast("cpu", torch.bfloat16):
        found = _learner()(batch)
    found.total.backward()
    assert float((found.total - exact.total).abs()) < 0.1 * float(exact.total)


def test_it_learns_to_say_what_the_teacher_says():
    """What falls is the part above the entropy of the targets, below which no answer can come."""
    learner = _learner(
        replace(SMALL, steps=200), audio=Slap.Config(width=32, depth=2, heads=4, hidden=48, augment=None)
    )
    optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=3e-3)
    batch = heard(range(8))
    gaps = []
    for step in range(60):
        found = learner(batch)
        found.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        learner.after_step(step=step)
        gaps.append(float(found.total.detach()) - float(found.measures["teacher_entropy"]) * math.log(12))
    assert gaps[-1] < 0.5 * gaps[0]
    assert float(found.measures["prototype_usage"]) > 0.5


def test_the_alarm_stops_a_collapsed_run_and_says_why():
    """With all prototypes alike every target is flat."""
    learner = _learner(replace(SMALL, patience=3))
    (objective,) = learner.objectives
    with torch.no_grad():
        objective.teacher_head.prototypes[:] = objective.head.prototypes[:] = objective.head.prototypes[0]
    batch = heard(range(4))
    for step in range(2):
        found = _step(learner, batch, step=step, rate=0.0)
    assert float(found.measures["teacher_entropy"]) == pytest.approx(1.0, abs=1e-4)
    state = learner.state_dict()
    resumed = _learner(replace(SMALL, patience=3))
    resumed.load_state_dict(state)
    with pytest.raises(ValueError, match=r"self-distillation collapsed: for 3 steps .*flatter.*prototypes"):
        _step(resumed, batch, step=2, rate=0.0)


def test_steps_that_are_fine_calm_the_alarm():
    learner = _learner(replace(SMALL, patience=3))
    (objective,) = learner.objectives
    objective.collapsed.fill_(2)
    _step(learner, heard(range(4)), step=0)
    assert int(objective.collapsed) == 0


def test_it_goes_on_exactly_after_an_interruption():
    """SpecAugment's draws apart, which the checkpoint's random state repeats, nothing is drawn from it."""
    audio = Slap.Config(width=16, depth=2, heads=2, hidden=24, augment=None)
    whole, halved = _learner(audio=audio), _learner(audio=audio)
    batches = [heard(range(3)), heard(range(2, 6)), heard(range(4, 8))]
    for step, batch in enumerate(batches):
        expected = _step(whole, batch, step=step)
    for step, batch in enumerate(batches[:2]):
        _step(halved, batch, step=step)
    torch.manual_seed(99)
    resumed = _learner(audio=audio)
    resumed.load_state_dict(halved.state_dict())
    assert torch.equal(_step(resumed, batches[2], step=2).total, expected.total)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_a_tower_that_cannot_be_masked_is_refused():
    with pytest.raises(ValueError, match=r"whose patches can be masked .*got Dasheng"):
        SMALL.build(tiny.model(audio=Dasheng.Config(width=16, depth=1, heads=2)))


def test_full_size_on_the_meta_device():
    with torch.device("meta"):
        model = tiny.model(audio=Slap.Config())
        objective = Distill.Config().build(model)
    trained = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    head = (768 + 1) * 2048 + (2048 + 1) * 2048 + (2048 + 1) * 256 + 16_384 * 256
    assert trained == head + 768
    assert sum(p.numel() for p in objective.teacher.parameters()) == 113_462_016
