"""One run after another: what is taken over, by name and strictly."""

from dataclasses import replace

import pytest
import torch

import tiny
from lapis import saved, weights
from lapis.audio_encoders.dasheng import Dasheng
from lapis.audio_encoders.m2d import M2d, with_columns
from lapis.text_encoders.sonar import Sonar
from lapis.train.after import After, Towers

ENCODER = M2d.Config(width=16, depth=1, heads=2, hidden=24, pooling="semantic", columns=4, chunk_frames=64)
TAKE = ("audio_encoder.transformer.", "audio_encoder.positions")


@pytest.fixture
def before(tmp_path):
    model = tiny.model(seed=1, audio=ENCODER)
    saved.save(model, tmp_path)
    return model, str(tmp_path)


def test_what_is_named_is_taken_and_nothing_else(before):
    old, folder = before
    model = tiny.model(seed=2, audio=ENCODER)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    told = After(folder, take=TAKE).into(model)
    taken = [name for name in fresh if name.startswith(TAKE)]
    assert told.startswith(f"{len(taken)} tensors from ") and told.endswith(f"{len(fresh) - len(taken)} begin anew")
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, old.state_dict()[name] if name in taken else fresh[name]), name
    After(folder, take=("",)).into(model)
    assert all(torch.equal(tensor, old.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_what_does_not_fit_is_refused(before, tmp_path):
    _, folder = before
    with pytest.raises(ValueError, match="nothing in the model begins with 'voice'"):
        After(folder, take=("voice",)).into(tiny.model(audio=ENCODER))
    with pytest.raises(ValueError, match="lacks 16 tensors to be taken from it"):
        After(folder, take=TAKE).into(tiny.model(audio=replace(ENCODER, depth=2)))
    with pytest.raises(ValueError, match="of another shape or kind"):
        After(folder, take=TAKE).into(tiny.model(audio=replace(ENCODER, hidden=32)))
    with pytest.raises(ValueError, match="expected the folder of a model that Lapis saved"):
        After(str(tmp_path / "nothing"), take=TAKE).into(tiny.model(audio=ENCODER))


@pytest.mark.parametrize("columns", [2, 7])
def test_positions_are_fitted_to_the_columns(before, columns):
    old, folder = before
    model = tiny.model(audio=replace(ENCODER, columns=columns, chunk_frames=16 * columns))
    After(folder, take=TAKE).into(model)
    expected = with_columns(old.audio_encoder.positions, bands=5, columns=columns)
    assert torch.equal(model.audio_encoder.positions, expected)
    assert expected.shape == (columns * 5, 16)


def test_columns_are_cut_or_stretched_in_time_only():
    ramp = torch.arange(8.0)[:, None, None] + 100 * torch.arange(2.0)[None, :, None]  # column + 100 * band
    table = ramp.flatten(0, 1)
    assert torch.equal(with_columns(table, bands=2, columns=3), table[:6])
    stretched = with_columns(table, bands=2, columns=16).unflatten(0, (16, 2))
    torch.testing.assert_close(stretched[:, 1] - stretched[:, 0], torch.full((16, 1), 100.0))
    # Away from the ends the stretch of a ramp is nearly the ramp: this bicubic kernel is not exact for it.
    expected = (torch.arange(4.0, 12) + 0.5) / 2 - 0.5
    torch.testing.assert_close(stretched[4:12, 0, 0], expected, atol=0.05, rtol=0)


HEARS = Dasheng.Config(width=64, depth=1, heads=1, hidden=24)
READS = Sonar.Config(vocabulary=300, width=64, depth=1, heads=1, hidden=24)


def _published(tmp_path):
    """Small towers in the files and under the names that the big ones are published in."""
    hears, reads = tiny.model(seed=1, audio=HEARS, text=READS).children(), {}
    audio, text = (tower.state_dict() for tower in list(hears)[:2])
    heard = {
        "time_pos_embed": audio["positions.tables.0"].T[None, :, None],
        "freq_pos_embed": audio["positions.tables.1"].T[None, :, :, None],
        "patch_embed.proj.weight": audio["patches.projection.weight"].unflatten(1, (4, 64)).transpose(1, 2)[:, None],
        "patch_embed.proj.bias": audio["patches.projection.bias"],
        "front_end.0.mel_scale.fb": torch.zeros(257, 64),
    }
    heard |= {f"init_bn.1.{n.removeprefix('band_norm.')}": t for n, t in audio.items() if n.startswith("band_norm.")}
    parts = {"attention_norm": "norm1", "attention.out": "attn.proj", "feedforward_norm": "norm2"}
    parts |= {"feedforward.up": "mlp.fc1", "feedforward.down": "mlp.fc2"}
    for ours, theirs in parts.items():
        for leaf in ("weight", "bias"):
            heard[f"blocks.0.{theirs}.{leaf}"] = audio[f"transformer.blocks.0.{ours}.{leaf}"]
    for leaf in ("weight", "bias"):
        thirds = [audio[f"transformer.blocks.0.attention.{third}.{leaf}"] for third in ("query", "key", "value")]
        heard[f"blocks.0.attn.qkv.{leaf}"] = torch.cat(thirds)
        heard[f"norm.{leaf}"] = audio[f"transformer.norm.{leaf}"]
    parts = {"attention_norm": "self_attn_layer_norm", "feedforward_norm": "ffn_layer_norm"}
    parts |= {f"attention.{a}": f"self_attn.{b}_proj" for a, b in zip(("query", "key", "value"), "qkv")}
    parts |= {"attention.out": "self_attn.output_proj", "feedforward.up": "ffn.inner_proj"}
    parts |= {"feedforward.down": "ffn.output_proj"}
    for leaf in ("weight", "bias"):
        for ours, theirs in parts.items():
            reads[f"encoder.layers.0.{theirs}.{leaf}"] = text[f"transformer.blocks.0.{ours}.{leaf}"]
        reads[f"layer_norm.{leaf}"] = text[f"transformer.norm.{leaf}"]
    reads["encoder_frontend.embed.weight"] = text["embedding.weight"]
    torch.save({"model": heard, "config": {}}, tmp_path / "dasheng.pt")
    weights.write(tmp_path / "sonar.safetensors", reads)
    return audio, text


def _begun(towers, **changes):
    model = tiny.model(seed=2, audio=HEARS, text=READS, **changes)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return towers.into(model), model.state_dict(), fresh


def test_published_towers_are_taken_whole_and_projections_begin_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    published = _published(tmp_path)
    told, state, fresh = _begun(Towers(audio="dasheng.pt", text=str(tmp_path / "sonar.safetensors")))
    assert told == (
        f"audio tower: {len(published[0])} tensors from {tmp_path / 'dasheng.pt'}\n"
        f"text tower: {len(published[1])} tensors from {tmp_path / 'sonar.safetensors'}\n"
        "projections begin with random weights"
    )
    expected = {f"audio_encoder.{n}": t for n, t in published[0].items()}
    expected |= {f"text_encoder.{n}": t for n, t in published[1].items()}
    for name, tensor in state.items():
        assert torch.equal(tensor, expected.get(name, fresh[name])), name
    assert len(expected) < len(state)


def test_a_tower_without_a_file_is_said_to_begin_at_random(tmp_path):
    published = _published(tmp_path)
    told, state, fresh = _begun(Towers(text=str(tmp_path / "sonar.safetensors")))
    assert told.startswith("audio tower: begins with random weights\ntext tower: ")
    assert torch.equal(state["text_encoder.embedding.weight"], published[1]["embedding.weight"])
    assert all(torch.equal(t, fresh[name]) for name, t in state.items() if name.startswith("audio_"))


def test_towers_that_cannot_be_taken_are_refused(tmp_path):
    _published(tmp_path)
    with pytest.raises(ValueError, match=r"gone\.pt.*fetch https://zenodo.* set after\.audio .* or after=null"):
        Towers(audio=str(tmp_path / "gone.pt")).into(tiny.model(audio=HEARS))
    with pytest.raises(ValueError, match="published weights of Dasheng, Sonar can be taken, not of Letters"):
        Towers(text=str(tmp_path / "sonar.safetensors")).into(tiny.model(audio=HEARS))
    with pytest.raises(ValueError, match=r"dasheng\.pt does not fit the model"):
        Towers(audio=str(tmp_path / "dasheng.pt")).into(tiny.model(audio=replace(HEARS, hidden=32)))
