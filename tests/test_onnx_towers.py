"""Towers as ONNX graphs against the towers themselves: any length, any company, every precision."""

import functools
import pkgutil
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import lapis.audio_encoders
from lapis.audio_encoders.dasheng import Dasheng
from lapis.audio_encoders.m2d import M2d
from lapis.audio_encoders.slap import Slap
from lapis.layers.projection import Linear, Perceptron
from lapis.model import JointModel
from lapis.onnx.quantise import quantised
from lapis.onnx.texts import padded, text_graph
from lapis.onnx.towers import audio_graph
from lapis.ragged import Ragged
from lapis.text_encoders.huggingface import HuggingFace
from lapis.text_encoders.sentence import Sentence
from lapis.text_encoders.sonar import Sonar

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SIZES = {"width": 32, "depth": 2, "heads": 2, "hidden": 48}
TOWERS = {
    "dasheng": Dasheng.Config(**SIZES),
    "dasheng-2026": Dasheng.Config(**SIZES, pooling="release-2026"),
    "m2d": M2d.Config(**SIZES, pooling="semantic", columns=62, chunk_frames=1001),
    "m2d-frames": M2d.Config(**SIZES, pooling="frames"),
    "m2d-complete": M2d.Config(**SIZES, chunking="complete", patch_mels=80, patch_frames=2, columns=304),
    "slap": Slap.Config(**{**SIZES, "depth": 3}),
    "slap-narrow": Slap.Config(**{**SIZES, "depth": 3}, norm_heads=True, window_columns=2),
    "slap-itself": Slap.Config(**SIZES, window_columns=0),
}
SECONDS = (0.001, 0.1, 1.0, 10.06, 10.2, 20.5)
"""Below one frame, and on both sides of where Dasheng and M2D begin another chunk."""


@dataclass(frozen=True)
class Case:
    name: str
    encoder: torch.nn.Module
    projection: torch.nn.Module
    clips: list[torch.Tensor]
    expected: np.ndarray


@pytest.fixture(scope="module", params=TOWERS)
def case(request) -> Case:
    return _case(request.param)


@functools.cache
def _case(name) -> Case:
    torch.manual_seed(0)
    encoder = TOWERS[name].build().eval()
    if isinstance(encoder, Dasheng):
        encoder.band_norm.running_mean.normal_(-30, 5)
        encoder.band_norm.running_var.uniform_(50, 200)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    projection = Perceptron.Config(hidden=20).build(encoder.width, to=16)
    generator = torch.Generator().manual_seed(1)
    clips = [torch.randn(round(seconds * 16_000), generator=generator) * 0.1 for seconds in SECONDS]
    clips += [clips[2] * 1e-6, torch.zeros(8_000)]  # what is quiet must not hear its loud neighbours
    with torch.inference_mode():
        expected = F.normalize(projection(encoder.pool(encoder(Ragged.pack(clips)))), dim=-1).numpy()
    return Case(name, encoder, projection, clips, expected)


def _session(model):
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def _vectors(session, clips):
    lengths = np.array([len(clip) for clip in clips])
    waveforms = np.full((len(clips), lengths.max()), 0.7, np.float32)  # what completes a clip is no zeros
    for row, clip in zip(waveforms, clips, strict=True):
        row[: len(clip)] = clip
    return session.run(None, {"waveforms": waveforms, "lengths": lengths})[0]


def _each(session, clips):
    return np.concatenate([_vectors(session, [clip]) for clip in clips])


def test_a_graph_gives_what_its_tower_gives(case):
    model = audio_graph(case.encoder, case.projection, width=16)
    onnx.checker.check_model(model, full_check=True)
    session = _session(model)
    assert np.abs(_each(session, case.clips) - case.expected).max() <= 1e-5
    assert np.abs(_vectors(session, case.clips) - case.expected).max() <= 1e-5
    assert (case.expected @ case.expected.T).min() < 0.99  # the clips are not all alike


@pytest.mark.parametrize("name", ["dasheng", "m2d", "slap"])
def test_half_precision_and_eight_bits_stay_near(name):
    case = _case(name)
    half = _session(audio_graph(case.encoder, case.projection, width=16, half=True))
    bits = quantised(audio_graph(case.encoder, case.projection, width=16))
    assert "MatMulInteger" in {node.op_type for node in bits.graph.node}
    for session in (half, _session(bits)):
        few = [1, 2, 5]
        clips, expected = [case.clips[clip] for clip in few], case.expected[few]
        alone, together = _each(session, clips), _vectors(session, clips)
        assert (alone * expected).sum(1).min() >= 0.999
        assert (alone * together).sum(1).min() >= 0.999


def test_eight_bits_are_smaller():
    encoder = M2d.Config(width=256, depth=4, heads=4, hidden=512).build()  # whose pooling has no weights
    sizes = [
        make(audio_graph(encoder, Linear.Config().build(256, to=64), width=64)).ByteSize()
        for make in (lambda model: model, quantised)
    ]
    transform = 2 * 201 * 400 * 4
    assert sizes[1] - transform < 0.35 * (sizes[0] - transform)


def test_every_tower_of_the_folder_is_here():
    modules = {module.name for module in pkgutil.iter_modules(lapis.audio_encoders.__path__)}
    assert modules == {name.split("-")[0] for name in TOWERS}


def test_a_tower_without_a_form_is_refused():
    with pytest.raises(ValueError, match="Linear has no form in ONNX yet; those of Slap, Dasheng, M2d have"):
        audio_graph(torch.nn.Linear(2, 2), torch.nn.Identity(), width=2)


def _model(text, **changes):
    torch.manual_seed(0)
    audio = Slap.Config(width=16, depth=1, heads=2, hidden=24)
    return JointModel.Config(audio=audio, text=text, width=8, **changes).build().eval()


def _tokens(generator, lengths):
    return [generator.integers(4, 99, length).tolist() for length in lengths]


@pytest.mark.parametrize("form", ["float32", "float16", "int8"])
def test_sonar_as_a_graph(form):
    sonar = Sonar.Config(vocabulary=120, width=16, depth=2, heads=2, hidden=24, max_tokens=50)
    model = _model(sonar, text_projection=Perceptron.Config(hidden=12))
    numbers = _tokens(np.random.default_rng(0), (1, 50, 7, 7))
    with torch.inference_mode():
        rows = model.text_encoder.encode(Ragged.pack([torch.tensor(row) for row in numbers]))
        expected = F.normalize(model.text_projection(rows), dim=-1).numpy()
    graph = text_graph(model, half=form == "float16")
    session = _session(quantised(graph) if form == "int8" else graph)
    least = 0.999999 if form == "float32" else 0.999
    for company in ([[0], [1], [2], [3]], [[0, 1, 2, 3]]):
        answers = [dict(zip(("tokens", "mask"), padded([numbers[text] for text in texts]))) for texts in company]
        vectors = np.concatenate([session.run(None, inputs)[0] for inputs in answers])
        assert (vectors * expected).sum(1).min() >= least


def test_of_a_frozen_sentence_model_the_projection_alone():
    model = _model(Sentence.Config("any", width=24))
    vectors = np.random.default_rng(0).standard_normal((3, 24)).astype(np.float32)
    with torch.inference_mode():
        expected = F.normalize(model.text_projection(torch.from_numpy(vectors)), dim=-1).numpy()
    answer = _session(text_graph(model)).run(None, {"sentences": vectors})[0]
    assert np.abs(answer - expected).max() <= 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["mean", "first", "attention"])
@pytest.mark.parametrize("family", ["BertConfig", "XLMRobertaConfig", "ModernBertConfig"])
def test_encoders_of_transformers(family, pooling):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    special |= {"local_attention": 8} if family == "ModernBertConfig" else {}
    config = getattr(transformers, family)(vocab_size=100, max_position_embeddings=64, **sizes, **special)
    text = HuggingFace.Config("any", pooling=pooling, fresh=True, architecture=config.to_diff_dict())
    model = _model(text)
    numbers = _tokens(np.random.default_rng(0), (1, 3, 12, 30, 40))
    with torch.inference_mode():
        rows = model.text_encoder.encode(Ragged.pack([torch.tensor(row) for row in numbers]))
        expected = F.normalize(model.text_projection(rows), dim=-1).numpy()
    for form, least in (("float32", 0.999999), ("float16", 0.999), ("int8", 0.999)):
        graph = text_graph(model, half=form == "float16")
        assert b"site-packages" not in graph.SerializeToString()  # nor any other path of this machine
        session = _session(quantised(graph) if form == "int8" else graph)
        for texts in ([numbers], [[row] for row in numbers]):
            inputs = [dict(zip(("tokens", "mask"), padded(rows))) for rows in texts]
            vectors = np.concatenate([session.run(None, each)[0] for each in inputs])
            assert (vectors * expected).sum(1).min() >= least, form
