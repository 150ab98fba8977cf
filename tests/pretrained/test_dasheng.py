"""Dasheng's file by itself: the tower inside GLAP, both layouts, what is refused; and SONAR's two layouts."""

import pytest
import torch

import lapis
from golden import official
from lapis.audio_encoders import dasheng as tower
from lapis.pretrained import dasheng, families, glap, m2d_clap

CLIPS = official.sounds((0.3, 11.0))


@pytest.fixture(scope="module")
def whole():
    return official.glap()


@pytest.fixture(scope="module")
def alone(whole):
    start = "audio_encoder.model."
    return {name.removeprefix(start): tensor for name, tensor in whole.items() if name.startswith(start)}


def test_it_is_the_tower_of_glap(whole, alone):
    model = dasheng.build(alone, source="dasheng")
    expected = glap.build(whole, source="glap")
    state = model.state_dict()
    assert all(
        torch.equal(t, state[f"audio_encoder.{name}"]) for name, t in expected.audio_encoder.state_dict().items()
    )
    assert model.width == 768 and model.text_encoder is None
    with pytest.raises(ValueError, match="no text tower"):
        model.embed_text(["rain"])


@pytest.mark.filterwarnings("ignore::lapis.doctor.ModelWarning")
def test_a_file_of_either_layout_opens_and_is_converted(alone, tmp_path):
    torch.save({"model": alone, "config": {"embed_dim": 768}}, tmp_path / "dasheng_base.pt")
    model = lapis.load(tmp_path / "dasheng_base.pt")
    hub = {f"encoder.{name}": tensor for name, tensor in alone.items() if "front_end" not in name}
    assert dasheng.build(hub, source="hub").identity == model.identity
    later = lapis.load(tmp_path / "dasheng_base.pt", pooling="release-2026").embed_audio(CLIPS)
    sounds = model.embed_audio(CLIPS)
    assert abs(later[0] - sounds[0]).max() <= 1e-6 < abs(later[1] - sounds[1]).max()
    lapis.save_pretrained(model, tmp_path / "saved")
    assert (lapis.load(tmp_path / "saved").embed_audio(CLIPS) == sounds).all()


def test_one_family_knows_each_file(whole, alone):
    for tensors, family in ((whole, glap), (alone, dasheng), (official.m2d_clap(2025), m2d_clap)):
        keys = frozenset(tensors)
        assert [each for each in (glap, dasheng, m2d_clap) if each.recognises(keys)] == [family]
    assert {"Dasheng-base", "Dasheng-0.6B", "Dasheng-1.2B"} <= families.official().keys()


def test_a_head_of_classes_and_a_missing_tensor_are_named(alone):
    with pytest.raises(ValueError, match=r"outputlayer\.0\.weight.* unexpected"):
        dasheng.build(alone | {"outputlayer.0.weight": torch.zeros(768)}, source="tagger.pt")
    for name in ("time_pos_embed", "norm.bias"):
        without = {each: tensor for each, tensor in alone.items() if each != name}
        with pytest.raises(ValueError, match=r"cut\.pt does not fit .* missing"):
            dasheng.build(without, source="cut.pt")


def test_heads_are_those_of_the_published_towers(alone):
    """No shape tells them: 12 of 64 values, 16 of 80, 24 of 64."""
    sizes = {"patch_embed.proj.weight": (1, 64, 4), "time_pos_embed": (1, 252), "blocks.0.mlp.fc1.weight": (9,)}
    for width, heads in ((768, 12), (1280, 16), (1536, 24)):
        shaped = {name: torch.empty(width, *rest, device="meta") for name, rest in sizes.items()}
        assert tower.geometry(shaped).heads == heads
