"""A model as a folder: it comes back as it was, and nothing that is not whole opens."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import tiny
from lapis import doctor, saved, weights
from lapis.model import Logits
from lapis.values import to_values

CLIPS = [np.sin(np.arange(16_000) * 0.05).astype(np.float32), np.ones(4_000, np.float32) * 0.1]
TEXTS = ["rain", "a dog barks"]


@pytest.fixture
def folder(tmp_path):
    saved.save(tiny.model(), tmp_path / "model", licence="CC0-1.0", source="a test")
    return tmp_path / "model"


def _edit(folder, **changes):
    path = folder / saved.CONFIG_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_model_comes_back_as_it_was(folder):
    model, again = tiny.model(), saved.open(folder)
    assert again.config == model.config and again.identity == model.identity
    np.testing.assert_array_equal(again.embed_audio(CLIPS), model.embed_audio(CLIPS))
    np.testing.assert_array_equal(again.embed_text(TEXTS), model.embed_text(TEXTS))
    assert not again.training and not any(parameter.requires_grad for parameter in again.parameters())


def test_what_its_cosines_mean_comes_back_too(tmp_path):
    model = tiny.model()
    model.logits = Logits("sigmoid", scale=12.5, bias=-9.0)
    saved.save(model, tmp_path)
    assert saved.open(tmp_path).logits == model.logits == saved.describe(tmp_path).logits
    assert saved.open(tmp_path).identity == tiny.model().identity  # it moves no vector
    _edit(tmp_path, logits=to_values(model.config.audio))
    with pytest.raises(ValueError, match="expected a scale and a bias under 'logits', or null, got Config"):
        saved.open(tmp_path)


def test_it_comes_back_from_anywhere(folder, tmp_path):
    moved = tmp_path / "elsewhere" / "my models"
    moved.parent.mkdir()
    shutil.move(folder, moved)
    assert saved.open(moved).identity == tiny.model().identity


def test_it_is_built_without_memory_for_its_weights(folder, monkeypatch):
    expected = tiny.model().identity

    def build(config):
        raise AssertionError("was built with random weights first")

    monkeypatch.setattr(type(tiny.CONFIG), "build", build)
    assert saved.open(folder).identity == expected


def test_precision_is_as_saved_unless_asked(folder, tmp_path):
    saved.save(tiny.model().to(torch.bfloat16), tmp_path / "half")
    for opened, expected in (
        (saved.open(tmp_path / "half"), torch.bfloat16),
        (saved.open(tmp_path / "half", dtype=torch.float32), torch.float32),
        (saved.open(folder, dtype=torch.float16), torch.float16),
    ):
        assert {parameter.dtype for parameter in opened.parameters()} == {expected}
        assert opened.embed_audio(CLIPS).dtype == np.float32


def test_what_the_folder_says(folder):
    said = saved.describe(folder)
    assert (said.licence, said.source, said.golden_absent) == ("CC0-1.0", "a test", "")
    assert set(said.files) == {"model.safetensors", "golden.safetensors"}
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "CC0-1.0" in card and "width 8" in card and "16000 Hz" in card


def test_a_card_that_somebody_wrote_stays(folder):
    (folder / "README.md").write_text("mine")
    saved.save(tiny.model(1), folder)
    assert (folder / "README.md").read_text() == "mine" and saved.open(folder).identity == tiny.model(1).identity


def test_golden_answers_are_those_of_the_model(folder):
    golden = saved.golden(folder)
    recorded = doctor.record(tiny.model())
    np.testing.assert_array_equal(golden.audio, recorded.audio)
    np.testing.assert_array_equal(golden.text, recorded.text)


def test_a_text_tower_out_of_reach_is_no_hindrance_and_is_said(tmp_path):
    model = tiny.model()

    def unreachable(texts):
        raise OSError("no network here")

    model.text_encoder.forward = unreachable
    saved.save(model, tmp_path / "model")
    golden = saved.golden(tmp_path / "model")
    assert golden is not None and golden.text is None and len(golden.audio) == 6
    assert saved.describe(tmp_path / "model").golden_absent == "no network here"
    assert saved.open(tmp_path / "model").identity == tiny.model().identity


def test_files_of_the_text_tower_that_cannot_be_had_are_no_model(tmp_path):
    model = replace(tiny.CONFIG, text=Dictionary.Config(path=str(tmp_path / "nothing.txt"))).build()
    with pytest.raises(ValueError, match=r"the files of the text tower cannot be had, .*nothing\.txt"):
        saved.save(model, tmp_path / "model")
    assert not saved.is_saved(tmp_path / "model")


def test_golden_answers_of_another_model_do_not_stay(folder):
    before = saved.golden(folder)
    saved.save(replace(tiny.CONFIG, text=None).build(), folder)
    after = saved.golden(folder)
    assert before is not None and after is not None
    assert after.text is None and not np.array_equal(after.audio, before.audio)


def test_a_model_that_hears_only(tmp_path):
    model = replace(tiny.CONFIG, text=None).build()
    saved.save(model, tmp_path / "model")
    again = saved.open(tmp_path / "model")
    np.testing.assert_array_equal(again.embed_audio(CLIPS), model.embed_audio(CLIPS))


class Dictionary(tiny.Letters):
    """A text tower with a file and a table of its own, as tokenizers and positions are."""

    @dataclass(frozen=True)
    class Config(tiny.Letters.Config):
        path: str = ""

        def build(self):
            return Dictionary(self)

        def located_in(self, folder):
            return replace(self, path=str(folder / self.path))

    def __init__(self, config):
        super().__init__(config)
        self.register_buffer("scale", torch.full((config.width,), 2.0), persistent=False)

    def save_assets(self, folder):
        (folder / "text").mkdir()
        shutil.copyfile(self.config.path, folder / "text" / "words.txt")
        return replace(self.config, path="text/words.txt")

    def forward(self, texts):
        words = Path(self.config.path).read_text().split()
        return super().forward([text for text in texts if words]) * self.scale


@pytest.fixture
def with_words(tmp_path, monkeypatch):
    monkeypatch.setattr("lapis.values.TRUSTED", {"lapis", "tiny", __name__.split(".")[0]})
    (tmp_path / "words.txt").write_text("rain dog")
    torch.manual_seed(0)
    model = replace(tiny.CONFIG, text=Dictionary.Config(path=str(tmp_path / "words.txt"))).build()
    saved.save(model, tmp_path / "model")
    (tmp_path / "words.txt").unlink()
    return model, tmp_path / "model"


def test_files_of_the_text_tower_travel_along(with_words, tmp_path):
    model, folder = with_words
    assert "text/words.txt" in saved.describe(folder).files
    assert str(tmp_path) not in (folder / "config.json").read_text()
    moved = shutil.move(folder, tmp_path / "moved")
    again = saved.open(moved)
    assert again.config.text.path == str(tmp_path / "moved" / "text" / "words.txt")
    assert again.embed_text(TEXTS).shape == (2, 8)
    assert torch.equal(again.text_encoder.scale, torch.full((16,), 2.0))  # no file holds it: it was computed
    saved.save(again, tmp_path / "moved")  # into the folder that it reads from
    assert saved.open(moved).identity == model.identity


@pytest.mark.parametrize("name", ["model.safetensors", "golden.safetensors", "text/words.txt"])
def test_an_altered_byte_is_found_in_any_file(with_words, name):
    _, folder = with_words
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"{name} does not hold what config\.json says: sha256 \w+ expected, \w+ came"
    ):
        saved.open(folder)


def test_a_file_that_is_gone_is_named(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model\.safetensors is missing: config\.json names it"):
        saved.open(folder)


def test_weights_of_another_model_are_named_even_if_nobody_verifies(folder):
    (folder / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        saved.open(folder, verify=False)
    weights.write(folder / "model.safetensors", nn.Linear(2, 2).state_dict())
    with pytest.raises(
        ValueError, match=r"model\.safetensors does not fit the model: .* missing; 2 tensors \(bias, .*"
    ):
        saved.open(folder, verify=False)


def test_saving_that_stops_halfway_leaves_nothing_that_opens(folder, monkeypatch):
    def stopped(folder, *, width):
        raise KeyboardInterrupt

    monkeypatch.setattr(saved, "write_files", stopped)
    with pytest.raises(KeyboardInterrupt):
        saved.save(tiny.model(1), folder)
    with pytest.raises(ValueError, match="does not hold what"):
        saved.open(folder)
    with pytest.raises(KeyboardInterrupt):
        saved.save(tiny.model(1), folder.parent / "new")
    assert not saved.is_saved(folder.parent / "new")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "has format 2, and this version of Lapis reads format 1: it was saved by Lapis"),
        ({"library": "other"}, "expected the folder of a model that Lapis saved"),
        ({"files": {}}, "expected the checksums of the files under 'files'"),
        ({"model": {"class": "os:system"}}, r"config\.json: a file may name classes of trusted packages only"),
        ({"model": 3}, "expected a joint model under 'model', got int"),
        ({"model": {"class": "lapis.train.optim:Constant", "peak": 1.0, "warmup_steps": 1}}, "got Constant"),
    ],
)
def test_what_is_no_saved_model_is_refused(folder, changes, message):
    _edit(folder, **changes)
    with pytest.raises(ValueError, match=message):
        saved.open(folder)


def test_a_config_that_is_no_json_is_named(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        saved.open(folder)


def test_damaged_golden_answers_are_named(folder):
    weights.write(folder / "golden.safetensors", {"audio": torch.zeros(2, 2)})
    with pytest.raises(ValueError, match=r"golden\.safetensors: golden answers: expected the tensors"):
        saved.golden(folder)
