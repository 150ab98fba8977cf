"""Front ends against the official ones' golden figures; the batched form against `torch.stft`, clip by clip."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golden.deterministic import sound
from lapis.layers import spectrogram
from lapis.layers.spectrogram import LogMel, log_mel_plain, mel_filters
from lapis.ragged import Ragged

GLAP = np.load(Path(__file__).parent.parent / "golden" / "glap_constants.npz")
GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "front_ends.npz")
FRONT_ENDS = {"dasheng": spectrogram.DASHENG, "m2d": spectrogram.M2D, "slap": spectrogram.SLAP}
DURATIONS = {
    "dasheng": (0.03, 0.5, 1.0, 3.7, 10.0, 10.07, 10.5, 22.5),
    "m2d": (0.1, 1.0, 2.5, 6.08, 10.0, 10.01, 23.0),
}


@pytest.mark.parametrize("name", DURATIONS)
def test_golden(name):
    """Official values before normalisation, all durations in one batch."""
    config = FRONT_ENDS[name]
    clips = [torch.from_numpy(sound(seconds, seed)) for seed, seconds in enumerate(DURATIONS[name], start=1)]
    answers = LogMel(config)(Ragged.pack(clips)).map(lambda rows: rows * config.deviation + config.mean).split()
    kind = "decibels" if name == "dasheng" else "log_mel"
    for seconds, answer in zip(DURATIONS[name], answers, strict=True):
        means = GOLDEN[f"{name}/{seconds}/{kind}_mean_over_frames"]
        np.testing.assert_allclose(answer.mean(0).numpy(), means, atol=1e-3)
        whole = f"{name}/{seconds}/{kind}"
        if whole in GOLDEN:
            np.testing.assert_allclose(answer.T.numpy(), GOLDEN[whole], atol=1e-3)


def test_filters_of_the_glap_checkpoint():
    window, filters = spectrogram.constants(spectrogram.DASHENG, torch.device("cpu"))
    np.testing.assert_allclose(filters.numpy(), GOLDEN["dasheng/filters"], atol=1e-5)
    np.testing.assert_allclose(window.numpy(), GOLDEN["dasheng/window"], atol=1e-6)


@pytest.mark.parametrize("name", FRONT_ENDS)
@given(lengths=st.lists(st.integers(1, 6000), min_size=1, max_size=5))
@settings(max_examples=20)
def test_batched_equals_plain(name, lengths):
    config = FRONT_ENDS[name]
    generator = torch.Generator().manual_seed(sum(lengths))
    clips = [torch.rand(length, generator=generator) - 0.5 for length in lengths]
    answers = LogMel(config)(Ragged.pack(clips))
    assert answers.lengths == tuple(config.num_frames(length) for length in lengths)
    for clip, answer in zip(clips, answers.split(), strict=True):
        torch.testing.assert_close(answer, log_mel_plain(clip, config), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_a_clip_gets_in_a_batch_what_it_gets_alone_from_the_shortest_to_two_minutes(name):
    front_end = LogMel(FRONT_ENDS[name])
    clips = [torch.from_numpy(sound(seconds, seed=1)) for seconds in (0.05, 120.0, 1.0, 0.05, 33.3)]
    for clip, together in zip(clips, front_end(Ragged.pack(clips)).split(), strict=True):
        assert (front_end(Ragged.pack([clip])).rows - together).abs().max() <= 1e-5


def test_frames_are_the_same_in_a_model_of_half_precision():
    clips = Ragged.pack([torch.from_numpy(sound(1.0, seed=1))])
    exact = LogMel(spectrogram.SLAP)(clips).rows
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        assert torch.equal(LogMel(spectrogram.SLAP).to(dtype)(clips).rows, exact)


def test_frames_are_float32_under_autocast():
    clips = Ragged.pack([torch.from_numpy(sound(1.0, seed=1))])
    front_end = LogMel(spectrogram.SLAP)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = front_end(clips).rows
    assert rounded.dtype == torch.float32 and torch.equal(rounded, front_end(clips).rows)


def test_silence_has_the_value_the_config_says():
    for config in FRONT_ENDS.values():
        answer = LogMel(config)(Ragged.pack([torch.zeros(4000)])).rows
        torch.testing.assert_close(answer, torch.full_like(answer, config.silence))


def test_the_loudest_value_is_counted_per_clip():
    """The official code takes it over the batch, so that a loud neighbour moves a clip's floor."""
    front_end = LogMel(spectrogram.DASHENG)
    quiet = torch.cat([torch.zeros(8000), torch.randn(8000) * 1e-3])
    alone = front_end(Ragged.pack([quiet])).rows
    together = front_end(Ragged.pack([quiet, torch.randn(16000)])).split()[0]
    assert torch.equal(alone, together)


def test_every_filter_has_energy():
    for scale in ("htk", "slaney"):
        filters = mel_filters(
            num_mels=64,
            fft_samples=512,
            sample_rate=16_000,
            min_hertz=50.0,
            max_hertz=8000.0,
            scale=scale,
            equal_area=True,
        )
        assert (filters >= 0).all() and (filters.sum(0) > 0).all()


def test_dashengs_filters_and_window_are_those_of_the_checkpoint_to_the_bit():
    window, filters = spectrogram.constants(spectrogram.DASHENG, torch.device("cpu"))
    assert np.array_equal(filters.numpy(), GLAP["fb"])
    assert np.abs(window.numpy() - GLAP["window"]).max() <= 1e-7
