"""M2D and M2D-CLAP from official tensors: golden figures of both years, every key layout, heads, sizes, refusals."""

import numpy as np
import pytest
import torch

from golden import official
from lapis.layers import spectrogram
from lapis.layers.spectrogram import LogMel
from lapis.pretrained import m2d_clap
from lapis.ragged import Ragged
from lapis.text_encoders.huggingface import HuggingFace
from lapis.text_encoders.sentence import Sentence

GOLDEN = {year: np.load(official.FOLDER / f"m2d_clap_{year}.npz") for year in (2024, 2025)}


@pytest.fixture(scope="module")
def release_2024():
    return official.m2d_clap(2024)


@pytest.fixture(scope="module")
def release_2025():
    return official.m2d_clap(2025)


@pytest.fixture(scope="module", params=[2024, 2025])
def year_and_model(request):
    tensors = request.getfixturevalue(f"release_{request.param}")
    return request.param, m2d_clap.build(tensors, source="golden").eval()


def test_audio_is_the_official_one(year_and_model):
    year, model = year_and_model
    golden, encoder = GOLDEN[year], model.audio_encoder
    clips = Ragged.pack([torch.from_numpy(sound) for sound in official.sounds(official.M2D_SECONDS)])
    with torch.inference_mode():
        front_end = encoder.config.front_end
        levels = encoder.log_mel(clips).map(lambda rows: rows * front_end.deviation + front_end.mean).split()
        tokens = encoder(clips)
        vectors = model.audio_projection(encoder.pool(tokens))
        frames = encoder.frames(tokens).split()
    for number, (seconds, rows) in enumerate(zip(official.M2D_SECONDS, tokens.split(), strict=True)):
        where = f"audio/{seconds}"
        assert abs(levels[number].mean(0) - golden[f"{where}/log_mel_mean_over_frames"]).max() <= 1e-3
        if f"{where}/log_mel" in golden:
            assert abs(levels[number].T - golden[f"{where}/log_mel"]).max() <= 1e-3
        assert tuple(rows.shape) == tuple(golden[f"{where}/tokens_shape"])
        assert len(rows) == encoder.num_tokens(round(seconds * 16_000))
        assert abs(rows[[0, -1]] - golden[f"{where}/tokens_first_last"]).max() <= 2e-5
        assert abs(rows.mean(0) - golden[f"{where}/tokens_mean"]).max() <= 2e-5
        assert tuple(frames[number].shape) == tuple(golden[f"{where}/frames_shape"])
        assert abs(frames[number].mean(0) - golden[f"{where}/frames_mean"]).max() <= 2e-5
        assert abs(vectors[number] - golden[f"{where}/embedding"]).max() <= 2e-5


def test_text_of_2025_is_the_official_one(release_2025):
    golden = GOLDEN[2025]
    lengths = sorted({int(key.split("/")[1]) for key in golden.files if key.startswith("text/")})
    assert len(lengths) >= 3
    encoder = m2d_clap.build(release_2025, source="golden").eval().text_encoder
    ids = Ragged.pack([torch.from_numpy(golden[f"text/{length}/ids"]) for length in lengths])
    with torch.inference_mode():
        vectors = encoder.encode(ids)
    for length, vector in zip(lengths, vectors, strict=True):
        assert abs(vector - golden[f"text/{length}/cls"]).max() <= 2e-5
    with torch.enable_grad():
        padded = encoder.encode(ids)
    assert (padded - vectors).abs().max() <= 2e-5


def test_text_towers_are_those_the_papers_used(release_2024, release_2025):
    bert = m2d_clap.build(release_2025, source="golden").config.text
    assert isinstance(bert, HuggingFace.Config) and (bert.name, bert.pooling) == (
        "google-bert/bert-base-uncased",
        "first",
    )
    gte = m2d_clap.build(release_2024, source="golden").config.text
    assert gte == Sentence.Config("thenlper/gte-base", width=768)
    stage_one = release_2024 | {"text_proj.weight": torch.zeros(768, 4096), "text_proj.bias": torch.zeros(768)}
    nv_embed = m2d_clap.build(stage_one, source="golden")
    assert nv_embed.config.text == Sentence.Config("nvidia/NV-Embed-v2", width=4096, normalise=False)
    assert nv_embed.text_projection.weight.shape == (768, 4096)


def test_it_has_the_published_size(release_2025):
    backbone = {name: tensor for name, tensor in release_2025.items() if name.startswith("backbone.")}
    assert len(backbone) == 166
    model = m2d_clap.build(release_2025, source="golden")
    ours = sum(p.numel() for p in model.audio_encoder.parameters()) + model.audio_encoder.positions.numel()
    # The file's position row of the class token, all zeros, and its two statistics are not stored by us.
    assert ours + 768 + 2 == sum(tensor.numel() for tensor in backbone.values()) == pytest.approx(89.04e6, rel=1e-4)
    assert sum(p.numel() for p in model.audio_encoder.semantic.parameters()) == 3_548_928
    assert sum(p.numel() for p in model.text_encoder.parameters()) == pytest.approx(109.48e6, rel=1e-4)


def _layouts(release):
    """The audio side of the 2025 release in every layout in which files come."""
    backbone = {n.removeprefix("backbone."): t for n, t in release.items() if n.startswith("backbone.")}
    encoder = {name: tensor for name, tensor in backbone.items() if not name.startswith("audio_proj.")}
    fine_tuned = {f"module.ar.runtime.backbone.{name}": tensor for name, tensor in encoder.items()}
    fine_tuned |= {
        "module.ar.runtime.to_spec.mel_basis": torch.zeros(80, 201),
        "module.ar.runtime.to_spec.stft.wsin": torch.zeros(201, 1, 400),
        "module.head.norm.running_mean": torch.zeros(768),
        "module.head.norm.running_var": torch.ones(768),
        "module.head.norm.num_batches_tracked": torch.tensor(3),
        "module.head.mlp.mlp.0.weight": torch.linspace(-1, 1, 527 * 768).reshape(527, 768),
        "module.head.mlp.mlp.0.bias": torch.linspace(-1, 1, 527),
    }
    pretraining = backbone | {
        "mask_token": torch.zeros(1, 1, 512),
        "decoder_embed.weight": torch.zeros(512, 768),
        "decoder_blocks.0.norm1.weight": torch.ones(512),
        "target_blocks.0.norm1.weight": torch.ones(768),
        "target_norm.bias": torch.zeros(768),
        "logit_scale": torch.tensor(1.0),
        "offline_predictor.weight": torch.zeros(768, 3840),
    }
    runtime = release | {"to_spec.mel_basis": torch.zeros(80, 201), "to_spec.stft.window_mask": torch.zeros(1, 400, 1)}
    return {"encoder": encoder, "fine-tuned": fine_tuned, "pre-training": pretraining, "runtime": runtime}


@pytest.mark.parametrize("layout", ["encoder", "fine-tuned", "pre-training", "runtime"])
def test_every_layout_gives_the_same_encoder(release_2025, layout):
    tensors = _layouts(release_2025)[layout]
    assert m2d_clap.recognises(frozenset(tensors))
    model = m2d_clap.build(tensors, source=layout, features="general")
    clips = Ragged.pack([torch.from_numpy(sound) for sound in official.sounds((0.1, 1.0))])
    with torch.inference_mode():
        frames = model.audio_encoder.pool(model.audio_encoder(clips))
    assert frames.shape == (2, 3840) == (2, model.width)
    for seconds, vector in zip((0.1, 1.0), frames, strict=True):
        assert abs(vector - GOLDEN[2025][f"audio/{seconds}/frames_mean"]).max() <= 2e-5


def test_general_features_hear_only(release_2025):
    model = m2d_clap.build(_layouts(release_2025)["encoder"], source="enconly")
    assert model.embed_audio(official.sounds((0.5,))).shape == (1, 3840)
    with pytest.raises(ValueError, match="no text tower"):
        model.embed_text(["rain"])


def test_the_audioset_head(release_2025):
    encoder = m2d_clap.build(_layouts(release_2025)["fine-tuned"], source="AS-FT").eval().audio_encoder
    clips = Ragged.pack([torch.from_numpy(sound) for sound in official.sounds((0.5, 12.0))])
    with torch.inference_mode():
        tokens = encoder(clips)
        logits, by_frame = encoder.classify(tokens), encoder.classify_frames(tokens)
    assert logits.shape == (2, 527)
    assert by_frame.lengths == tuple(len(encoder.frame_seconds(length)) for length in clips.lengths)
    # The head is linear with a norm that is the identity here: the mean over frames is the clip's answer.
    assert (by_frame.mean() - logits).abs().max() <= 1e-4
    mean = tokens.mean() / (1 + 1e-5) ** 0.5
    weight = torch.linspace(-1, 1, 527 * 768).reshape(527, 768)
    assert (mean @ weight.T + torch.linspace(-1, 1, 527) - logits).abs().max() <= 1e-4
    headless = m2d_clap.build(release_2025, source="golden").audio_encoder
    with pytest.raises(ValueError, match="no head"):
        headless.classify(tokens)


def test_all_layers_on_request(year_and_model):
    _, model = year_and_model
    clips = Ragged.pack([torch.from_numpy(sound) for sound in official.sounds((0.3, 14.0))])
    with torch.inference_mode():
        layers = model.audio_encoder.layers(clips)
        tokens = model.audio_encoder(clips)
    assert len(layers) == 12
    assert {layer.lengths for layer in layers} == {tokens.lengths}
    assert (layers[-1].rows - tokens.rows).abs().max() <= 1e-5
    assert (layers[-2].rows - tokens.rows).abs().max() > 0.1


def test_clips_get_in_a_batch_what_they_get_alone(year_and_model):
    _, model = year_and_model
    clips = official.sounds((0.01, 12.0, 0.3, 10.02))
    for clip, vector in zip(clips, model.embed_audio(clips), strict=True):
        assert abs(model.embed_audio([clip])[0] - vector).max() <= 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_near(year_and_model, request, dtype):
    year, model = year_and_model
    half = m2d_clap.build(request.getfixturevalue(f"release_{year}"), source="golden").to(dtype)
    clips = official.sounds((0.2, 3.7, 10.5))
    assert (half.embed_audio(clips) * model.embed_audio(clips)).sum(1).min() >= 0.999


def test_complete_chunking_loses_no_frame_and_tells_the_time(release_2025):
    published = m2d_clap.build(release_2025, source="golden")
    complete = m2d_clap.build(release_2025, source="golden", chunking="complete")
    clips = official.sounds((9.9, 10.0, 21.0))
    cosines = (published.embed_audio(clips) * complete.embed_audio(clips)).sum(1)
    np.testing.assert_allclose(m2d_clap.chunking_shift(published, clips), 1 - cosines, atol=1e-6)
    assert cosines[0] > 1 - 1e-6 and 0.99 < cosines[1] < 1 - 1e-5 and 0.99 < cosines[2] < 1 - 1e-4
    for model, lost in ((published, 9), (complete, 0)):
        encoder = model.audio_encoder
        seconds = encoder.frame_seconds(60 * 16_000)
        covered = np.zeros(6001, dtype=bool)
        for begin, end in np.round(seconds * 100).astype(int):
            assert not covered[begin:end].any()
            covered[begin:end] = True
        assert (~covered[:5005]).sum() == 5 * lost
        tokens = encoder.token_seconds(60 * 16_000)
        assert len(tokens) == encoder.num_tokens(60 * 16_000) == 5 * len(seconds)


@pytest.mark.parametrize(("patch", "tokens"), [((16, 4), 250), ((80, 2), 304)])
def test_other_patches_are_read_from_the_shapes(release_2024, patch, tokens):
    mels, frames = patch
    changed = {n: t for n, t in release_2024.items() if not n.startswith(("audio_proj", "decoder", "target"))}
    changed["patch_embed.proj.weight"] = torch.full((768, 1, mels, frames), 0.01)
    changed["pos_embed"] = torch.zeros(1, 1 + tokens, 768)
    encoder = m2d_clap.build(changed, source="other").audio_encoder
    assert (encoder.config.columns, encoder.config.chunk_frames) == (
        tokens // (80 // mels),
        tokens // (80 // mels) * frames,
    )
    clips = Ragged.pack([torch.zeros(16_000)])
    assert encoder(clips).lengths == (-(-101 // frames) * (80 // mels),)


def test_the_sample_rate_is_read_from_the_filters_or_told(release_2024):
    encoder = {n: t for n, t in release_2024.items() if not n.startswith(("audio_proj", "decoder", "target"))}
    assert m2d_clap.build(encoder, source="x", sample_rate=32_000).audio_encoder.config.front_end.fft_samples == 800
    runtime = {f"backbone.{name}": tensor for name, tensor in encoder.items()}
    model = m2d_clap.build(runtime | {"to_spec.mel_basis": torch.zeros(80, 401)}, source="x")
    assert model.sample_rate == 32_000
    levels = LogMel(spectrogram.M2D_32K)(Ragged.pack([torch.zeros(32_000)]))
    assert levels.lengths == (101,)


def test_a_missing_an_extra_and_a_misshaped_tensor_are_named(release_2025):
    for change, named in [
        (lambda t: t.pop("backbone.blocks.3.norm1.weight"), r"blocks\.3\.attention_norm\.weight"),
        (lambda t: t.update({"backbone.neck.weight": torch.zeros(3)}), r"neck\.weight"),
        (lambda t: t.update({"backbone.audio_proj.norm.bias": torch.zeros(5)}), r"semantic\.transformer\.norm\.bias"),
    ]:
        changed = dict(release_2025)
        change(changed)
        with pytest.raises(ValueError, match=named):
            m2d_clap.build(changed, source="changed.pth")


def test_the_audio_side_of_2025_alone_keeps_its_semantic_vector(release_2025):
    backbone = {name: tensor for name, tensor in release_2025.items() if name.startswith("backbone.")}
    tuned = {f"module.ar.runtime.{name}": tensor for name, tensor in backbone.items()}
    for tensors in (backbone, tuned, {f"module.{name}": tensor for name, tensor in release_2025.items()}):
        assert m2d_clap.recognises(frozenset(tensors))
        model = m2d_clap.build(tensors, source="audio side").eval()
        clips = Ragged.pack([torch.from_numpy(sound) for sound in official.sounds((0.1, 1.0))])
        with torch.inference_mode():
            vectors = model.audio_encoder.pool(model.audio_encoder(clips))
        for seconds, vector in zip((0.1, 1.0), vectors, strict=True):
            assert abs(vector - GOLDEN[2025][f"audio/{seconds}/embedding"]).max() <= 2e-5


def test_statistics_that_are_missing_are_not_taken_from_another_year(release_2025):
    without = {name: tensor for name, tensor in release_2025.items() if name != "backbone.norm_stats"}
    with pytest.raises(ValueError, match=r"cut\.pth does not fit the model: 1 tensor \(norm_stats\) missing"):
        m2d_clap.build(without, source="cut.pth")


@pytest.mark.parametrize("name", ["backbone.pos_embed", "backbone.blocks.0.mlp.fc1.weight"])
def test_a_tensor_that_says_the_size_is_named_too(release_2025, name):
    without = {each: tensor for each, tensor in release_2025.items() if each != name}
    assert m2d_clap.recognises(frozenset(without))
    with pytest.raises(ValueError, match=rf"cut\.pth.*{name.removeprefix('backbone.')}.* missing"):
        m2d_clap.build(without, source="cut.pth")


def test_a_tuned_length_that_stands_in_no_shape_can_be_told(release_2024):
    encoder = {n: t for n, t in release_2024.items() if not n.startswith(("audio_proj", "decoder", "target"))}
    told = m2d_clap.build(encoder, source="x", chunk_frames=610).audio_encoder
    assert told.config.chunk_frames == 610 and told.num_tokens(160 * 620) == 5 * (38 + 1)
