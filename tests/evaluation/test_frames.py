import numpy as np
import pytest
import torch
from pitch import PitchEmbedder

import tiny
from lapis.audio_encoders.dasheng import Dasheng
from lapis.audio_encoders.m2d import M2d
from lapis.evaluation.frames import frame_scores, levels
from lapis.ragged import Ragged
from lapis.search.events import FrameScores
from lapis.search.frames import dense_vectors, smoothed, window_vectors

TOWERS = {
    "slap": tiny.CONFIG.audio,
    "dasheng": Dasheng.Config(width=16, depth=1, heads=2, hidden=16),
    "m2d": M2d.Config(width=16, depth=1, heads=2, hidden=16),
}


def sound(seconds, seed=0):
    return np.random.default_rng(seed).normal(size=round(seconds * 16_000)).astype(np.float32) * 0.1


@pytest.mark.parametrize("name", TOWERS)
def test_dense_vectors_are_those_of_each_instants_tokens(name):
    model = tiny.model(audio=TOWERS[name]).eval()
    waveform = sound(2.5)
    vectors, seconds = dense_vectors(model, waveform)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(np.ones(len(vectors)), abs=1e-5)
    assert seconds[0, 0] == 0 and 2.0 < seconds[-1, 1] <= 2.5 and (np.diff(seconds[:, 0]) > 0).all()
    with torch.inference_mode():
        tokens = model.audio_tokens(Ragged.pack([torch.from_numpy(waveform)]))
        times = model.audio_encoder.token_seconds(len(waveform))
        for frame in (0, 3, len(vectors) - 1):
            own = torch.from_numpy(np.flatnonzero(times[:, 0] == seconds[frame, 0]))
            alone = model.project_audio(Ragged(tokens.rows[own], (len(own),)))
            assert vectors[frame] == pytest.approx(alone[0].numpy(), abs=1e-5)


def test_a_sound_longer_than_the_model_takes_at_once_has_frames_to_its_end():
    model = tiny.model(chunk_seconds=1.0).eval()
    vectors, seconds = dense_vectors(model, sound(3.0))
    first, first_seconds = dense_vectors(model, sound(3.0)[:16_000])
    assert seconds[-1, 1] == pytest.approx(3.0, abs=0.2) and (np.diff(seconds[:, 0]) > 0).all()
    assert vectors[: len(first)] == pytest.approx(first, abs=1e-5)
    assert (seconds[: len(first)] == first_seconds).all()


def test_a_model_in_training_is_asked_as_one_that_is_not_and_left_in_training():
    model = tiny.model()
    model.train()
    first, again = (dense_vectors(model, sound(1.0))[0] for _ in range(2))
    assert (first == again).all() and model.training


def test_windows_lie_around_the_middle_of_their_frames():
    embedder = PitchEmbedder()
    waveform = sound(1.0)[:8000]
    vectors, seconds = window_vectors(embedder, waveform, window_seconds=0.5, hop_seconds=0.2)
    assert seconds == pytest.approx(np.array([[0, 0.2], [0.2, 0.4], [0.4, 0.6], [0.6, 0.8], [0.8, 1.0]]))
    assert embedder.batches[0] == pytest.approx([0.35, 0.5, 0.5, 0.5, 0.35])
    assert vectors[2] == pytest.approx(embedder.embed_audio([waveform[2000:6000]])[0])
    short, times = window_vectors(embedder, waveform[:700], window_seconds=0.5, hop_seconds=0.2)
    assert len(short) == 1 and times.tolist() == [[0.0, 700 / 8000]]


def test_scores_are_cosines():
    embedder = PitchEmbedder()
    waveform = sound(1.0)[:8000]
    texts = embedder.embed_text(["500", "2000"])
    found = frame_scores(embedder, waveform, class_vectors=texts, hearing="windows")
    vectors, _ = window_vectors(embedder, waveform, window_seconds=1.0, hop_seconds=0.2)
    assert found.scores == pytest.approx(vectors @ texts.T, abs=1e-6)
    with pytest.raises(ValueError, match=r"no longer than a window: got 2\.0 and 1\.0"):
        window_vectors(embedder, waveform, window_seconds=1.0, hop_seconds=2.0)
    with pytest.raises(ValueError, match="got PitchEmbedder: use windows"):
        frame_scores(embedder, waveform, class_vectors=texts)


@pytest.mark.parametrize(("smooth_seconds", "width"), [(0.0, 1), (0.1, 1), (0.3, 3), (0.5, 5)])
def test_a_running_median_is_that_of_a_loop(smooth_seconds, width):
    scores = np.random.default_rng(0).random((9, 2))
    begins = np.arange(9) * 0.1
    found = smoothed(FrameScores(scores, np.stack([begins, begins + 0.1], axis=1)), smooth_seconds=smooth_seconds)
    for frame in range(9):
        around = [min(max(near, 0), 8) for near in range(frame - width // 2, frame + width // 2 + 1)]
        assert found.scores[frame] == pytest.approx(np.median(scores[around], axis=0))


def test_levels_are_those_of_each_frames_own_sound():
    waveform = np.concatenate([np.zeros(800), np.full(800, 0.1), np.full(400, 1.0)]).astype(np.float32)
    seconds = np.array([[0.0, 0.1], [0.1, 0.2], [0.15, 0.25], [0.2, 0.25]])
    found = levels(waveform, sample_rate=8000, seconds=seconds)
    assert found == pytest.approx([-100.0, -20.0, 10 * np.log10(0.505), 0.0], abs=1e-4)
