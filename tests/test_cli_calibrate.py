"""`lapis calibrate` as a user meets it, on a tower that has heard nothing yet but has a calibration made for it."""

import json

import numpy as np
import pytest
import soundfile

import lapis.cli
import tiny
from lapis import calibration, saved
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


@pytest.fixture
def table(model, tmp_path):
    """Clips whose captions are those of some letters that the tower happens to put near to them."""
    random = np.random.default_rng(0)
    embedder = load(model)
    texts = [f"{'abcdefghijklmnopqrstuvwxyz'[number]} {number}" for number in range(24)]
    rows = []
    for number in range(60):
        waveform = (random.normal(size=4000) * 0.1 * random.random()).astype(np.float32)
        waveform = np.convolve(waveform, np.ones(1 + number % 7) / (1 + number % 7), "same").astype(np.float32)
        soundfile.write(tmp_path / f"{number}.wav", waveform, 16_000)
        heard = soundfile.read(tmp_path / f"{number}.wav", dtype="float32")[0]
        cosine = (embedder.embed_text(texts) @ embedder.embed_audio([heard]).T)[:, 0]
        own = texts[int((cosine + random.gumbel(size=24) * 0.03).argmax())]
        rows.append({"audio": f"{number}.wav", "captions": {"eng_Latn": [own]}, "label": own})
    path = tmp_path / "clips.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_calibration_is_fitted_measured_and_kept_beside_the_weights(model, table, capsys):
    said = lapis_("calibrate", model, "--clips", table, "--check", table, "--false-alarms", "0.05", capsys=capsys)
    assert "60 clips" in said and "(taken)" in said and "ECE" in said and "cosine as probability" in said
    assert "at most 5.00% of unrelated pairs do" in said
    assert said.splitlines()[-1] == str(model / "calibration.json")
    found = calibration.read(model, identity=load(model).identity)
    assert found.decision.level == 0.05 and len(found.fitted.checksum) == 64
    # The folder opens as before, and a new fit takes the old one's place.
    again = lapis_("calibrate", model, "--clips", table, "--probability", "0.1", "--no-cache", capsys=capsys)
    assert "probability is at least 10%" in again and "ECE" not in again
    assert calibration.read(model).decision.kind == "probability"


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
