"""A calibration stays with its model, and with no other one."""

import warnings

import huggingface_hub.constants
import pytest
import torch

import tiny
from lapis import calibration, hub, saved
from lapis.doctor import ModelWarning
from lapis.train.after import After


def _load(folder, **options):
    return hub.load(folder, check=False, **options)


@pytest.fixture
def folder(tmp_path):
    """A saved model that was calibrated afterwards."""
    saved.save(tiny.model(), tmp_path / "model")
    calibration.write(tiny.calibration(tiny.model()), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def quiet():
    """Every warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_a_model_is_loaded_with_its_calibration_and_without_one(folder, quiet):
    assert _load(folder).calibration == tiny.calibration(tiny.model())
    (folder / calibration.NAME).unlink()
    assert _load(folder).calibration is None


def test_it_is_saved_pushed_and_converted_with_its_model(folder, tmp_path, monkeypatch, quiet):
    model = _load(folder)
    hub.save_pretrained(model, tmp_path / "copy")
    assert _load(tmp_path / "copy").calibration == model.calibration
    hub.save_pretrained(model, folder)  # in its own place
    assert _load(folder).calibration == model.calibration
    hub.convert(folder, tmp_path / "converted")
    assert _load(tmp_path / "converted").calibration == model.calibration

    uploaded = []
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda api, name, **options: name)
    monkeypatch.setattr(
        huggingface_hub.HfApi,
        "upload_folder",
        lambda api, *, folder_path, **options: uploaded.append(calibration.read(folder_path)),
    )
    hub.push_to_hub(model, "owner/mine")
    assert uploaded == [model.calibration]


def test_it_comes_with_a_repository_of_the_hub(folder, tmp_path, monkeypatch):
    """As the hub's cache keeps a repository."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    place = tmp_path / "hub" / "models--owner--mine"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    (place / "snapshots").mkdir()
    folder.rename(place / "snapshots" / ("0" * 40))
    assert _load("owner/mine").calibration == tiny.calibration(tiny.model())


def test_in_another_precision_it_is_left_out_and_said(folder, tmp_path):
    with pytest.warns(ModelWarning, match=r"model: without a calibration: .* was fitted to other weights"):
        assert _load(folder, dtype="bfloat16").calibration is None
    with pytest.warns(ModelWarning, match="without a calibration"):
        hub.convert(folder, tmp_path / "half", dtype="bfloat16")
    assert not (tmp_path / "half" / calibration.NAME).exists()


def test_of_weights_that_were_trained_on_it_is_left_out_and_said(folder, tmp_path):
    model = _load(folder)
    with torch.no_grad():
        model.audio_projection.weight.mul_(-1)
    with pytest.warns(
        ModelWarning, match="trained: saved without the model's calibration, .*run lapis calibrate again"
    ):
        hub.save_pretrained(model, tmp_path / "trained")
    assert not (tmp_path / "trained" / calibration.NAME).exists()


def test_a_further_stage_begins_without_it(folder):
    model = tiny.model(1)
    After(str(folder), ("",)).into(model)
    assert model.identity == tiny.model().identity and model.calibration is None


def test_weights_saved_over_others_take_their_calibration_away(folder, quiet):
    saved.save(tiny.model(), folder)  # the same weights
    assert _load(folder).calibration is not None
    with pytest.warns(ModelWarning, match=r"taken away: .*calibration\.json was fitted to other weights"):
        saved.save(tiny.model(1), folder)
    assert _load(folder).calibration is None


@pytest.mark.parametrize(
    ("content", "reason"), [("{", "is not JSON"), ('{"format": "x"}', "expected a calibration of Lapis")]
)
def test_a_damaged_one_is_said_and_the_model_opens(folder, content, reason):
    (folder / calibration.NAME).write_text(content)
    with pytest.warns(ModelWarning, match=f"without a calibration: .*{reason}"):
        assert _load(folder).calibration is None
