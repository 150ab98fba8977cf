"""GLAP from official tensors: its golden figures, both key layouts, sizes, and what is refused."""

import numpy as np
import pytest
import torch

from golden import official
from lapis.model import JointModel
from lapis.pretrained import glap
from lapis.ragged import Ragged
from lapis.text_encoders.sonar import Sonar

GOLDEN = np.load(official.FOLDER / "glap_small_text.npz")
TEXT_LENGTHS = (2, 3, 17, 64, 200)


@pytest.fixture(scope="module")
def tensors():
    return official.glap()


@pytest.fixture(scope="module")
def model(tensors):
    return glap.build(tensors, source="golden").eval()


def _token_ids(lengths, golden=GOLDEN):
    return Ragged.pack([torch.from_numpy(golden[f"text/{length}/ids"]) for length in lengths])


def test_log_mel_and_tokens_are_the_official_ones(model):
    clips = [torch.from_numpy(sound) for sound in official.sounds(official.GLAP_SECONDS)]
    encoder = model.audio_encoder
    with torch.inference_mode():
        levels = encoder.log_mel(Ragged.pack(clips)).split()
        tokens = encoder(Ragged.pack(clips)).split()
    for seconds, decibels, rows in zip(official.GLAP_SECONDS, levels, tokens, strict=True):
        where = f"audio/{seconds}"
        assert abs(decibels.mean(0) - GOLDEN[f"{where}/decibels_mean_over_frames"]).max() <= 1e-3
        if f"{where}/decibels" in GOLDEN:
            assert abs(decibels.T - GOLDEN[f"{where}/decibels"]).max() <= 1e-3
        assert tuple(rows.shape) == tuple(GOLDEN[f"{where}/tokens_shape"])
        assert abs(rows[[0, -1]] - GOLDEN[f"{where}/tokens_first_last"]).max() <= 2e-5


@pytest.mark.parametrize(("pooling", "key"), [("published", "published"), ("release-2026", "2026")])
def test_embeddings_of_both_poolings_are_the_official_ones(tensors, pooling, key):
    model = glap.build(tensors, source="golden", pooling=pooling)
    embedded = model.embed_audio(official.sounds(official.GLAP_SECONDS))
    for seconds, vector in zip(official.GLAP_SECONDS, embedded, strict=True):
        assert abs(vector - GOLDEN[f"audio/{seconds}/embedding_{key}"]).max() <= 2e-5


def test_text_is_the_official_one(model):
    _text_agrees(model, GOLDEN)


@pytest.mark.slow
def test_text_of_full_size_is_the_official_one():
    tensors = official.glap(text_layers=24, vocabulary=256_206)
    assert len(tensors) == 552
    _text_agrees(glap.build(tensors, source="golden"), np.load(official.FOLDER / "glap_full_text.npz"))


def _text_agrees(model, golden):
    with torch.inference_mode():
        sentences = model.text_encoder.encode(_token_ids(TEXT_LENGTHS, golden))
        vectors = torch.nn.functional.normalize(model.text_projection(sentences), dim=-1)
    for length, sentence, vector in zip(TEXT_LENGTHS, sentences, vectors, strict=True):
        assert abs(sentence - golden[f"text/{length}/sentence"]).max() <= 2e-5
        assert abs(vector - golden[f"text/{length}/embedding"]).max() <= 2e-5


def test_both_layouts_give_one_model(tensors, model):
    hub = {
        name.replace("encoder.model.", "encoder.", 1): tensor
        for name, tensor in tensors.items()
        if "front_end" not in name
    }
    assert glap.recognises(frozenset(hub)) and glap.recognises(frozenset(tensors))
    assert glap.build(hub, source="hub").identity == model.identity


def test_it_has_the_published_size():
    """855,475,328 parameters in the 552 tensors of the file, of which 6 are not parameters of ours."""
    empty = {name: torch.empty(shape, device="meta") for name, shape in official.shapes("glap").items()}
    assert len(empty) == 552
    config = glap._config(empty, source="glap", pooling="published", language="eng_Latn", tokenizer="")
    model = config.build_empty()
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert sum(counts.values()) == 855_475_328
    assert counts["audio_encoder"] == 85_447_808 and counts["text_encoder"] == 766_091_264
    assert counts["audio_projection"] == 1_837_056 and counts["text_projection"] == 2_099_200
    assert config.text == Sonar.Config()


def test_clips_and_texts_get_in_a_batch_what_they_get_alone(model):
    clips = official.sounds((0.01, 12.0, 0.3, 10.08))
    together = model.embed_audio(clips)
    for clip, vector in zip(clips, together, strict=True):
        assert abs(model.embed_audio([clip])[0] - vector).max() <= 1e-5
    with torch.inference_mode():
        tokens = _token_ids((200, 2, 64, 2, 17))
        batch = model.text_encoder.encode(tokens)
        for ids, vector in zip(tokens.split(), batch, strict=True):
            assert abs(model.text_encoder.encode(Ragged.pack([ids]))[0] - vector).max() <= 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near(tensors, model, dtype):
    half = glap.build(tensors, source="golden").to(dtype)
    clips = official.sounds((0.2, 3.7, 10.5))
    assert (half.embed_audio(clips) * model.embed_audio(clips)).sum(1).min() >= 0.999
    with torch.inference_mode():
        exact, rounded = (m.text_encoder.encode(_token_ids(TEXT_LENGTHS)) for m in (model, half))
    assert rounded.dtype == dtype
    assert torch.cosine_similarity(exact, rounded.float()).min() >= 0.999


def test_long_sound_is_the_mean_over_all_tokens(model):
    """However long: here 100 seconds, more than one group of chunks, against one chunk at a time."""
    clip = torch.from_numpy(official.sounds((100.0,))[0])
    encoder = model.audio_encoder
    with torch.inference_mode():
        tokens = encoder(Ragged.pack([clip]))
        patches = encoder.patches(encoder.log_mel(Ragged.pack([clip])).map(encoder.band_norm).first([10_000]))
        table = encoder.positions.tables[0] + encoder.positions.tables[1]
        plain = [
            encoder.transformer(Ragged.pack([chunk + table[: len(chunk)]])).rows for chunk in patches.rows.split(252)
        ]
    assert len(tokens.rows) == 2500 == encoder.num_tokens(len(clip))
    assert (torch.cat(plain) - tokens.rows).abs().max() <= 2e-5
    seconds = encoder.token_seconds(len(clip))
    assert seconds.shape == (2500, 2) and seconds[-1, 1] == pytest.approx(100.0)


def test_a_missing_an_extra_and_a_misshaped_tensor_are_named(tensors):
    for change, named in [
        (lambda t: t.pop("audio_proj.2.bias"), "audio_projection.down.bias"),
        (lambda t: t.update({"audio_proj.4.bias": torch.zeros(1024)}), "audio_proj.4.bias"),
        (lambda t: t.update({"text_proj.2.weight": torch.zeros(1024, 512)}), "text_projection.down.weight"),
    ]:
        changed = dict(tensors)
        change(changed)
        with pytest.raises(ValueError, match=named):
            glap.build(changed, source="changed.pt")


def test_an_unknown_language_is_refused(tensors):
    with pytest.raises(ValueError, match="SONAR has no language 'english'"):
        glap.build(tensors, source="golden", language="english")


def test_it_is_a_joint_model(model):
    assert isinstance(model, JointModel) and model.width == 1024 and model.sample_rate == 16_000


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_file_in_half_precision(tensors, model, dtype):
    halved = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
    clips = official.sounds((0.5,))
    for asked in (None, torch.float32, torch.bfloat16):
        loaded = glap.build(halved, source="half").to(asked)
        assert (loaded.embed_audio(clips) * model.embed_audio(clips)).sum() >= 0.999


@pytest.mark.parametrize("name", ["audio_proj.0.weight", "audio_encoder.model.time_pos_embed"])
def test_a_tensor_that_says_the_size_is_named_too(tensors, name):
    without = {each: tensor for each, tensor in tensors.items() if each != name}
    assert glap.recognises(frozenset(without))
    bare = name.removeprefix("audio_encoder.model.")
    with pytest.raises(ValueError, match=rf"cut\.pt.*{bare}.* missing"):
        glap.build(without, source="cut.pt")
    with pytest.raises(ValueError, match=rf"cut\.pt.*{bare} must have"):
        glap.build(tensors | {name: torch.zeros(3)}, source="cut.pt")
