import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import tiny
from lapis.model import Embedder


def _clips(*seconds):
    state = np.random.RandomState(0)
    return [(state.random_sample(round(s * 16_000)) - 0.5).astype(np.float32) for s in seconds]


def test_it_is_an_embedder():
    model = tiny.model()
    assert isinstance(model, Embedder)
    audio, text = model.embed_audio(_clips(0.05, 3.0, 0.5)), model.embed_text(["rain", "a dog"])
    assert audio.shape == (3, 8) and text.shape == (2, 8)
    for vectors in (audio, text):
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert model.embed_audio([]).shape == model.embed_text([]).shape == (0, 8)


def test_neighbours_do_not_matter_from_the_shortest_to_two_minutes():
    model, clips = tiny.model(), _clips(0.05, 120.0, 1.0, 7.7, 0.3)
    together = model.embed_audio(clips)
    for clip, vector in zip(clips, together, strict=True):
        np.testing.assert_allclose(model.embed_audio([clip])[0], vector, atol=1e-5)


def test_training_mode_does_not_change_the_answer_and_is_kept():
    """SpecAugment works in training mode only, and vectors are asked for during training too."""
    model, clips = tiny.model(), _clips(1.0, 2.0)
    before = model.train().embed_audio(clips)
    np.testing.assert_array_equal(before, model.embed_audio(clips))
    assert model.training and model.audio_encoder.training
    np.testing.assert_array_equal(before, model.eval().embed_audio(clips))
    assert not model.training


def test_a_long_clip_is_the_mean_of_equal_pieces():
    model = tiny.model(chunk_seconds=2.0)
    (clip,) = _clips(5.0)
    thirds = model.embed_audio(np.array_split(clip, 3))
    expected = thirds.mean(0) / np.linalg.norm(thirds.mean(0))
    np.testing.assert_allclose(model.embed_audio([clip])[0], expected, atol=1e-6)


def test_identity_names_the_weights():
    first, same, other = tiny.model(0), tiny.model(0), tiny.model(1)
    assert first.identity == same.identity != other.identity
    with torch.no_grad():
        same.audio_projection.weight[0, 0] += 1e-3
    assert first.identity != same.identity


@pytest.mark.parametrize("bad", [np.zeros(0, np.float32), np.array([0.1, np.nan], np.float32)])
def test_sound_that_is_none_is_refused(bad):
    with pytest.raises(ValueError, match="clip 1 must have samples"):
        tiny.model().embed_audio([*_clips(0.1), bad])


def test_empty_text_is_refused():
    with pytest.raises(ValueError, match="text 1 is empty"):
        tiny.model().embed_text(["rain", "  "])


def test_texts_may_stay_where_they_are():
    model = tiny.model(width=16, text_projection=None)
    vectors = model.text_encoder(["rain"])
    np.testing.assert_allclose(model.embed_text(["rain"]), (vectors / vectors.norm()).detach().numpy(), atol=1e-6)
    with pytest.raises(ValueError, match="texts of width 16 need a projection to width 8"):
        tiny.model(text_projection=None)


def test_one_clip_or_one_text_must_stand_in_a_list(root):
    with pytest.raises(ValueError, match="expected a list of texts, got 'rain'"):
        tiny.model().embed_text("rain")
    # Under pytest the annotations answer before the model can; users meet the model.
    code = "import numpy, tiny; tiny.model().embed_audio(numpy.zeros(1600, numpy.float32))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root / "tests", check=False
    )
    assert "ValueError: expected a list of clips, got one of 1600 samples" in answer.stderr


def test_the_tower_gets_a_bounded_amount_of_sound_at_once(monkeypatch):
    model, given = tiny.model(chunk_seconds=2.0), []
    original = model.audio_tokens
    monkeypatch.setattr(model, "audio_tokens", lambda packed: given.append(len(packed.rows)) or original(packed))
    model.embed_audio(_clips(0.5, 11.0, 0.5, 1.0, 0.3))
    assert max(given) <= 2.0 * 16_000 and sum(given) == round(13.3 * 16_000)


def test_identity_counts_tensors_of_one_number_too():
    """A batch norm, as Dasheng has one, counts its batches in a tensor without axes."""
    model = tiny.model()
    model.audio_encoder.norm = torch.nn.BatchNorm1d(2)
    before = model.identity
    model.audio_encoder.norm.num_batches_tracked += 1
    assert model.identity != before


def test_what_is_done_with_sound_is_part_of_the_name():
    model = tiny.model()
    shorter = replace(tiny.CONFIG, chunk_seconds=1.0).build()
    shorter.load_state_dict(model.state_dict())
    assert shorter.identity != model.identity


def test_embedding_leaves_every_part_in_its_mode():
    model = tiny.model().train()
    model.audio_encoder.eval()
    model.embed_audio(_clips(0.3))
    assert model.training and model.text_encoder.training and not model.audio_encoder.training


def test_what_no_model_can_embed_is_refused(root):
    """Under pytest the annotations answer before the model can; users meet the model."""
    code = """
import numpy as np, tiny, torch
model = tiny.model()
good = np.random.RandomState(0).random_sample(3200).astype(np.float32)
loud = np.full(100, 1e20, np.float32)
for clip in (np.zeros(100, np.int16), np.zeros((1, 100), np.float32), loud, [0.5], torch.zeros(9)):
    try: model.embed_audio([good, clip])
    except ValueError as error: print(error)
for text in (None, b"rain"):
    try: model.embed_text(["rain", text])
    except ValueError as error: print(error)
for kind in ("f8", ">f4"):
    print(kind, np.array_equal(model.embed_audio([good.astype(kind)]), model.embed_audio([good])))
"""
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root / "tests", check=True
    )
    mono = "clip 1 must be mono, floating point numbers in [-1, 1] on one axis; got"
    assert answer.stdout.splitlines() == [
        f"{mono} int16 of shape (100,)",
        f"{mono} float32 of shape (1, 100)",
        "clip 1 must be sound in about [-1, 1]; it has a sample of 1e+20",
        "clip 1 must be a numpy array, got list",
        "clip 1 must be a numpy array, got Tensor",
        "text 1 must be a string, got NoneType",
        "text 1 must be a string, got bytes",
        "f8 True",
        ">f4 True",
    ]
