"""`lapis locate` as a user meets it, on a tower that has heard nothing yet."""

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
        lapis.cli.app(["locate", *(str(argument) for argument in arguments)])
    assert not ended.value.code
    return capsys.readouterr()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    saved.save(tiny.model(0), folder)
    return folder


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "a b.wav"
    waveform = np.random.default_rng(0).normal(size=16_000 * 6) * np.repeat([0.01, 0.3, 0.01], 32_000)
    soundfile.write(path, waveform, 16_000)
    return path


def test_spans_labels_json_and_a_picture(model, recording, tmp_path, capsys):
    asked = (recording, "dog bark", "дождь $2", "--model", model, "--threshold", "-1")
    said = lapis_(*asked, "--labels", tmp_path / "l.txt", "--png", tmp_path / "p.png", capsys=capsys).out
    assert "dog bark: once, 6.0 s in all\n  0.0-6.0 s" in said and "дождь $2: once" in said
    assert said.splitlines()[-3:] == ["the threshold was given", str(tmp_path / "l.txt"), str(tmp_path / "p.png")]
    assert (tmp_path / "l.txt").read_text() == "0.000000\t6.000000\tdog bark\n0.000000\t6.000000\tдождь $2\n"
    assert (tmp_path / "p.png").stat().st_size > 5000
    answer = lapis_(*asked, "--json", "--png", tmp_path / "p.png", capsys=capsys)
    found = json.loads(answer.out)
    assert found["path"] == str(recording) and [of["count"] for of in found["found"]] == [1, 1]
    assert str(tmp_path / "p.png") in answer.err


def test_nothing_is_heard_by_the_models_calibration(model, recording, capsys):
    said = lapis_(recording, "rain", "--model", model, capsys=capsys).out
    assert "no calibration" in said and "probabilit" not in said
    calibration.write(tiny.calibration(load(model), least_score=2.0), model)
    said = lapis_(recording, "rain", "--model", model, "--hearing", "windows", capsys=capsys).out
    assert said.startswith("rain: no instant stands out; nearest at ") and "probability" in said
    # So that it is not taken for another answer than that of a search.
    assert "unrelated pairs" in said and "stretches that lapis search tells of" in said


def test_mistakes_are_one_sentence(model, recording, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for arguments, message in (
        ((recording, "rain"), "expected --model"),
        ((recording, "rain", "--model", model, "--png", "x.jpg"), "end in .png"),
        ((recording, " ", "--model", model), "text 0 is empty"),
        ((tmp_path / "none.wav", "rain", "--model", model), "there is no file of this name"),
    ):
        with pytest.raises(ValueError, match=message):
            lapis.cli.app(["locate", *map(str, arguments)])
