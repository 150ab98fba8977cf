"""An exported model from command to vectors: the report, the folder, what `lapis.load` makes of it, what it refuses."""

import json
import shutil
import warnings

import numpy as np
import pytest
import torch

import lapis
import tiny
from lapis import saved
from lapis.doctor import ModelWarning
from lapis.onnx import parity as parities
from lapis.onnx.making import ParityError, export
from lapis.onnx.parity import Parity, Row
from lapis.text_encoders.huggingface import HuggingFace
from lapis.text_encoders.sentence import Sentence
from lapis.text_encoders.sonar import Sonar

onnxruntime = pytest.importorskip("onnxruntime")

SECONDS = (0.1, 1.0, 5.0)
TEXT = Sentence.Config("any", width=24)
"""A frozen model that is asked nothing here."""


def _model(**changes):
    return tiny.model(text=TEXT, **changes)


def _clips(*seconds):
    generator = np.random.default_rng(0)
    return [(generator.standard_normal(round(each * 16_000)) * 0.1).astype(np.float32) for each in seconds]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model, its folder, and the report of parity."""
    model = _model(chunk_seconds=2.0)
    model.calibration = tiny.calibration(model)
    folder = tmp_path_factory.mktemp("exported") / "model"
    return model, folder, export(model, folder, seconds=SECONDS, licence="CC0", source="a test")


def test_the_report_is_that_of_every_kind(exported):
    _, folder, parity = exported
    assert [row.what for row in parity.rows] == [
        "sound of 0.1 s",
        "sound of 1 s",
        "sound of 5 s",
        "up to 1 s in one batch",
        "texts",
    ]
    assert parity.holds and parity.cosine >= 0.99999
    written = json.loads((folder / "parity.json").read_text())
    assert written["holds"] and written["least"] == 0.9999 and len(written["rows"]) == 5


def test_it_loads_as_the_same_model(exported):
    model, folder, _ = exported
    embedder = lapis.load(folder)
    assert isinstance(embedder, lapis.model.Embedder)
    assert embedder.identity == model.identity and embedder.width == 8 and embedder.sample_rate == 16_000
    assert embedder.calibration == model.calibration
    # Longer than a chunk, which goes in pieces; and so many that they go in several groups.
    clips = _clips(0.05, 7.3, 2.0, 2.1, 0.4, 5.0)
    assert np.abs(embedder.embed_audio(clips) - model.embed_audio(clips)).max() <= 1e-5
    assert embedder.embed_audio([]).shape == (0, 8)
    with pytest.raises(ValueError, match="clip 1 must have samples, all of them finite"):
        embedder.embed_audio([clips[0], np.array([np.nan], np.float32)])


def test_it_can_be_moved(exported, tmp_path):
    _, folder, _ = exported
    there = shutil.copytree(folder, tmp_path / "elsewhere")
    assert lapis.load(there).embed_audio(_clips(0.5)).shape == (1, 8)


def test_another_precision_is_another_identity(tmp_path):
    model = _model()
    model.calibration = tiny.calibration(model)
    parity = export(model, tmp_path / "int8", precision="int8", seconds=SECONDS, audio_only=True)
    assert 0.999 <= parity.cosine < 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", ModelWarning)
        embedder = lapis.load(tmp_path / "int8")
    assert embedder.identity == f"{model.identity}+int8" and embedder.calibration is None
    with pytest.raises(ValueError, match="has no text tower"):
        embedder.embed_text(["a dog"])


def test_a_model_of_half_precision_is_left_as_it_is(tmp_path):
    model = _model().to(torch.bfloat16)
    identity = model.identity
    assert export(model, tmp_path / "out", seconds=SECONDS).holds
    assert model.identity == identity == lapis.load(tmp_path / "out").identity


def test_a_gpu_that_is_not_there_is_told_loudly(exported):
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("ONNX Runtime has a GPU here")
    _, folder, _ = exported
    with pytest.warns(ModelWarning, match="RUNNING ON THE PROCESSOR, NOT ON CUDA.*onnxruntime-gpu"):
        embedder = lapis.load(folder, device="cuda", check=False)
    assert embedder.device == "cpu" and embedder.embed_audio(_clips(0.5)).shape == (1, 8)
    with pytest.raises(ValueError, match="works on cpu or cuda, got mps"):
        lapis.load(folder, device="mps")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "audio.onnx").write_bytes(b"no graph"), "audio.onnx does not hold what"),
        (lambda folder: (folder / "text.onnx").unlink(), "text.onnx is missing"),
        (lambda folder: (folder / "onnx.json").write_text("{"), "is not JSON"),
        (lambda folder: (folder / "onnx.json").write_text("{}"), "exported in format 1"),
    ],
)
def test_a_damaged_folder_is_refused(exported, tmp_path, damage, message):
    there = shutil.copytree(exported[1], tmp_path / "damaged")
    damage(there)
    with pytest.raises(ValueError, match=message):
        lapis.load(there)


def test_what_it_cannot_take(exported, tmp_path):
    model, folder, _ = exported
    with pytest.raises(ValueError, match="has the precision it was made with"):
        lapis.load(folder, dtype="float16")
    with pytest.raises(ValueError, match="takes no options"):
        lapis.load(folder, pooling="published")
    with pytest.raises(ValueError, match="new or empty"):
        export(model, folder)
    with pytest.raises(ValueError, match="Letters has no form in ONNX yet"):
        export(tiny.model(), tmp_path / "letters")


def test_what_answers_otherwise_cannot_be_opened(tmp_path, monkeypatch):
    monkeypatch.setitem(parities.LEAST_COSINE, "float32", 1.1)
    with pytest.raises(ParityError, match="does not answer as its model does") as raised:
        export(_model(), tmp_path / "out", seconds=SECONDS, audio_only=True)
    assert "TOO LOW" in raised.value.parity.table()
    assert (tmp_path / "out" / "parity.json").is_file() and not (tmp_path / "out" / "onnx.json").exists()
    with pytest.raises(ValueError):
        lapis.load(tmp_path / "out")


def test_a_cosine_that_is_no_number_does_not_hold():
    rows = (Row("one", 1, 1.0), Row("other", 1, float("nan")))
    assert not Parity("float32", 0.9999, rows).holds
    assert Parity("float32", 0.9999, rows[:1]).holds


def test_the_command(lapis, tmp_path):
    saved.save(tiny.model(text=None), tmp_path / "model", licence="CC0")
    answer = lapis("export", "model", "--out", "out", "--precision", "int8")
    assert answer.returncode == 0, answer.stderr
    assert "sound of 60 s" in answer.stdout and "limit 0.999: holds" in answer.stdout
    assert "CC0" in (tmp_path / "out" / "README.md").read_text()
    again = lapis("export", "model", "--out", "out")
    assert again.returncode == 2 and "new or empty" in again.stderr
    wrong = lapis("export", "model", "--out", "other", "--precision", "int4")
    assert wrong.returncode == 2 and "float32, float16, int8" in wrong.stderr
    well = lapis("doctor", "out")
    assert "audio golden" in well.stdout and "answers as when it was saved" in well.stdout


def test_a_tokenizer_goes_along(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    (tmp_path / "corpus.txt").write_text("a dog barks\nein Hund bellt\nrain on a tin roof\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus.txt"),
        model_prefix=str(tmp_path / "pieces"),
        vocab_size=30,
        model_type="bpe",
        minloglevel=2,
    )
    sizes = {"vocabulary": 30 + 1 + 202 + 3, "width": 16, "depth": 1, "heads": 2, "hidden": 24}
    model = tiny.model(text=Sonar.Config(**sizes, tokenizer=str(tmp_path / "pieces.model")))
    assert export(model, tmp_path / "out", seconds=(0.5,)).holds
    texts = ["a dog", "ein Hund bellt im Regen " * 9, "rain", "☃"]
    expected = model.embed_text(texts)
    (tmp_path / "pieces.model").unlink()
    assert np.abs(lapis.load(tmp_path / "out").embed_text(texts) - expected).max() <= 1e-5


@pytest.mark.slow
def test_a_tokenizer_of_transformers_goes_along(tmp_path):
    transformers = pytest.importorskip("transformers")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "barks", "rain"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    architecture = transformers.BertConfig(vocab_size=9, max_position_embeddings=20, **sizes).to_diff_dict()
    transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "words")
    text = HuggingFace.Config(str(tmp_path / "words"), fresh=True, architecture=architecture, max_tokens=12)
    model = tiny.model(text=text).eval()
    assert export(model, tmp_path / "out", precision="int8", seconds=(0.5,)).holds
    texts = ["a dog barks", "rain " * 20, "a"]
    vectors = lapis.load(tmp_path / "out").embed_text(texts)
    assert (vectors * model.embed_text(texts)).sum(1).min() >= 0.999
