"""On a real class of the library (its Transformer around a small CLAP), and on a module that pads."""

import json

import numpy as np
import pytest
import torch
from small_clap import RATE, TEXTS, make, sound

from lapis.model import Embedder
from lapis.pretrained import sentence_transformer
from lapis.pretrained.clap import Clap
from lapis.pretrained.sentence_transformer import SentenceEmbedder

library = pytest.importorskip("sentence_transformers")
from sentence_transformers.base.modules import InputModule  # noqa: E402  (the library is optional)

CLIPS = [sound(seconds, seed) for seed, seconds in enumerate([0.5, 3.0, 10.0, 0.2, 3.0])]


@pytest.fixture(scope="module")
def clap_folder(tmp_path_factory):
    return make(tmp_path_factory.mktemp("clap") / "model", fused=False)


@pytest.fixture(scope="module")
def folder(clap_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("sentence") / "model"
    library.SentenceTransformer(str(clap_folder), device="cpu").save(str(path))
    return path


@pytest.fixture(scope="module")
def model(folder):
    return SentenceEmbedder.from_folder(folder)


class Padding(InputModule):
    """Clips are padded to each other, and the padding counts; texts by their bytes. No word of a sample rate."""

    def __init__(self, width=4, says=4):
        super().__init__()
        self.linear = torch.nn.Linear(1, width)
        self.says = says

    @property
    def modalities(self):
        return ["text", "audio"]

    def preprocess(self, inputs, prompt=None, **kwargs):
        if isinstance(inputs[0], str):
            return {"rows": torch.tensor([[float(len(text))] for text in inputs])}
        assert all(item["sampling_rate"] == 16_000 for item in inputs)
        clips = [torch.from_numpy(item["array"]) for item in inputs]
        return {"rows": torch.nn.utils.rnn.pad_sequence(clips, batch_first=True).mean(1, keepdim=True)}

    def forward(self, features, **kwargs):
        features["sentence_embedding"] = self.linear(features["rows"])
        return features

    def get_embedding_dimension(self):
        return self.says

    def save(self, output_path, *args, **kwargs):
        raise NotImplementedError("it lives in this test only")


def padding(**changes):
    torch.manual_seed(0)
    return library.SentenceTransformer(modules=[Padding(**changes)], device="cpu")


def test_it_is_an_embedder(model):
    assert isinstance(model, Embedder)
    assert (model.sample_rate, model.width) == (RATE, 12)


def test_it_gives_what_the_model_gives(model, clap_folder):
    clap = Clap.from_folder(clap_folder)
    np.testing.assert_allclose(model.embed_audio(CLIPS), clap.embed_audio(CLIPS), atol=1e-5)
    np.testing.assert_allclose(model.embed_text(TEXTS), clap.embed_text(TEXTS), atol=1e-5)


def test_a_clip_gets_in_a_batch_what_it_gets_alone(model):
    for clip, vector in zip(CLIPS, model.embed_audio(CLIPS)):
        np.testing.assert_allclose(model.embed_audio([clip])[0], vector, atol=1e-5)


def test_even_where_padding_counts():
    with pytest.warns(UserWarning, match="padding does not say at which rate it takes sound: 16000 Hz is assumed"):
        model = SentenceEmbedder(padding(), name="padding")
    assert model.sample_rate == 16_000
    together = model.embed_audio(CLIPS)
    for clip, vector in zip(CLIPS, together):
        np.testing.assert_allclose(model.embed_audio([clip])[0], vector, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_texts_are_queries_with_the_models_prompt(folder, model):
    with_prompt = library.SentenceTransformer(str(folder), device="cpu", prompts={"query": "a bell "})
    prompted = SentenceEmbedder(with_prompt, name="prompted")
    np.testing.assert_allclose(prompted.embed_text(["rings"]), model.embed_text(["a bell rings"]), atol=1e-6)
    assert prompted.identity != model.identity


def test_a_text_that_looks_like_an_address_is_a_text(model, tmp_path, monkeypatch):
    """The library would fetch the first, and open the second."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rain.wav").touch()
    texts = ["http://example.com/a.wav", "rain.wav", "rain"]
    vectors = model.embed_text(texts)
    expected = model.model.encode([{"text": text} for text in texts], normalize_embeddings=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(folder, model, dtype):
    half = SentenceEmbedder.from_folder(folder).to("cpu", dtype)
    for whole, rounded in [
        (model.embed_audio(CLIPS), half.embed_audio(CLIPS)),
        (model.embed_text(TEXTS), half.embed_text(TEXTS)),
    ]:
        assert rounded.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rounded, axis=1), 1, atol=1e-5)
        assert (whole * rounded).sum(1).min() >= 0.999
    assert half.identity != model.identity


def test_identity_is_that_of_the_weights_and_the_settings(folder, model):
    again = SentenceEmbedder.from_folder(folder)
    assert again.identity == model.identity
    narrow = library.SentenceTransformer(str(folder), device="cpu", truncate_dim=6)
    assert SentenceEmbedder(narrow, name="narrow").width == 6
    assert SentenceEmbedder(narrow, name="narrow").identity != model.identity


def test_a_model_that_only_reads_is_refused():
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding
    from tokenizers import Tokenizer, models

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "rain": 1}, unk_token="[UNK]"))
    reader = library.SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=4)], device="cpu")
    with pytest.raises(ValueError, match=r"reader takes \['text'\], and not audio: it cannot compare sound and text"):
        SentenceEmbedder(reader, name="reader")


def test_a_width_that_is_not_said_or_not_kept():
    with pytest.raises(ValueError, match="padding does not say how wide its vectors are"):
        SentenceEmbedder(padding(says=None), name="padding")
    with pytest.warns(UserWarning, match="16000 Hz is assumed"):
        model = SentenceEmbedder(padding(says=3), name="padding")
    with pytest.raises(ValueError, match="said that its vectors are 3 wide, and gave 4"):
        model.embed_text(["rain"])


def test_code_that_comes_with_a_model_is_not_run(tmp_path):
    (tmp_path / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "", "type": "modeling.Module"}]')
    ran = tmp_path / "ran"
    (tmp_path / "modeling.py").write_text(f"open({str(ran)!r}, 'w')\nclass Module: pass\n")
    with pytest.raises(ValueError, match="code that comes with a model is never run"):
        sentence_transformer.from_folder(tmp_path)
    assert not ran.exists()


def test_what_cannot_be_opened(folder, tmp_path):
    with pytest.raises(ValueError, match="someone/nothing is no file or folder here"):
        SentenceEmbedder.from_folder("someone/nothing")
    for path in folder.iterdir():
        content = path.read_bytes()
        (tmp_path / path.name).write_bytes(content[:-100] if path.suffix == ".safetensors" else content)
    with pytest.raises(ValueError, match="sentence-transformers cannot open"):
        SentenceEmbedder.from_folder(tmp_path)


def test_folders_are_recognised(folder, clap_folder, tmp_path):
    assert sentence_transformer.recognises_folder(folder)
    assert not sentence_transformer.recognises_folder(clap_folder)
    modules = tmp_path / "modules.json"
    modules.write_text(json.dumps([{"idx": 0, "name": "0", "path": "", "type": "lapis.sentence_module.LapisModule"}]))
    assert not sentence_transformer.recognises_folder(tmp_path)
    modules.write_text("{}")
    assert sentence_transformer.recognises_folder(tmp_path)
    for content in ('[{"idx": 0}]', "[", "3"):
        modules.write_text(content)
        with pytest.raises(ValueError, match=r"modules\.json does not list modules with their types"):
            sentence_transformer.recognises_folder(tmp_path)


def test_what_cannot_be_embedded(model):
    with pytest.raises(ValueError, match="clip 1 must have samples"):
        model.embed_audio([sound(0.1), sound(0.0)])
    with pytest.raises(ValueError, match="text 1 is empty"):
        model.embed_text(["rain", " "])
    assert model.embed_audio([]).shape == model.embed_text([]).shape == (0, 12)
    assert not any(parameter.requires_grad for parameter in model.train().parameters())
