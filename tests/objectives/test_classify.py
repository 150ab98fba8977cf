"""Classification against its loss written out, in several processes as in one, masked, mixed, and at its extremes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import processes
import tiny
from lapis import distributed, saved
from lapis.audio_encoders.m2d import ClassHead, M2d
from lapis.data.batching import Batch, Draw
from lapis.data.mixing import overlaid, pairs
from lapis.data.sample import Location, Sample
from lapis.layers.augment import SpecAugment
from lapis.layers.masking import Masking
from lapis.objectives.classify import Classify, classification_loss
from lapis.objectives.learner import Encoded
from lapis.ragged import Ragged

CLASSES = ("dog", "rain", "wind")
LABELS = ("dog", "rain;wind", "wind", "dog;rain", "rain", "dog", "wind;dog", "rain", "dog")
SECONDS = (0.4, 0.9, 0.05, 2.1, 0.4, 0.2, 0.7, 1.2, 0.3)
ENCODER = M2d.Config(width=16, depth=2, heads=2, hidden=24, columns=6, chunk_frames=96, classes=3)
AUGMENTED = replace(ENCODER, augment=SpecAugment.Config(time_masks=1, time_frames=20, band_masks=1, bands=30))
FULL = Classify.Config(CLASSES, masking=Masking(ratio=0.5, shape="structured"), mixup=0.5)


def _batch(share: range = range(9), labels: tuple[str | None, ...] = LABELS) -> Batch:
    generator = torch.Generator().manual_seed(0)
    waveforms = [0.1 * torch.randn(round(16_000 * seconds), generator=generator) for seconds in SECONDS]
    draws = tuple(Draw(n, Sample(f"clip{n}", Location(Path("nowhere")), label=labels[n])) for n in share)
    return Batch(Ragged.pack([waveforms[n] for n in share]), ("",) * len(share), draws, share.stop)


def _term(objective, model, batch):
    return objective(model, batch, Encoded(model, batch))["classify"]


def _model(encoder=ENCODER):
    return tiny.model(audio=encoder)


def _logits_by_hand(head: ClassHead, means: torch.Tensor) -> torch.Tensor:
    centred = means - means.mean(0)
    return (centred / (centred.square().mean(0) + 1e-5).sqrt()) @ head.linear.weight.T + head.linear.bias


def test_several_classes_are_told_by_binary_cross_entropy():
    model, batch = _model(), _batch()
    term = _term(Classify.Config(CLASSES).build(model), model, batch)
    logits = _logits_by_hand(model.audio_encoder.head, model.audio_tokens(batch.waveforms).mean())
    expected = torch.zeros(())
    for row, label in zip(logits, LABELS, strict=True):
        for logit, name in zip(row, CLASSES, strict=True):
            chance = torch.sigmoid(logit)
            expected = expected - (chance.log() if name in label.split(";") else (1 - chance).log())
    torch.testing.assert_close(term, expected / 27)


def test_one_class_is_told_by_cross_entropy_over_clips_or_over_classes_too():
    labels = tuple(label.split(";")[0] for label in LABELS)
    model, batch = _model(), _batch(labels=labels)
    config = Classify.Config(CLASSES, kind="single-label")
    term = _term(config.build(model), model, batch)
    logits = _logits_by_hand(model.audio_encoder.head, model.audio_tokens(batch.waveforms).mean())
    chances = logits.softmax(1)
    expected = -torch.stack([chances[i, CLASSES.index(label)].log() for i, label in enumerate(labels)]).mean()
    torch.testing.assert_close(term, expected)
    torch.testing.assert_close(_term(replace(config, divided=True).build(model), model, batch), expected / 3)


def test_sound_and_classes_are_mixed_alike():
    model, batch = _model(), _batch()
    objective = Classify.Config(CLASSES, mixup=0.5, seed=4).build(model)
    of = pairs(range(9), alpha=0.5, seed=4)
    targets = of.mixed(torch.tensor([[float(name in label.split(";")) for name in CLASSES] for label in LABELS]))
    tokens = model.audio_tokens(overlaid(batch.waveforms, of))
    expected = classification_loss(
        _logits_by_hand(model.audio_encoder.head, tokens.mean()), targets=targets, kind="multi-label"
    )
    torch.testing.assert_close(_term(objective, model, batch), expected)
    plain = Classify.Config(CLASSES).build(model).eval()
    torch.testing.assert_close(_term(objective.eval(), model, batch), _term(plain, model, batch))


def test_half_of_the_patches_are_left_out_in_training_only():
    model, batch = _model(), _batch()
    seen = []
    model.audio_encoder.transformer.register_forward_hook(lambda _, arguments, __: seen.append(arguments[0].lengths))
    objective = Classify.Config(CLASSES, masking=FULL.masking).build(model)
    masked, whole = _term(objective, model, batch), _term(objective.eval(), model, batch)
    assert masked != whole
    for few, all_of_them in zip(*seen, strict=True):
        assert few - 1 == max(1, (all_of_them - 1) // 2)


def test_a_head_of_the_tower_is_saved_with_it(tmp_path):
    model, batch = _model(), _batch()
    objective = FULL.build(model)
    assert objective.head is None
    before = model.audio_encoder.head.linear.weight.clone()
    optimizer = torch.optim.AdamW([*model.parameters(), *objective.parameters()], lr=1e-2)
    _term(objective, model, batch).backward()
    optimizer.step()
    saved.save(replace_text(model), tmp_path)
    opened = saved.open(tmp_path).audio_encoder.head
    assert torch.equal(opened.linear.weight, model.audio_encoder.head.linear.weight)
    assert not torch.equal(opened.linear.weight, before) and opened.norm.running_mean.abs().sum() > 0


def replace_text(model):
    """The same tower without texts, whose tiny tower is no part of the package."""
    bare = replace(model.config, text=None).build()
    bare.load_state_dict({n: t for n, t in model.state_dict().items() if not n.startswith("text_")})
    return bare


def test_other_towers_get_a_head_that_only_training_has():
    model, batch = tiny.model(), _batch()
    objective = Classify.Config(CLASSES, mixup=0.5).build(model)
    assert isinstance(objective.head, ClassHead)
    term = _term(objective, model, batch)
    term.backward()
    assert term.isfinite() and objective.head.linear.weight.grad.abs().sum() > 0


def _values_and_gradients(counts: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The term, the averaged gradients and the statistics after it, of a process's share."""
    rank, counts = (distributed.rank(), counts) if distributed.is_running() else (0, (sum(counts),))
    first = sum(counts[:rank])
    model = _model(AUGMENTED)
    torch.manual_seed(100 + rank)  # as in training: processes draw other random numbers
    term = _term(FULL.build(model), model, _batch(range(first, first + counts[rank])))
    term.backward()
    found = {"classify": term.detach().numpy()}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            found[name] = distributed.gather(parameter.grad[None]).mean(0).numpy()
    norm = model.audio_encoder.head.norm
    return found | {"mean": norm.running_mean.numpy(), "variance": norm.running_var.numpy()}


@pytest.mark.parametrize("counts", [(5, 4), (3, 1, 3, 2)], ids=["two", "four"])
def test_several_processes_are_as_one(counts):
    """Masks, mixtures, SpecAugment and batch norm: values, gradients and statistics."""
    expected = _values_and_gradients(counts)
    assert len(expected) > 10
    for found in processes.run(_values_and_gradients, counts, world_size=len(counts)):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, atol=1e-5, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_one_clip_alone_has_a_finite_loss(precision):
    model, batch = _model(AUGMENTED), _batch(range(2, 3))
    objective = FULL.build(model)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        term = _term(objective, model, batch)
    term.backward()
    assert term.isfinite() and term.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"model.audio.classes is 3, and the objective names 2 classes"):
        Classify.Config(("dog", "rain")).build(_model())
    with pytest.raises(ValueError, match="masks need M2D's audio tower, this model has Slap"):
        FULL.build(tiny.model())
    with pytest.raises(ValueError, match="mixup: expected at least 0, got -1"):
        Classify.Config(CLASSES, mixup=-1.0)
    with pytest.raises(ValueError, match="divided: the mean of a multi-label loss"):
        Classify.Config(CLASSES, divided=True)
    model, labels = _model(), ("cat", *LABELS[1:])
    with pytest.raises(ValueError, match="clip clip0 has label 'cat', which is none of the 3 classes"):
        _term(Classify.Config(CLASSES).build(model), model, _batch(labels=labels))
