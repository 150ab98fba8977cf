"""`lapis data ...` as a user meets it."""

import json
import os
import subprocess
import sys

import pytest

from data.corpus import sound_bytes, tones, write_tar
from lapis import recipe as recipes
from lapis.data.mixture import Mixture, Part
from lapis.data.sources import Tars
from lapis.values import to_values


@pytest.fixture
def lapis(lapis):
    """`lapis data` with these words."""
    return lambda *words: lapis("data", *words)


def test_the_program_itself():
    words = (sys.executable, "-m", "lapis.cli", "data", "prepare", "pocket", "--out", "x", "--set", "split=val")
    shown = subprocess.run([*words, "--codec", "mp3"], capture_output=True, text=True, check=False)
    assert shown.returncode == 2
    assert shown.stderr == "lapis: codec must be one of 'opus', 'flac', got 'mp3'\n"


def test_corpora_are_listed_with_their_licences_and_whether_they_are_there(lapis):
    shown = lapis("list")
    assert shown.returncode == 0, shown.stderr
    (line,) = [line for line in shown.stdout.splitlines() if "pocket" in line]
    assert "yes" in line and "CC0" in line
    rows = {row["corpus"]: row for row in map(json.loads, lapis("list", "--json").stdout.splitlines())}
    assert rows["pocket"]["there"] and not rows["clotho"]["there"]
    assert all(row["licence"] and row["homepage"] and row["obtain"] for row in rows.values())


def test_a_folder_of_sounds_is_looked_through_and_prepared(lapis, tmp_path):
    (tmp_path / "My Söunds").mkdir()
    for number in range(3):
        (tmp_path / "My Söunds" / f"a{number}.wav").write_bytes(sound_bytes(0.5 + number / 10, format="WAV"))
        (tmp_path / "My Söunds" / f"a{number}.txt").write_text(f"tone {number}\n")
    (tmp_path / "My Söunds" / "bad.wav").write_text("text")

    looked = lapis("inspect", "My Söunds", "--out", "looked", "--workers", 1)
    assert looked.returncode == 1 and "bad.wav" in looked.stdout, looked.stderr
    written = json.loads((tmp_path / "looked" / "inspect.json").read_text(encoding="utf-8"))
    assert written["clips"] == 4 and written["sound"]["unreadable"]["count"] == 1
    assert (tmp_path / "looked" / "inspect.png").stat().st_size > 0

    options = ("My Söunds", "--out", "shards", "--workers", 1, "--kilobits", 24)
    made = lapis("prepare", *options)
    assert made.returncode == 1 and "bad.wav: expected a sound file" in made.stderr
    assert "3 clips" in made.stdout and "1 clips left out" in made.stdout
    again = lapis("prepare", *options)
    assert again.returncode == 1 and "1 were there from before" in again.stdout
    found = lapis("inspect", "shards", "--json", "--workers", 1)
    assert found.returncode == 0 and json.loads(found.stdout)["sound"]["formats"] == {"ogg/opus, 16000 Hz": 3}


def test_a_file_name_that_is_no_utf8_is_told_of(lapis, tmp_path):
    (tmp_path / "in" / os.fsdecode(b"T\xf6ne")).mkdir(parents=True)
    for name in (b"in/T\xf6ne/t\xf6n.wav", b"in/leer\xf6.wav"):
        (tmp_path / os.fsdecode(name)).write_bytes(sound_bytes(0.2, format="WAV") if b"n.w" in name else b"")
    for more in ((), ("--json",)):
        looked = lapis("inspect", "in", "--out", "looked", "--workers", 1, "--set", "labelled=true", *more)
        assert looked.returncode == 1 and r"leer\udcf6.wav" in looked.stdout, looked.stderr
    written = json.loads((tmp_path / "looked" / "inspect.json").read_text(encoding="utf-8"))
    assert os.fsencode(written["sound"]["unreadable"]["examples"][0]).count(b"leer\xf6.wav") == 1


def test_translated_captions_are_written_into_shards_and_a_cut_tar_is_named(lapis, tmp_path):
    write_tar(tmp_path / "a.tar", tones(2))
    write_tar(tmp_path / "b.tar", tones(1, name="b"))
    (tmp_path / "b.tar").write_bytes((tmp_path / "b.tar").read_bytes()[:3000])
    row = {"language": "eng_Latn", "text": "tone 1", "to": "fra_Latn", "captions": ["note 1"]}
    (tmp_path / "french.jsonl").write_text(json.dumps(row) + "\n")
    made = lapis("prepare", tmp_path / "*.tar", "--captions", "french.jsonl", "--out", "shards", "--workers", 1)
    assert made.returncode == 1 and "b.tar is cut short" in made.stderr and "2 clips" in made.stdout
    first, second = Tars(str(tmp_path / "shards" / "*.tar")).build()
    assert "fra_Latn" not in first.captions and second.captions["fra_Latn"] == ("note 1",)


def test_mix_of_a_recipe_of_a_run_and_of_a_mixture(lapis, tmp_path):
    shown = lapis("mix", "pocket")
    assert shown.returncode == 0 and "800 steps" in shown.stdout and "33.4%" in shown.stdout, shown.stderr
    recipe = recipes.find("pocket")
    (tmp_path / "recipe.json").write_text(recipes.dumps(recipe))
    (tmp_path / "mixture.json").write_text(json.dumps(to_values(recipe.data)))
    whole, alone = (
        json.loads(lapis("mix", tmp_path / name, "--json", "--steps", 10, "--clips", 16, "--processes", 2).stdout)
        for name in ("recipe.json", "mixture.json")
    )
    assert whole == alone and (whole["steps"], whole["clips_a_step"]) == (10, 32)
    assert sum(branch["draws"] for branch in whole["branches"]) == pytest.approx(320, abs=2)  # each is rounded


def test_sounds_without_words_are_read_by_the_bench_too(lapis, tmp_path):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "a.wav").write_bytes(sound_bytes(0.5, format="WAV"))
    shown = lapis("bench", "sounds", "--workers", 0, "--batches", 1)
    assert shown.returncode == 0 and "decode" in shown.stdout, shown.stderr


def test_a_mixture_within_one_is_shown_as_a_tree(lapis, tmp_path):
    for name in "abc":
        write_tar(tmp_path / f"{name}.tar", tones(4, name=name))
    a, b, c = (Part(Tars(str(tmp_path / f"{name}.tar"))) for name in "abc")
    config = Mixture.Config((a, Part(Mixture.Config((b, c)), 3.0)))
    (tmp_path / "mixture.json").write_text(json.dumps(to_values(config)))
    shown = lapis("mix", "mixture.json", "--steps", 10, "--clips", 4)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.stdout.splitlines() if "│" in line]
    shares = [(row[0], row[1], row[3]) for row in rows]
    assert shares == [("25.0%", "4", "10"), ("75.0%", "8", "30"), ("37.5%", "4", "15"), ("37.5%", "4", "15")]
    assert rows[1][5] == "mixture of 2, weight 3"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("prepare", "pockt", "--out", "x"), "there is nothing, did you mean 'pocket'?"),
        (("bench", "pocket", "--batches", 0), "batches and seconds above zero, got 0"),
        (("mix", "pocket", "--clips", 0), "a batch must hold at least one clip"),
        (("mix", "weights.json"), "weights.json is no recipe or mixture: a part of a mixture needs a positive weight"),
        (("prepare", "pocket", "--out", "x"), "Pocket needs split: train or val or test"),
        (("prepare", "clotho", "--out", "x", "--set", "split=evaluation"), "expected the folder of Clotho"),
        (("prepare", "pocket", "--out", "x", "--set", "split=val", "--kilobits", 300), "Opus of 6,000 to 256,000"),
        (("prepare", "pocket", "--out", "x", "--set", "split=val", "--kilobits", "inf"), "expected a number, got inf"),
        (("prepare", "pocket", "--out", ".", "--set", "split=val"), "holds other files"),
        (("inspect", ""), "got an empty one"),
        (("inspect", "nowhere"), "expected the name of a corpus or a path"),
        (("mix", "pockett"), "no recipe 'pockett', did you mean 'pocket'?"),
        (("mix", "mixture.json"), "mixture.json"),
    ],
)
def test_mistakes_are_one_sentence(lapis, tmp_path, arguments, message):
    (tmp_path / "note").write_text("x")
    mixture = to_values(Mixture.Config((Part(Tars("a.tar"), 2.0),)))
    (tmp_path / "weights.json").write_text(json.dumps(mixture).replace("2.0", "-2.0"))
    answer = lapis(*arguments)
    assert answer.returncode == 2 and message in answer.stderr, answer.stderr
    assert answer.stderr.count("\n") == 1 and not (tmp_path / "x").exists()
