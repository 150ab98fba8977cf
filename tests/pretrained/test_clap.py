"""Against the library's own answers, on small CLAPs of both kinds and both layouts."""

import inspect
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from small_clap import RATE, TEXTS, make, sound

from lapis.model import Embedder, check_waveforms
from lapis.pretrained import clap
from lapis.pretrained.clap import Clap

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module", params=["unfused", "fused"])
def folder(request, tmp_path_factory):
    return make(tmp_path_factory.mktemp("clap") / "model", fused=request.param == "fused")


@pytest.fixture(scope="module")
def model(folder):
    return Clap.from_folder(folder)


def official(folder: Path, waveform: np.ndarray, *, longer: bool = False) -> np.ndarray:
    """What the library answers, with the clip marked by hand."""
    model = transformers.ClapModel.from_pretrained(folder).eval()
    processor = transformers.ClapProcessor.from_pretrained(folder)
    features = processor(audio=waveform, sampling_rate=RATE, return_tensors="pt")
    features["is_longer"][:] = longer
    with torch.no_grad():
        return model.get_audio_features(**features).pooler_output[0].numpy()


def test_it_is_an_embedder(model):
    assert isinstance(model, Embedder)
    assert (model.sample_rate, model.width) == (RATE, 12)


@pytest.mark.parametrize("seconds", [0.1, 0.77, 3.0, 9.999, 10.0])
def test_sound_that_fits_gets_the_official_answer(folder, model, seconds):
    waveform = sound(seconds)
    np.testing.assert_allclose(model.embed_audio([waveform])[0], official(folder, waveform), atol=1e-5)


def test_a_clip_is_never_marked_as_longer(folder, model):
    """What the library draws at random for models with fusion matters: the other mark gives another vector."""
    waveform = sound(3.0)
    marked = official(folder, waveform, longer=True)
    differs = np.abs(model.embed_audio([waveform])[0] - marked).max() > 1e-3
    assert differs == (model.feature_extractor.truncation == "fusion")


@pytest.mark.parametrize("seconds", [10.5, 25.0])
def test_longer_sound_is_the_mean_of_equal_pieces(folder, model, seconds):
    waveform = sound(seconds)
    pieces = np.array_split(waveform, int(-(-seconds // 10)))
    mean = sum(len(piece) * official(folder, piece) for piece in pieces)
    np.testing.assert_allclose(model.embed_audio([waveform])[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_rate_and_window_are_those_of_the_feature_extractor(folder, model):
    """As for checkpoints of other makers, brought into this form: here 5 s at 16 kHz."""
    library, extractor_of = transformers.ClapModel.from_pretrained(folder), model.feature_extractor
    extractor = transformers.ClapFeatureExtractor(
        sampling_rate=16_000, max_length_s=5, hop_length=160, frequency_max=8000, truncation=extractor_of.truncation
    )
    other = Clap(library, transformers.ClapProcessor(extractor, model.tokenizer))
    assert (other.sample_rate, other.window_samples) == (16_000, 80_000)
    waveform = sound(3.0)[:125_000]  # 7.8 s at this rate: two pieces
    mean = other.embed_audio(np.array_split(waveform, 2)).mean(0)
    np.testing.assert_allclose(other.embed_audio([waveform])[0], mean / np.linalg.norm(mean), atol=1e-6)


def test_a_clip_gets_in_a_batch_what_it_gets_alone(model):
    clips = [sound(seconds, seed) for seed, seconds in enumerate([0.1, 25.0, 3.0, 10.0, 10.1, 0.5, *[0.2] * 20])]
    together = model.embed_audio(clips)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert np.abs(together[0] - together[1]).max() > 1e-2
    for clip, vector in zip(clips[:8], together):
        np.testing.assert_allclose(model.embed_audio([clip])[0], vector, atol=1e-5)


def test_numpys_random_state_neither_matters_nor_moves(model):
    clips = [sound(25.0), sound(0.3, 1)]
    answers = []
    for seed in (0, 1):
        np.random.seed(seed)
        before = np.random.get_state()[1].copy()
        answers.append(model.embed_audio(clips))
        assert (np.random.get_state()[1] == before).all()
    np.testing.assert_array_equal(*answers)


def test_a_text_gets_the_official_answer_whatever_its_neighbours(folder, model):
    library = transformers.ClapModel.from_pretrained(folder).eval()
    processor = transformers.ClapProcessor.from_pretrained(folder)
    together = model.embed_text(TEXTS)
    assert np.abs(together[0] - together[1]).max() > 1e-2
    for text, vector in zip(TEXTS, together):
        with torch.no_grad():
            expected = library.get_text_features(**processor(text=text, return_tensors="pt")).pooler_output[0].numpy()
        np.testing.assert_allclose(vector, expected, atol=1e-5)
        np.testing.assert_allclose(model.embed_text([text])[0], vector, atol=1e-5)


def test_a_text_longer_than_the_positions_is_cut(model):
    assert model.max_tokens == 32
    long = "rain " * 40
    np.testing.assert_allclose(model.embed_text([long]), model.embed_text([long + "wind"]), atol=1e-6)


def test_many_texts(model):
    texts = [f"rain {number}" for number in range(150)]
    np.testing.assert_allclose(model.embed_text(texts)[-3:], model.embed_text(texts[-3:]), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(folder, model, dtype):
    half = Clap.from_folder(folder).to("cpu", dtype)
    clips = [sound(25.0), sound(0.3, 1), sound(5.0, 2)]
    for whole, rounded in [
        (model.embed_audio(clips), half.embed_audio(clips)),
        (model.embed_text(TEXTS), half.embed_text(TEXTS)),
    ]:
        assert rounded.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rounded, axis=1), 1, atol=1e-5)
        assert (whole * rounded).sum(1).min() >= 0.999
    assert half.identity != model.identity


def test_identity_follows_the_weights_and_not_the_place(folder, model, tmp_path):
    again = Clap.from_folder(Path(folder.rename(tmp_path / "elsewhere")))
    (tmp_path / "elsewhere").rename(folder)
    assert again.identity == model.identity
    with torch.no_grad():
        again.model.logit_scale_a += 1
    assert again.float().identity != model.identity


def test_nothing_is_dropped_out(model):
    expected = model.embed_audio([sound(1.0)])
    np.testing.assert_array_equal(model.train().embed_audio([sound(1.0)]), expected)
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("fused", [False, True])
def test_the_layout_of_the_official_repositories(tmp_path, fused):
    old = Clap.from_folder(make(tmp_path / "old", fused=fused, old_layout=True))
    new = Clap.from_folder(make(tmp_path / "new", fused=fused))
    assert old.identity == new.identity
    np.testing.assert_allclose(old.embed_text(TEXTS), new.embed_text(TEXTS), atol=1e-6)
    np.testing.assert_allclose(old.embed_audio([sound(1.0)]), new.embed_audio([sound(1.0)]), atol=1e-6)


def test_a_name_is_looked_up_in_the_hubs_cache(tmp_path, monkeypatch):
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--someone--clap"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    folder = make(repository / "snapshots" / commit, fused=False, old_layout=True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert Clap.from_folder("someone/clap").identity == Clap.from_folder(folder).identity
    with pytest.raises(ValueError, match="someone/else is no file or folder here, is not whole in the cache"):
        Clap.from_folder("someone/else")


def test_folders_are_recognised(folder, tmp_path):
    assert clap.recognises_folder(folder)
    assert not clap.recognises_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert not clap.recognises_folder(tmp_path)
    with pytest.raises(ValueError, match=r"expected a CLAP, with a config\.json of model_type 'clap'"):
        clap.from_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        clap.recognises_folder(tmp_path)


def test_weights_that_are_missing_are_named(tmp_path):
    folder = make(tmp_path / "model", fused=False, old_layout=True)
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    del tensors["text_projection.linear1.weight"]
    del tensors["text_model.embeddings.position_ids"]  # follows from the sizes
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"lacks 1 of CLAP's tensors, first \['text_projection.linear1.weight'\]"):
        Clap.from_folder(folder)


class _Code:
    def __reduce__(self):
        return (Path.touch, (Path(self.path),))

    def __init__(self, path):
        self.path = str(path)


@pytest.mark.parametrize("damage", ["code", "cut", "tokenizer", "misshaped"])
def test_damaged_folders_are_named(tmp_path, damage):
    folder = make(tmp_path / "model", fused=False, old_layout=damage in ("code", "misshaped"))
    if damage == "code":
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"logit_scale_a": _Code(tmp_path / "ran")}, protocol=2))
    elif damage == "cut":
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "tokenizer":
        for name in ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json", "processor_config.json"):
            (folder / name).unlink()
    else:
        tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
        tensors["text_projection.linear1.weight"] = torch.zeros(3, 3)
        torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="model cannot be read as a CLAP"):
        Clap.from_folder(folder)
    assert not (tmp_path / "ran").exists()


def test_what_cannot_be_embedded(model):
    with pytest.raises(ValueError, match="put it into a list"):
        inspect.unwrap(check_waveforms)(sound(1.0))  # beartype, under which the tests run, refuses it before
    with pytest.raises(ValueError, match="clip 1 must have samples"):
        model.embed_audio([sound(0.1), sound(0.0)])
    with pytest.raises(ValueError, match="clip 0 must have samples, all of them finite"):
        model.embed_audio([np.array([np.nan], np.float32)])
    with pytest.raises(ValueError, match="put it into a list"):
        model.embed_text("rain")
    with pytest.raises(ValueError, match="text 1 is empty"):
        model.embed_text(["rain", " "])
    assert model.embed_audio([]).shape == model.embed_text([]).shape == (0, 12)


def test_the_official_names():
    assert len(clap.OFFICIAL) == 5
    warned = {name for name, official in clap.OFFICIAL.items() if official.warning}
    assert warned == {"laion/larger_clap_music"}
