"""`lapis data ...` as a user meets it."""

import json
import os
import subprocess
import sys

import pytest

from data.corpus import sound_bytes
from lapis import recipe as recipes
from lapis.values import to_values


def _lapis(*arguments, folder=None):
    command = [sys.executable, "-m", "lapis.cli", "data", *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"COLUMNS": "160"},
        timeout=300,
        check=False,
    )


def test_corpora_are_listed_with_their_licences_and_whether_they_are_there():
    shown = _lapis("list")
    assert shown.returncode == 0, shown.stderr
    (line,) = [line for line in shown.stdout.splitlines() if "pocket" in line]
    assert "yes" in line and "CC0" in line
    rows = {row["corpus"]: row for row in map(json.loads, _lapis("list", "--json").stdout.splitlines())}
    assert rows["pocket"]["there"] and not rows["clotho"]["there"]
    assert all(row["licence"] and row["homepage"] and row["obtain"] for row in rows.values())


def test_a_folder_of_sounds_is_looked_through_and_prepared(tmp_path):
    (tmp_path / "My Söunds").mkdir()
    for number in range(3):
        (tmp_path / "My Söunds" / f"a{number}.wav").write_bytes(sound_bytes(0.5 + number / 10, format="WAV"))
        (tmp_path / "My Söunds" / f"a{number}.txt").write_text(f"tone {number}\n")
    (tmp_path / "My Söunds" / "bad.wav").write_text("text")

    looked = _lapis("inspect", "My Söunds", "--out", "looked", "--workers", 1, folder=tmp_path)
    assert looked.returncode == 1 and "bad.wav" in looked.stdout, looked.stderr
    written = json.loads((tmp_path / "looked" / "inspect.json").read_text(encoding="utf-8"))
    assert written["clips"] == 4 and written["sound"]["unreadable"]["count"] == 1
    assert (tmp_path / "looked" / "inspect.png").stat().st_size > 0

    options = ("My Söunds", "--out", "shards", "--workers", 1, "--kilobits", 24)
    made = _lapis("prepare", *options, folder=tmp_path)
    assert made.returncode == 1 and "bad.wav: expected a sound file" in made.stderr
    assert "3 clips" in made.stdout and "1 clips left out" in made.stdout
    again = _lapis("prepare", *options, folder=tmp_path)
    assert again.returncode == 1 and "1 were there from before" in again.stdout
    found = _lapis("inspect", "shards", "--json", "--workers", 1, folder=tmp_path)
    assert found.returncode == 0 and json.loads(found.stdout)["sound"]["formats"] == {"ogg/opus, 16000 Hz": 3}


def test_mix_of_a_recipe_of_a_run_and_of_a_mixture(tmp_path):
    shown = _lapis("mix", "pocket")
    assert shown.returncode == 0 and "800 steps" in shown.stdout and "33.4%" in shown.stdout, shown.stderr
    recipe = recipes.find("pocket")
    (tmp_path / "recipe.json").write_text(recipes.dumps(recipe))
    (tmp_path / "mixture.json").write_text(json.dumps(to_values(recipe.data)))
    whole, alone = (
        json.loads(_lapis("mix", tmp_path / name, "--json", "--steps", 10, "--clips", 16, "--processes", 2).stdout)
        for name in ("recipe.json", "mixture.json")
    )
    assert whole == alone and (whole["steps"], whole["clips_a_step"]) == (10, 32)
    assert sum(branch["draws"] for branch in whole["branches"]) == pytest.approx(320, abs=2)  # each is rounded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prepare", "pockt", "--out", "x"), "there is nothing, did you mean 'pocket'?"),
        (("prepare", "pocket", "--out", "x"), "Pocket needs split: train or val or test"),
        (("prepare", "clotho", "--out", "x", "--set", "split=evaluation"), "expected the folder of Clotho"),
        (("prepare", "pocket", "--out", "x", "--set", "split=val", "--codec", "mp3"), "codec must be one of 'opus'"),
        (("prepare", "pocket", "--out", ".", "--set", "split=val"), "holds other files"),
        (("inspect", "nowhere"), "expected the name of a corpus or a path"),
        (("mix", "pockett"), "no recipe 'pockett', did you mean 'pocket'?"),
        (("mix", "mixture.json"), "mixture.json"),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, arguments, message):
    (tmp_path / "note").write_text("x")
    answer = _lapis(*arguments, folder=tmp_path)
    assert answer.returncode == 2 and message in answer.stderr, answer.stderr
    assert answer.stderr.count("\n") == 1 and not (tmp_path / "x").exists()
