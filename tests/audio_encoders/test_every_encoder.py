"""Every audio tower in the folder, by its module's name: shapes, independence of neighbours, gradients."""

import copy
import importlib
import pkgutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import lapis.audio_encoders
from lapis.audio_encoders.dasheng import Dasheng
from lapis.audio_encoders.m2d import M2d
from lapis.audio_encoders.slap import Slap
from lapis.layers.attention import attend_plain
from lapis.model import JointModel
from lapis.ragged import Ragged
from lapis.text_encoders.huggingface import HuggingFace

SMALL = {
    "dasheng": Dasheng.Config(width=32, depth=2, heads=2, hidden=48),
    "m2d": M2d.Config(width=32, depth=2, heads=2, hidden=48, pooling="semantic"),
    "slap": Slap.Config(width=32, depth=3, heads=2, hidden=48),
}
SECONDS = (0.05, 1.0, 120.0, 0.16, 7.31, 1.0)
FOLDER = [module.name for module in pkgutil.iter_modules(lapis.audio_encoders.__path__)]


def _clips(encoder, seconds=SECONDS):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(round(s * encoder.sample_rate), generator=generator) * 0.1 for s in seconds]


@pytest.fixture(scope="module", params=FOLDER)
def encoder(request):
    assert importlib.import_module(f"lapis.audio_encoders.{request.param}").__doc__
    torch.manual_seed(0)
    encoder = SMALL[request.param].build().eval()
    with torch.no_grad():
        # What starts at zero (biases, M2D's semantic token) hides what follows it: move it a little.
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return encoder


def test_a_clip_gets_in_a_batch_what_it_gets_alone(encoder):
    clips = _clips(encoder)
    with torch.no_grad():
        tokens = encoder(Ragged.pack(clips))
        together = encoder.pool(tokens)
        assert together.shape == (len(clips), encoder.width)
        assert tokens.lengths == tuple(encoder.num_tokens(len(clip)) for clip in clips)
        for clip, expected, rows in zip(clips, together, tokens.split(), strict=True):
            alone = encoder(Ragged.pack([clip]))
            assert (alone.rows - rows).abs().max() <= 1e-5
            assert (encoder.pool(alone)[0] - expected).abs().max() <= 1e-5


def test_gradients_reach_every_parameter_and_agree_with_the_plain_path(encoder, monkeypatch):
    """Packed through the fast attention against one clip at a time through the plain one."""
    clips = _clips(encoder, (0.3, 12.0, 0.3, 1.1))

    def gradients(batches):
        encoder.zero_grad()
        for batch in batches:
            pooled = encoder.pool(encoder(Ragged.pack(batch)))
            (pooled * torch.linspace(-1, 1, encoder.width)).sum().backward()
        return {name: parameter.grad.clone() for name, parameter in encoder.named_parameters()}

    together = gradients([clips])
    monkeypatch.setattr("lapis.layers.transformer.attend", attend_plain)
    alone = gradients([[clip] for clip in clips])
    for name, gradient in together.items():
        if name.endswith("attention.key.bias"):
            continue  # moves all scores of a query alike, which softmax does not see: its gradient is rounding
        assert gradient.abs().max() > 0, name
        assert (gradient - alone[name]).norm() / gradient.norm() <= 1e-4, name


def test_all_layers_are_to_be_had(encoder):
    clips = Ragged.pack(_clips(encoder, (0.3, 12.0)))
    with torch.no_grad():
        layers, tokens = encoder.layers(clips), encoder(clips)
    assert len(layers) == len(encoder.transformer.blocks)
    assert {layer.lengths for layer in layers} == {tokens.lengths}
    assert (layers[-1].rows - tokens.rows).abs().max() <= 1e-5
    assert (layers[0].rows - tokens.rows).abs().max() > 1e-3


@pytest.mark.parametrize("seconds", [0.05, 1.0, 25.0])
def test_a_token_knows_its_time(encoder, seconds):
    times = encoder.token_seconds(round(seconds * encoder.sample_rate))
    assert times.shape == (encoder.num_tokens(round(seconds * encoder.sample_rate)), 2)
    assert times[0, 0] == 0 and (np.diff(times[:, 0]) >= 0).all() and (times[:, 1] > times[:, 0]).all()
    # Up to a patch is not there (Dasheng drops the part of one) or not full (the others complete it).
    assert abs(times[-1, 1] - seconds) <= times[0, 1]


def test_sound_matters(encoder):
    clips = _clips(encoder, (1.0, 1.0))
    with torch.no_grad():
        first, second = encoder.pool(encoder(Ragged.pack(clips)))
    assert not torch.allclose(first, second, atol=1e-4)


def test_slap_has_the_papers_size():
    """12 blocks of 9.44 M (4 x 768 x 768 attention, 3 x 768 x 3072 SwiGLU, two norms) = 113.3 M, 0.2 M of patches,
    9.4 M of attention pooling."""
    with torch.device("meta"):
        encoder = Slap(Slap.Config())
    blocks = sum(parameter.numel() for parameter in encoder.transformer.parameters())
    assert blocks == 12 * (4 * 768 * 768 + 3 * 768 * 3072 + 2 * 768) + 768
    assert sum(parameter.numel() for parameter in encoder.patches.parameters()) == 256 * 768
    assert [block.window for block in encoder.transformer.blocks] == [48, 48, None] * 4
    assert not [name for name, _ in encoder.named_parameters() if name.endswith("bias")]


@pytest.mark.parametrize(("seconds", "tokens"), [(1, 28), (5, 128), (10, 252), (15, 376), (20, 504), (30, 752)])
def test_slap_token_counts(seconds, tokens):
    with torch.device("meta"):
        encoder = Slap(replace(SMALL["slap"]))
    assert encoder.num_tokens(seconds * 16_000) == tokens


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_it_stays_near_float32(encoder, dtype):
    clips = Ragged.pack(_clips(encoder, (0.05, 2.0, 0.5, 25.0)))
    half = copy.deepcopy(encoder).to(dtype)
    with torch.no_grad():
        exact, rounded = encoder.pool(encoder(clips)), half.pool(half(clips))
    assert rounded.dtype == dtype
    assert torch.cosine_similarity(exact, rounded.float()).min() >= 0.999


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-3), (torch.bfloat16, 5e-2), (torch.float16, 1e-2)])
def test_a_gpu_gives_what_the_processor_gives(encoder, dtype, tolerance):
    clips = Ragged.pack(_clips(encoder, (0.05, 2.0, 0.5, 25.0)))
    there = copy.deepcopy(encoder).to("cuda", dtype)
    with torch.no_grad():
        here, answer = encoder.pool(encoder(clips)), there.pool(there(clips.to("cuda"))).float().cpu()
    assert torch.cosine_similarity(here, answer).min() >= 0.999
    assert (here - answer).abs().max() <= tolerance * here.abs().max()


def test_slap_with_both_towers_has_the_papers_size():
    """113.5 M of audio and ModernBERT-base's 149.0 M, pooling and projections apart."""
    transformers = pytest.importorskip("transformers")
    modern_bert = HuggingFace.Config(
        "answerdotai/ModernBERT-base",
        pooling="attention",
        fresh=True,
        architecture=transformers.ModernBertConfig().to_diff_dict(),
    )
    config = JointModel.Config(audio=Slap.Config(), text=modern_bert, width=768)
    with torch.device("meta"):
        model = config.build()
    audio = sum(p.numel() for name, p in model.audio_encoder.named_parameters() if not name.startswith("pooling."))
    text = sum(p.numel() for p in model.text_encoder.encoder.parameters())
    assert audio == 113_462_016 and sum(p.numel() for p in model.audio_encoder.pooling.parameters()) == 9_438_720
    assert text == pytest.approx(149.0e6, rel=2e-3)


@pytest.mark.parametrize("norm_heads", [False, True])
def test_slap_in_bfloat16_stays_near_float32(norm_heads):
    torch.manual_seed(0)
    encoder = replace(SMALL["slap"], norm_heads=norm_heads).build().eval()
    clips = Ragged.pack(_clips(encoder, (0.5, 2.0, 0.5)))
    with torch.no_grad():
        exact = encoder.pool(encoder(clips))
        with torch.autocast("cpu", torch.bfloat16):
            rounded = encoder.pool(encoder(clips))
    assert torch.cosine_similarity(exact, rounded.float()).min() >= 0.999
