"""X-ARES' contract is kept, and a clip's frames are its own in any batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lapis.audio_encoders.dasheng import Dasheng
from lapis.audio_encoders.m2d import M2d
from lapis.audio_encoders.slap import Slap
from lapis.evaluation.features import Features
from lapis.evaluation.xares import XaresEncoder
from lapis.layers.projection import Linear
from lapis.model import JointModel
from lapis.ragged import Ragged
from tiny import CONFIG
from tiny import model as tiny_model

SMALL = {"width": 16, "depth": 2, "heads": 2, "hidden": 24}
TOWERS = {
    "slap": (Slap.Config(**SMALL), 64, 160),
    "m2d": (M2d.Config(**SMALL, columns=12, chunk_frames=201), 80, 160),
    "dasheng": (Dasheng.Config(**SMALL, chunk_tokens=60), 16, 40),
}


def joint(tower: str, **changes) -> JointModel:
    torch.manual_seed(3)
    return replace(CONFIG, audio=TOWERS[tower][0], audio_projection=Linear.Config(), **changes).build().eval()


def noise(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [0.1 * torch.randn(length, generator=generator) for length in lengths]


def padded(clips: list[torch.Tensor], to: int = 0) -> torch.Tensor:
    longest = max(to, *map(len, clips))
    return torch.stack([torch.nn.functional.pad(clip, (0, longest - len(clip))) for clip in clips])


@pytest.mark.parametrize("tower", TOWERS)
def test_the_contract(tower):
    """What `check_audio_encoder` of X-ARES 0.1.3 asks, on the same input."""
    encoder = XaresEncoder(joint(tower))
    _, width, hop = TOWERS[tower]
    assert isinstance(encoder, torch.nn.Module) and type(encoder).__name__.endswith("Encoder")
    assert (encoder.sampling_rate, encoder.output_dim, encoder.hop_size_in_ms) == (16_000, width, hop)
    frames = encoder(torch.randn(2, 50_000))
    assert frames.shape == (2, frames.shape[1], width)
    assert abs(frames.shape[1] - 3125 / hop) <= 1
    assert encoder(torch.randn(50_000)).shape == (1, *frames.shape[1:])


@pytest.mark.parametrize("tower", TOWERS)
def test_frames_are_the_towers_own_and_padding_changes_none(tower):
    model = joint(tower)
    encoder, clips = XaresEncoder(model), noise(9_000, 40_001, 16_000, 70_000)
    together = encoder(padded(clips, to=80_000))
    for clip, of in zip(clips, together):
        with torch.inference_mode():
            tokens = model.audio_tokens(Ragged.pack([clip])).rows
        own = tokens.reshape(-1, encoder.output_dim)
        torch.testing.assert_close(of[: len(own)], own, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(of.mean(0), own.mean(0), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(of, encoder(padded([clip], to=80_000))[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("tower", "kind"), [("m2d", "frames"), ("dasheng", "tokens"), ("dasheng", "pooled")])
def test_their_mean_is_the_feature_that_our_own_probes_get(tower, kind):
    model, clips = joint(tower), noise(9_000, 40_001)
    ours = Features(model, kind=kind).embed_audio([clip.numpy() for clip in clips])
    found = XaresEncoder(model)(padded(clips)).mean(1).numpy()
    np.testing.assert_allclose(found, ours, atol=1e-5)


def test_a_clip_that_is_silent_and_one_that_ends_so():
    encoder = XaresEncoder(joint("dasheng"))
    silence = torch.zeros(16_000)
    assert not torch.allclose(encoder(silence)[0, 0], encoder(padded(noise(16_000)))[0, 0])
    (clip,) = noise(16_000)
    told = encoder(padded([clip], to=32_000), num_samples=[32_000])[0]
    heard = encoder(padded([clip], to=32_000))[0]
    own = encoder(clip)[0]
    torch.testing.assert_close(heard[: len(own)], own)
    torch.testing.assert_close(heard[len(own) :], own.mean(0).expand(len(heard) - len(own), -1))
    assert told.shape == heard.shape and not torch.allclose(told[-1], heard[-1])


def test_a_long_clip_goes_in_pieces_on_one_grid():
    model = joint("slap", chunk_seconds=1.0)
    encoder = XaresEncoder(model)
    (clip,) = noise(16_000 * 2 + 5_000)
    piece = 6 * 160 * 16  # of a second, the whole hops
    parts = [encoder(part)[0] for part in clip.split(piece)]
    expected = torch.cat([*(part[:6] for part in parts[:-1]), parts[-1]])
    torch.testing.assert_close(encoder(clip)[0], expected, atol=1e-5, rtol=1e-5)
    assert len(expected) == len(XaresEncoder(joint("slap"))(clip)[0])


def test_what_it_refuses():
    encoder = XaresEncoder(joint("dasheng"))
    for audio in (torch.zeros(2, 0), torch.zeros(1, 2, 3)):
        with pytest.raises(ValueError, match="must be of shape"):
            encoder(audio)
    with pytest.raises(ValueError, match="finite"):
        encoder(torch.full((2, 900), torch.nan))
    for lengths in ([5], [5, 901], [0, 5]):
        with pytest.raises(ValueError, match="2 numbers from 1 to 900"):
            encoder(torch.ones(2, 900), num_samples=lengths)
    model = tiny_model()
    model.audio_encoder = torch.nn.Identity()
    with pytest.raises(ValueError, match="got Identity"):
        XaresEncoder(model)
