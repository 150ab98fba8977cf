"""One run after another: what is taken over, by name and strictly."""

from dataclasses import replace

import pytest
import torch

import tiny
from lapis import saved
from lapis.audio_encoders.m2d import M2d, with_columns
from lapis.train.after import After

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
