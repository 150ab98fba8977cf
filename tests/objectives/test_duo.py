"""Masked modelling duo against the papers' words one patch at a time, across processes, and at its extremes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import processes
import tiny
from lapis import distributed
from lapis.audio_encoders.dasheng import Dasheng
from lapis.audio_encoders.m2d import M2d
from lapis.audio_encoders.slap import Slap
from lapis.data.batching import Batch, Draw
from lapis.data.sample import Location, Sample
from lapis.layers.masking import Masking
from lapis.layers.projection import Linear
from lapis.model import JointModel
from lapis.objectives.contrast import Softmax
from lapis.objectives.duo import Duo, masked_plain, regression
from lapis.objectives.learner import Encoded
from lapis.objectives.visible import Visible, parts_of, through, through_plain
from lapis.ragged import Ragged
from lapis.text_encoders.sentence import Sentence

ENCODER = M2d.Config(width=16, depth=2, heads=2, hidden=24, pooling="semantic", columns=6, chunk_frames=96)
# Two local layers that see two columns on each side, and one that sees all.
SLAP = Slap.Config(width=16, depth=3, heads=2, hidden=24, window_columns=4)
TOWERS = pytest.mark.parametrize("tower", [ENCODER, SLAP], ids=["M2d", "Slap"])
DUO = Duo.Config(width=16, depth=1, heads=2, steps=10)
SECONDS = (0.4, 0.9, 0.05, 2.1, 0.4)
CAPTIONS = ("a dog", "rain", "a dog", "wind", "a cat")


def _model(tower=ENCODER, **changes) -> JointModel:
    return tiny.model(audio=replace(tower, **changes))


def _batch(share: slice = slice(None)) -> Batch:
    generator = torch.Generator().manual_seed(0)
    waveforms = [0.1 * torch.randn(round(16_000 * seconds), generator=generator) for seconds in SECONDS][share]
    draws = tuple(
        Draw(number, Sample(f"clip{number}", Location(Path("nowhere")), {"eng_Latn": (caption,)}))
        for number, caption in enumerate(CAPTIONS)
    )[share]
    return Batch(Ragged.pack(waveforms), CAPTIONS[share], draws, 5)


def _terms(config, model, batch):
    objective = config.build(model)
    return objective, objective(model, batch, Encoded(model, batch))


def test_regression_is_the_distance_of_unit_vectors():
    predicted, target = torch.randn(7, 16), 3 + 2 * torch.randn(7, 16)
    standard = (target - target.mean(1, keepdim=True)) / (target.var(1, correction=1, keepdim=True) + 1e-6).sqrt()
    expected = (F.normalize(predicted, dim=1) - F.normalize(standard, dim=1)).square().sum(1)
    torch.testing.assert_close(regression(predicted, target), expected)
    torch.testing.assert_close(regression(-standard, target), torch.full((7,), 4.0))


@TOWERS
def test_fast_equals_plain(tower):
    """Clips of five lengths, one of them in several chunks of M2D's: value and every gradient."""
    model, batch = _model(tower), _batch()
    duo, terms = _terms(DUO, model, batch)
    encoder = model.audio_encoder
    chunks = encoder.embedded(batch.waveforms)
    assert (max(chunks.of_clip) > 1) == (tower is ENCODER)
    parts = parts_of(chunks, batch.draws, masking=DUO.masking, bands=encoder.bands, seed=DUO.seed)
    plain = masked_plain(duo, encoder, chunks, parts)
    torch.testing.assert_close(terms["masked"], plain, atol=1e-6, rtol=1e-5)
    named = {n: p for module in (encoder, duo) for n, p in module.named_parameters() if p.requires_grad}
    fast, slow = (
        torch.autograd.grad(loss, list(named.values()), allow_unused=True) for loss in (terms["masked"], plain)
    )
    for name, one, other in zip(named, fast, slow, strict=True):
        assert (one is None) == (other is None) == name.startswith(("semantic", "pooling")), name
        if one is not None:
            torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4, msg=name)


@TOWERS
def test_each_network_sees_only_its_own_patches(tower):
    model, batch = _model(tower), _batch(slice(1, 2))
    duo, encoder = DUO.build(model), model.audio_encoder
    chunks = encoder.embedded(batch.waveforms)
    parts = parts_of(chunks, batch.draws, masking=DUO.masking, bands=encoder.bands, seed=0)
    target = duo._targets(encoder, chunks.items, parts)

    def seen(items):
        return through(encoder, encoder.transformer, items=items, some=parts.shown).rows

    online, patches = seen(chunks.items), parts.visible[chunks.leading :]
    for numbers, unmoved, moved in ((patches, "target", "online"), (parts.hidden, "online", "target")):
        rows = chunks.items.rows.clone()
        rows[numbers] += 1
        other = Ragged(rows, chunks.items.lengths)
        again = {
            "target": torch.equal(duo._targets(encoder, other, parts), target),
            "online": torch.equal(seen(other), online),
        }
        assert again == {unmoved: True, moved: False}


def _drawn(tower, masking):
    """A clip's items, and what of them a mask leaves."""
    batch = _batch(slice(3, 4))
    encoder = _model(tower).audio_encoder
    chunks = encoder.embedded(batch.waveforms)
    return encoder, chunks.items, parts_of(chunks, batch.draws, masking=masking, bands=encoder.bands, seed=3)


def test_what_stays_keeps_its_place():
    """Moved by three columns, the same patches get the same answers; pushed together they do not."""
    encoder, items, parts = _drawn(SLAP, Masking(0.7))
    some, later = parts.visible[parts.visible < 40], 3 * encoder.bands
    moved = items.rows.roll(later, 0)
    answers = [
        through(encoder, encoder.transformer, items=Ragged(rows, items.lengths), some=Ragged(numbers, (len(numbers),)))
        for rows, numbers in ((items.rows, some), (moved, some + later))
    ]
    torch.testing.assert_close(answers[0].rows, answers[1].rows, atol=1e-5, rtol=1e-4)
    together = encoder.encode_patches(Ragged(items.rows[some], (len(some),)))
    assert (together.rows - answers[0].rows).abs().max() > 1e-3


def test_a_local_layer_sees_as_far_as_with_all_patches_there():
    """What lies beyond the window moves nothing, though fewer rows than the window has lie between."""
    encoder, items, _ = _drawn(replace(SLAP, depth=2), Masking())
    reach = encoder.transformer.blocks[0].window  # of each of the two layers
    some = torch.tensor([0, 2 * reach, 2 * reach + 1])
    rows = items.rows.clone()
    before = through(encoder, encoder.transformer, items=items, some=Ragged(some, (3,))).rows
    rows[2 * reach + 1] += 1
    moved = through(encoder, encoder.transformer, items=Ragged(rows, items.lengths), some=Ragged(some, (3,))).rows
    changed = [not torch.equal(one, other) for one, other in zip(before, moved, strict=True)]
    assert changed == [False, True, True]


@pytest.mark.parametrize("masking", [Masking(0.7), Masking(0.5, shape="structured"), Masking(0.0)])
@TOWERS
def test_left_out_is_out_of_sight(tower, masking):
    """Fewer rows give what all rows give when nobody looks at the others."""
    encoder, items, parts = _drawn(tower, masking)
    stays = torch.zeros(len(items.rows), dtype=torch.bool)
    stays[parts.visible] = True
    fast = through(encoder, encoder.transformer, items=items, some=parts.shown)
    for rows, there, answer in zip(items.split(), stays.split(items.lengths), fast.split(), strict=True):
        plain = through_plain(encoder, encoder.transformer, rows=rows, there=there)
        torch.testing.assert_close(answer, plain, atol=1e-5, rtol=1e-4)
    if masking.ratio == 0 and tower is SLAP:
        torch.testing.assert_close(fast.rows, encoder.encode_patches(items).rows)


@TOWERS
def test_the_target_learns_by_averaging_alone(tower):
    model, batch = _model(tower), _batch()
    duo, terms = _terms(DUO, model, batch)
    online = dict(model.audio_encoder.transformer.named_parameters())
    before = {name: value.clone() for name, value in duo.target.named_parameters()}
    weights = [name for name, value in before.items() if value.ndim == 2]
    assert weights and not any(torch.equal(before[name], online[name]) for name in weights)
    terms["masked"].backward()
    assert all(value.grad is None and not value.requires_grad for value in duo.target.parameters())
    assert [duo.decay(step) for step in (0, 5, 10, 99)] == pytest.approx([0.99995, 0.99997, 0.99999, 0.99999])
    duo = replace(DUO, decay=0.5, last_decay=0.9).build(model)
    before = {name: value.clone() for name, value in duo.target.named_parameters()}
    duo.after_step(model, step=5)
    for name, value in duo.target.named_parameters():
        torch.testing.assert_close(value, 0.7 * before[name] + 0.3 * online[name])


@TOWERS
def test_a_mask_follows_the_draw_and_not_the_batch(tower):
    model = _model(tower)
    encoder = model.audio_encoder
    together, alone = (
        parts_of(encoder.embedded(batch.waveforms), batch.draws, masking=DUO.masking, bands=encoder.bands, seed=0)
        for batch in (_batch(), _batch(slice(1, 2)))
    )
    begin = together.num_visible[0] + together.num_hidden[0]
    ours = together.visible[together.num_visible[0] :][: together.num_visible[1]] - begin
    assert torch.equal(ours, alone.visible)


@TOWERS
def test_visible_is_the_objective_on_visible_tokens(tower):
    """Duo hears the contrast with the tokens it has; `Visible` alone gives the same, with no predictor."""
    model, batch = _model(tower, augment=None), _batch()
    _, terms = _terms(replace(DUO, visible=Softmax.Config()), model, batch)
    _, alone = _terms(Visible.Config(masking=DUO.masking), model, batch)
    torch.testing.assert_close(terms["contrast"], alone["contrast"])
    _, everything = _terms(Visible.Config(masking=Masking(0.0)), model, batch)
    _, plain = _terms(Softmax.Config(), model, batch)
    torch.testing.assert_close(everything["contrast"], plain["contrast"])
    assert not torch.allclose(terms["contrast"], plain["contrast"])


def test_short_clips_are_completed_as_released():
    encoder = _model().audio_encoder
    waveforms = _batch(slice(0, 1)).waveforms
    plain, completed = encoder.embedded(waveforms), encoder.embedded(waveforms, complete_to=96)
    assert plain.items.lengths == (1 + 3 * 5,) and completed.items.lengths == (1 + 6 * 5,)
    patch = torch.full((16 * 16,), 7.1 / 4.2)
    place = 1 + 5 * 5  # the lowest band of the last column
    expected = encoder.patches.projection(patch) + encoder.positions[place - 1]
    torch.testing.assert_close(completed.items.rows[place], expected)


COUNTS = {2: (3, 2), 4: (1, 2, 1, 1)}


def _of_both_towers() -> list[list[np.ndarray]]:
    return [_values_and_gradients(tower) for tower in (ENCODER, SLAP)]


def _values_and_gradients(tower) -> list[np.ndarray]:
    """This process's share of the five clips: both terms, and the gradient of everything that learns."""
    torch.manual_seed(0)
    model = _model(tower)
    share = slice(None)
    if distributed.is_running():
        counts = COUNTS[distributed.world_size()]
        first = sum(counts[: distributed.rank()])
        share = slice(first, first + counts[distributed.rank()])
    objective, terms = _terms(replace(DUO, visible=Softmax.Config()), model, _batch(share))
    (terms["masked"] + terms["contrast"]).backward()
    learning = [p for module in (model, objective) for p in module.parameters() if p.requires_grad]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
    return [value.detach().numpy() for value in (terms["masked"], terms["contrast"], *gradients)]


@pytest.mark.parametrize("world_size", [2, 4])
def test_several_processes_equal_one(world_size):
    alone = _of_both_towers()
    shares = processes.run(_of_both_towers, world_size=world_size)
    for tower, expected in enumerate(alone):
        _assert_shared(expected, [share[tower] for share in shares])


def _assert_shared(alone, shares):
    for share in shares:
        np.testing.assert_allclose(share[:2], alone[:2], atol=1e-5)
    # Data-parallel training averages gradients over the processes.
    for place, expected in enumerate(alone[2:], start=2):
        gradient = np.mean([share[place] for share in shares], 0)
        np.testing.assert_allclose(gradient, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("ratio", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("share", [slice(2, 3), slice(None)], ids=["one short clip", "five clips"])
def test_finite_at_the_extremes(ratio, share):
    """One clip of one column; nothing hidden; all hidden, so that only the class token is seen; one band, one patch."""
    for bands in (1, 5):
        model = _model(patch_mels=80 // bands)
        batch = replace(_batch(share), captions=("the same",) * len(_batch(share)))
        objective, terms = _terms(replace(DUO, masking=Masking(ratio), visible=Softmax.Config()), model, batch)
        (terms["masked"] + terms["contrast"]).backward()
        assert terms["masked"].isfinite() and terms["contrast"].isfinite()
        gradients = [p.grad for module in (model, objective) for p in module.parameters() if p.grad is not None]
        assert gradients and all(gradient.isfinite().all() for gradient in gradients)
        assert ratio > 0 or terms["masked"] == 0


@pytest.mark.parametrize("ratio", [0.0, 0.7, 0.999])
@pytest.mark.parametrize("share", [slice(2, 3), slice(None)], ids=["one short clip", "five clips"])
def test_finite_at_the_extremes_of_any_duration(ratio, share):
    """Without a class token, one patch is seen at least; where it is all of a clip the target is asked nothing."""
    for bands in (1, 4):
        model = _model(SLAP, patch_mels=64 // bands)
        batch = replace(_batch(share), captions=("the same",) * len(_batch(share)))
        objective, terms = _terms(replace(DUO, masking=Masking(ratio), visible=Softmax.Config()), model, batch)
        (terms["masked"] + terms["contrast"]).backward()
        assert terms["masked"].isfinite() and terms["contrast"].isfinite()
        gradients = [p.grad for module in (model, objective) for p in module.parameters() if p.grad is not None]
        assert gradients and all(gradient.isfinite().all() for gradient in gradients)
        assert (terms["masked"] == 0) == (ratio == 0 or (bands == 1 and len(batch) == 1))


@TOWERS
def test_autocast_is_close_to_float32(tower):
    model, batch = _model(tower), _batch()
    torch.manual_seed(1)
    _, exact = _terms(DUO, model, batch)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        _, half = _terms(DUO, model, batch)
    assert half["masked"].dtype == torch.float32
    assert abs(half["masked"] - exact["masked"]) < 0.02


def test_the_published_size():
    """Parameters as the papers' authors count them, who keep among them what we do not learn and hold elsewhere: both
    tables of positions (190 places and, in the encoder's too, the class token's row of zeros) and the two statistics
    of the front end."""
    config = JointModel.Config(
        audio=M2d.Config(pooling="semantic"),
        text=Sentence.Config("nvidia/NV-Embed-v2", width=4096),
        audio_projection=None,
        text_projection=Linear.Config(bias=True),
    )
    model = config.build_empty()
    with torch.device("meta"):
        duo = Duo.Config(visible=Softmax.Config()).build(model)
    parameters = [*model.parameters(), *duo.parameters()]
    tables = model.audio_encoder.positions.numel() + 768 + duo.positions.numel()
    assert sum(p.numel() for p in parameters) + tables + 2 == 203_258_371
    assert sum(p.numel() for p in parameters if p.requires_grad) == 117_957_889


def test_a_frozen_encoder_keeps_its_pooling_alive():
    model, batch = _model(trainable=False), _batch()
    _, terms = _terms(Visible.Config(), model, batch)
    terms["contrast"].backward()
    moved = {n.split(".")[0] for n, p in model.audio_encoder.named_parameters() if p.grad is not None}
    assert moved == {"semantic"}


def test_another_tower_is_refused():
    dasheng = tiny.model(audio=Dasheng.Config(width=16, depth=1, heads=2, hidden=24))
    with pytest.raises(ValueError, match=r"whose patches can be left out \(M2d, Slap\), this model has Dasheng"):
        Duo.Config().build(dasheng)
    with pytest.raises(ValueError, match="masks need M2D's audio tower, this model has Slap"):
        _terms(Visible.Config(complete_to=96), tiny.model(), _batch())
    with pytest.raises(ValueError, match=r"ratio: 1\.0 hides all, and this tower has no class token to see"):
        replace(DUO, masking=Masking(1.0)).build(tiny.model())
    with pytest.raises(ValueError, match="heads of a multiple of 4, which columns and bands share, got 16 for 8 heads"):
        replace(DUO, heads=8).build(tiny.model())
    with pytest.raises(ValueError, match="expected 0 <= decay <= last_decay <= 1"):
        Duo.Config(decay=0.9, last_decay=0.5)
