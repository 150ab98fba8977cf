"""`lapis calibrate` as a user meets it, on a tower that has heard nothing yet but has a calibration made for it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile

import lapis.cli
import tiny
from lapis import calibration, saved
from lapis.calibration import FrameCalibration, Logistic
from lapis.doctor import ModelWarning
from lapis.hub import load


def lapis_(*arguments, capsys):
    """The command in this process, whose tests know the tower's class."""
    with pytest.raises(SystemExit) as ended:
        lapis.cli.app([str(argument) for argument in arguments])
    assert not ended.value.code
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    saved.save(tiny.model(0), folder)
    return folder


@pytest.fixture(scope="module")
def table(model, tmp_path_factory):
    return _table(model, tmp_path_factory.mktemp("clips"), seed=0)


@pytest.fixture(scope="module")
def others(model, tmp_path_factory):
    return _table(model, tmp_path_factory.mktemp("others"), seed=1)


def _table(model, folder, *, seed):
    """Clips whose captions are those of some letters that the tower happens to put near to them."""
    random = np.random.default_rng(seed)
    embedder = load(model)
    texts = [f"{'abcdefghijklmnopqrstuvwxyz'[number]} {number}" for number in range(24)]
    rows = []
    for number in range(60):
        waveform = (random.normal(size=4000) * 0.1 * random.random()).astype(np.float32)
        waveform = np.convolve(waveform, np.ones(1 + number % 7) / (1 + number % 7), "same").astype(np.float32)
        soundfile.write(folder / f"{number}.wav", waveform, 16_000)
        heard = soundfile.read(folder / f"{number}.wav", dtype="float32")[0]
        cosine = (embedder.embed_text(texts) @ embedder.embed_audio([heard]).T)[:, 0]
        own = texts[int((cosine + random.gumbel(size=24) * 0.03).argmax())]
        rows.append({"audio": f"{number}.wav", "captions": {"eng_Latn": [own]}, "label": own})
    path = folder / "clips.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_calibration_is_fitted_measured_and_kept_beside_the_weights(model, table, others, capsys):
    said = lapis_("calibrate", model, "--clips", table, "--check", others, "--false-alarms", "0.05", capsys=capsys)
    assert "60 clips" in said and "(taken)" in said and "ECE" in said and "cosine as probability" in said
    assert "at most 5% of unrelated pairs do" in said
    assert said.splitlines()[-1] == str(model / "calibration.json")
    found = calibration.read(model, identity=load(model).identity)
    assert found.decision.level == 0.05 and len(found.fitted.checksum) == 64
    # What instants mean lies there too, and is not fitted anew.
    frames = FrameCalibration("windows", Logistic(8.0, -2.0), -0.5, (0.0,) * 8, 0.5, 0.4, "mixtures")
    calibration.write(replace(found, frames=(frames,)), model)
    # The folder opens as before, and a new fit takes the old one's place.
    again = lapis_("calibrate", model, "--clips", table, "--probability", "0.1", "--no-cache", capsys=capsys)
    assert "probability is at least 10%" in again and "ECE" not in again
    assert calibration.read(model).decision.kind == "probability" and calibration.read(model).frames == (frames,)
    assert "instants, windows: as fitted earlier to mixtures; --frames fits them anew" in again
    # Those of other weights are none of this model's.
    calibration.write(replace(calibration.read(model), identity="others"), model)
    with pytest.warns(ModelWarning, match="without a calibration"):
        said = lapis_("calibrate", model, "--clips", table, capsys=capsys)
    assert calibration.read(model).frames == () and "instants" not in said


def test_the_languages_of_the_captions_are_told(model, table, others, tmp_path, capsys):
    told = ("--clips", table, "--language", "eng_Latn", "--out", tmp_path)
    said = lapis_("calibrate", model, *told, "--check", others, capsys=capsys)
    assert f"fitted on {table}, captions in eng_Latn: " in said
    assert f"fitted on {table}, captions in eng_Latn." in said
    assert calibration.read(tmp_path).fitted.languages == ("eng_Latn",)
    # A folder that `lapis.load` does not look into is told to be one.
    assert f"model.calibration = lapis.calibration.read({str(tmp_path)!r})" in said
    assert load(model).calibration is None or load(model).calibration.fitted.languages == ()


def test_a_calibration_is_not_measured_on_clips_of_its_fit(model, table, others, tmp_path, capsys):
    (tmp_path / "again").mkdir()
    rows = [json.loads(line) for line in others.read_text().splitlines()]
    copied = shutil.copy(table.with_name("7.wav"), tmp_path / "again" / "renamed.wav")  # its bytes under another name
    rows = [row | {"audio": str(others.with_name(row["audio"]))} for row in rows]
    mixed = tmp_path / "again" / "clips.jsonl"
    mixed.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0] | {"audio": str(copied)}]))
    before = (model / "calibration.json").read_bytes() if (model / "calibration.json").exists() else None
    for check, number in ((table, "60 of 60"), (mixed, "1 of 61")):
        with pytest.raises(ValueError, match=f"{number} clips of --check are among those of the fit"):
            lapis.cli.app(["calibrate", str(model), "--clips", str(table), "--check", str(check)])
    now = (model / "calibration.json").read_bytes() if (model / "calibration.json").exists() else None
    assert now == before


def test_mistakes_are_told(model, table, tmp_path):
    app = lapis.cli.app
    with pytest.raises(ValueError, match="--false-alarms or --probability, one of the two"):
        app(["calibrate", str(model), "--false-alarms", "0.1", "--probability", "0.5"])
    with pytest.raises(ValueError, match=r"must lie between 0 and 1, got 2\.0"):
        app(["calibrate", str(model), "--probability", "2"])
    with pytest.raises(ValueError, match="is not one: add --out"):
        app(["calibrate", str(model), "--out", str(tmp_path / "none")])
    with pytest.raises(ValueError, match="no tar matches"):
        app(["calibrate", str(model), "--clips", str(tmp_path / "x-*.tar")])
