"""Folders of saved models, opened, used and saved again by sentence-transformers."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import tiny
from lapis import audio, saved
from lapis.sentence_files import MODULE_TYPE, write_files

library = pytest.importorskip("sentence_transformers")
# The tiny model is not trained, and the doctor says so.
pytestmark = pytest.mark.filterwarnings("ignore::lapis.doctor.ModelWarning")

RATE = 16_000
TEXTS = ["a dog barks", "rain", "the wind in the trees"]
CLIPS = [
    (0.3 * np.sin(np.arange(round(seconds * RATE)) * hertz * 2 * np.pi / RATE)).astype(np.float32)
    for seconds, hertz in [(0.5, 300), (2.0, 900), (1.25, 2500)]
]
DICTS = [{"array": clip, "sampling_rate": RATE} for clip in CLIPS]


@pytest.fixture(scope="module")
def model():
    return tiny.model().eval()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    saved.save(model, path, licence="CC0-1.0", source="a test")
    return path


@pytest.fixture(scope="module")
def opened(folder):
    return library.SentenceTransformer(str(folder), device="cpu", trust_remote_code=True)


def test_it_gives_the_models_vectors(model, opened):
    assert opened.modalities == ["text", "audio"]
    assert opened.get_embedding_dimension() == model.width
    np.testing.assert_allclose(opened.encode(TEXTS), model.embed_text(TEXTS), atol=1e-6)
    expected = model.embed_audio(CLIPS)
    np.testing.assert_allclose(opened.encode(DICTS), expected, atol=1e-6)
    np.testing.assert_allclose(opened.encode(CLIPS), expected, atol=1e-6)
    np.testing.assert_allclose(opened.encode([torch.from_numpy(clip) for clip in CLIPS]), expected, atol=1e-6)
    np.testing.assert_allclose(opened.encode(DICTS, batch_size=1), expected, atol=1e-5)


def test_one_thing_alone(model, opened):
    np.testing.assert_allclose(opened.encode("rain"), model.embed_text(["rain"])[0], atol=1e-6)
    np.testing.assert_allclose(opened.encode(DICTS[0]), model.embed_audio(CLIPS[:1])[0], atol=1e-6)
    assert len(opened.encode([])) == 0


def test_similarity_is_the_cosine(model, opened):
    expected = model.embed_text(TEXTS) @ model.embed_audio(CLIPS).T
    similarity = opened.similarity(opened.encode(TEXTS), opened.encode(DICTS))
    np.testing.assert_allclose(similarity.numpy(), expected, atol=1e-6)
    assert opened.similarity_fn_name == "cosine"


def test_sound_at_other_rates_and_with_channels(model, opened, tmp_path):
    stereo = np.stack([CLIPS[0], CLIPS[0] * 0.5]).repeat(3, axis=1)
    mono = audio.read(stereo.T, sample_rate=RATE, array_rate=3 * RATE)
    vector = model.embed_audio([mono])[0]
    np.testing.assert_allclose(opened.encode({"array": stereo, "sampling_rate": 3 * RATE}), vector, atol=1e-6)
    mixed = opened.encode([{"array": stereo, "sampling_rate": 3 * RATE}, DICTS[1]])
    np.testing.assert_allclose(mixed, model.embed_audio([mono, CLIPS[1]]), atol=1e-5)
    soundfile.write(tmp_path / "stereo.wav", stereo.T, 3 * RATE, subtype="FLOAT")
    np.testing.assert_allclose(opened.encode(str(tmp_path / "stereo.wav")), vector, atol=1e-6)


def test_prompts_go_before_texts(model, opened):
    np.testing.assert_allclose(opened.encode(["rain"], prompt="a "), model.embed_text(["a rain"]), atol=1e-6)
    np.testing.assert_allclose(opened.encode_query(["rain"]), model.embed_text(["rain"]), atol=1e-6)
    np.testing.assert_allclose(opened.encode_document(DICTS), model.embed_audio(CLIPS), atol=1e-6)


def test_saved_by_the_library_and_opened_again(model, opened, tmp_path):
    opened.prompts["query"] = "a "
    opened.save(str(tmp_path))
    opened.prompts["query"] = ""
    again = library.SentenceTransformer(str(tmp_path), device="cpu", trust_remote_code=True)
    np.testing.assert_array_equal(again.encode(DICTS), opened.encode(DICTS))
    np.testing.assert_allclose(again.encode_query(["rain"]), model.embed_text(["a rain"]), atol=1e-6)
    assert saved.open(tmp_path).identity == model.identity
    assert (saved.describe(tmp_path).licence, saved.describe(tmp_path).source) == ("CC0-1.0", "a test")
    assert json.loads((tmp_path / "modules.json").read_text())[0]["type"] == MODULE_TYPE


def test_a_model_that_only_hears(tmp_path):
    model = tiny.model(text=None).eval()
    saved.save(model, tmp_path)
    opened = library.SentenceTransformer(str(tmp_path), device="cpu", trust_remote_code=True)
    assert opened.modalities == ["audio"]
    np.testing.assert_allclose(opened.encode(DICTS), model.embed_audio(CLIPS), atol=1e-6)
    with pytest.raises(ValueError, match="not supported by this SentenceTransformer model"):
        opened.encode(TEXTS)


def test_without_the_flag(model, folder):
    with pytest.raises(ValueError, match="trust_remote_code"):
        library.SentenceTransformer(str(folder), device="cpu")
    from lapis.sentence_module import sentence_transformer

    opened = sentence_transformer(folder, device="cpu")
    np.testing.assert_allclose(opened.encode(TEXTS), model.embed_text(TEXTS), atol=1e-6)
    assert opened.similarity_fn_name == "cosine"
    with pytest.raises(ValueError, match="expected the folder of a model that Lapis saved"):
        sentence_transformer(folder.parent)
    with pytest.raises(ValueError, match="expected the folder of a model that Lapis saved"):
        sentence_transformer("no/folder/at/all")


def test_the_flag_runs_no_code_of_the_folder(model, folder, tmp_path):
    saved.save(model, tmp_path)
    ran = tmp_path / "ran"
    for name in ("lapis.py", "sentence_module.py", "lapis/__init__.py", "lapis/sentence_module.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"open({str(ran)!r}, 'w')\nclass LapisModule: pass\n")
    opened = library.SentenceTransformer(str(tmp_path), device="cpu", trust_remote_code=True)
    np.testing.assert_allclose(opened.encode(TEXTS), model.embed_text(TEXTS), atol=1e-6)
    assert not ran.exists()


def test_half_precision(model, folder):
    half = library.SentenceTransformer(
        str(folder), device="cpu", trust_remote_code=True, model_kwargs={"dtype": torch.bfloat16}
    )
    assert half[0].model.audio_projection.weight.dtype == torch.bfloat16
    assert (half.encode(DICTS) * model.embed_audio(CLIPS)).sum(1).min() > 0.999


@pytest.mark.parametrize("options", [{"model_kwargs": {"attn_implementation": "eager"}}, {"backend": "onnx"}])
def test_options_that_mean_nothing_are_refused(folder, options):
    with pytest.raises(
        ValueError, match=r"is a model of Lapis, for which (attn_implementation|backend onnx) mean nothing"
    ):
        library.SentenceTransformer(str(folder), device="cpu", trust_remote_code=True, **options)


def test_what_cannot_be_embedded(opened, tmp_path):
    with pytest.raises(ValueError, match="mixes multiple modalities"):
        opened.encode(["rain", DICTS[0]])
    with pytest.raises(ValueError, match="expected inputs of one kind"):
        opened[0].preprocess(["rain", DICTS[0]])
    with pytest.raises(ValueError, match="is empty"):
        opened.encode(["rain", " "])
    with pytest.raises(ValueError, match="there is no file of this name"):
        opened.encode(["https://example.com/rain.wav"])
    with pytest.raises(ValueError, match="expected numbers of shape"):
        opened.encode({"array": np.stack([CLIPS[0], CLIPS[0]]).T, "sampling_rate": RATE})


def test_the_files_need_no_library_and_leave_a_configuration(tmp_path):
    code = "import sys; import lapis.sentence_files; assert not {'torch', 'sentence_transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    write_files(tmp_path, width=8)
    configuration = tmp_path / "config_sentence_transformers.json"
    assert json.loads(configuration.read_text())["embedding_dimension"] == 8
    configuration.write_text("{}")
    write_files(tmp_path, width=8)
    assert configuration.read_text() == "{}"
    assert {path.name for path in Path(tmp_path).iterdir()} == {"modules.json", configuration.name}
