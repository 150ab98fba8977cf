"""The command line as a user meets it: a folder of sounds, a trained model, words in; and what it says of bad input."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile

import processes
import tiny
from data.corpus import SAMPLE_RATE, sound_bytes
from lapis import calibration
from lapis import recipe as recipes
from lapis.datasets.pocket import Pocket
from lapis.hub import load


def _lapis(*arguments, folder=None, **environment):
    return processes.lapis(*arguments, folder=folder, **environment)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A run of two steps: no good, but whole."""
    small = ("model.audio.width=24", "model.audio.depth=3", "model.audio.heads=2", "model.audio.hidden=24")
    settings = (*small, "budget.clips=6", "training.steps=2", "checks=[]", "threads=1")
    folder = tmp_path_factory.mktemp("model")
    recipes.run(recipes.override(recipes.find("pocket"), settings), folder=folder)
    return folder


@pytest.fixture
def sounds(tmp_path):
    folder = tmp_path / "My Söunds 音"
    (folder / "more").mkdir(parents=True)
    for number, sample in enumerate(Pocket("test", "sound").build()[:4]):
        (folder / f"clip {number} é.opus").write_bytes(sample.audio.open())
    (folder / "more" / "tone.flac").write_bytes(sound_bytes(12.0))
    return folder


def test_index_then_search_by_words_and_by_sound(lapis, model, sounds, tmp_path):
    (sounds / "text.wav").write_text("this is text\n" * 100)
    (sounds / "empty.mp3").write_bytes(b"")
    soundfile.write(sounds / "nan.wav", np.full(4000, np.nan, np.float32), SAMPLE_RATE, subtype="FLOAT")
    first = _lapis("index", sounds, "--model", model, folder=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "5 files added, 0 changed, 0 unchanged, 0 removed, 3 unreadable; 6 windows written" in first.stdout
    for name in ("text.wav", "empty.mp3", "nan.wav"):
        assert any(name in line for line in first.stdout.splitlines() if line.startswith("unreadable: "))

    again = lapis("index", sounds, "--model", model)
    assert "0 files added, 0 changed, 5 unchanged, 0 removed, 3 unreadable; 0 windows written" in again.stdout

    found = lapis("search", "犬が吠えている", "--json", "--limit", 3)
    hits = [json.loads(line) for line in found.stdout.splitlines()]
    assert len(hits) == 3 and hits == sorted(hits, key=lambda hit: -hit["score"])
    assert set(hits[0]) == {"path", "start_seconds", "end_seconds", "score", "probability", "heard"}
    assert hits[0]["probability"] is None  # the model has no calibration

    like = lapis("search", "--like", sounds / "clip 2 é.opus", "--json")
    best = json.loads(like.stdout.splitlines()[0])
    assert best["path"].endswith("clip 2 é.opus") and best["score"] > 0.999

    shown = lapis("search", "rain on a roof")
    assert "score" in shown.stdout and "clip" in shown.stdout and shown.returncode == 0


def test_an_index_is_searched_in_part_listed_exported_and_tidied(lapis, model, sounds, tmp_path):
    (sounds / "labels.csv").write_text("path,tags,text\nmore/tone.flac,test;tone,a sine\n")
    (sounds / "copy.flac").write_bytes((sounds / "more" / "tone.flac").read_bytes())
    assert lapis("index", sounds, "--model", model, "--metadata", sounds / "labels.csv").returncode == 0
    tagged = ("--tag", "tone", "--tag", "test", "--below", "more", "--since", "2020-01-01", "--longest-seconds", 60)
    query = ("search", "rain", "--like", sounds / "copy.flac", "--unlike", "thunder", "--json")
    for words in (query, ("index", "list")):
        answer = lapis(*words, *tagged)
        assert answer.returncode == 0 and len(answer.stdout.splitlines()) == 1 and "tone.flac" in answer.stdout, answer
    assert "no such file" in lapis("search", "rain", "--tag", "none").stderr
    listed = [json.loads(line) for line in lapis("index", "list", "--json").stdout.splitlines()]
    assert len(listed) == 6 and {tuple(file["tags"]) for file in listed} == {(), ("test", "tone")}
    twice = lapis("index", "duplicates", "--exact").stdout.splitlines()
    assert [line.rpartition("/")[2].strip() for line in twice] == ["copy.flac", "tone.flac", "same content"]
    (sounds / "more" / "tone.flac").rename(sounds / "moved.flac")
    assert "0 windows written; 1 files moved" in lapis("index", sounds, "--model", model).stdout
    assert lapis("index", "remove", sounds / "moved.flac").stdout == "1 files removed from lapis-index\n"
    assert "6 windows in all.parquet" in lapis("index", "export", "all.parquet").stdout
    assert lapis("index", "compact").stdout == "6 windows\n"
    assert "expected words to search for" in lapis("search", "--unlike", "rain").stderr


def test_nothing_matches_by_the_decision_of_the_models_calibration(lapis, model, sounds, tmp_path):
    copied = shutil.copytree(model, tmp_path / "model")
    embedder = load(copied, check=False)
    strict = tiny.calibration(embedder, width=embedder.width, background_weight=0.0, least_score=0.9999)
    calibration.write(strict, copied)
    assert lapis("index", sounds, "--model", copied).returncode == 0
    answer = lapis("search", "rain on a roof")
    assert answer.returncode == 0 and answer.stdout.startswith(
        "nothing matches: the nearest sound has these words with"
    )
    assert "at most 1% of unrelated pairs do (--anyway" in answer.stdout and "clip" not in answer.stdout
    answer = lapis("search", "rain on a roof", "--json")
    assert answer.stdout == "" and "nothing matches" in answer.stderr
    hits = [json.loads(line) for line in lapis("search", "rain", "--json", "--anyway").stdout.splitlines()]
    assert len(hits) == 5 and not any(hit["heard"] for hit in hits) and 0 < hits[0]["probability"] < 1
    assert "no" in lapis("search", "rain", "--anyway").stdout.split()
    # A sound asks without words, and a lenient decision lets all pass.
    assert "tone.flac" in lapis("search", "--like", sounds / "more" / "tone.flac").stdout
    calibration.write(replace(strict, least_score=-2.0), copied)
    shown = lapis("search", "rain").stdout
    assert "probability" in shown and "yes" in shown.split() and "no" not in shown.split()


def test_a_corrupt_index_is_explained(lapis, model, sounds, tmp_path):
    lapis("index", sounds, "--model", model)
    for path in (tmp_path / "lapis-index").rglob("*"):
        if path.is_file() and path.name != "index.json":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    answer = lapis("search", "rain")
    assert answer.returncode == 2 and answer.stdout == ""
    assert answer.stderr.startswith("lapis: ") and "--rebuild" in answer.stderr and "Traceback" not in answer.stderr
    rebuilt = lapis("index", sounds, "--model", model, "--rebuild")
    assert rebuilt.returncode == 0 and "5 files added" in rebuilt.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "pockett"), "no recipe 'pockett', did you mean 'pocket'?"),
        (("train", "pocket", "--set", "training.stepz=3"), "no field 'training.stepz', did you mean 'steps'?"),
        (("train",), "expected a recipe: one of"),
        (("search",), "expected words to search for, or --like"),
        (("search", "rain"), "there is no index in lapis-index"),
        (("index", ".", "--model", "nowhere"), "nowhere: expected the folder of a finished training run"),
        (("index", "nowhere", "--model", "nowhere"), "expected a folder of sounds, and nowhere is not one"),
        (("train", "pocket", "--set", "training.save_every=0"), "accumulate and clip_norm must be above zero"),
        (("train", "pocket", "--device", "cuda"), "no CUDA device is there for --device cuda"),
        (("evaluate", "nowhere"), "nowhere: expected the folder of a finished training run"),
    ],
)
def test_mistakes_are_one_sentence(lapis, arguments, message):
    answer = lapis(*arguments)
    assert answer.returncode == 2
    assert answer.stderr.startswith("lapis: ") and message in answer.stderr
    assert answer.stderr.count("\n") == 1 and "Traceback" not in answer.stderr


def test_a_run_is_not_overwritten_by_accident(lapis, model, tmp_path):
    run = shutil.copytree(model, tmp_path / "run")
    before = (run / "recipe.json").read_bytes()
    answer = lapis("train", "pocket", "--out", run)
    assert answer.returncode == 2 and "already holds a run: add --resume" in answer.stderr
    other = lapis("train", "pocket", "--out", run, "--resume")
    assert other.returncode == 2 and "another recipe; it differs in budget.clips" in other.stderr
    assert (run / "recipe.json").read_bytes() == before


def test_a_refused_rebuild_leaves_the_index(lapis, model, sounds):
    lapis("index", sounds, "--model", model)
    for mistake in (("nowhere",), (sounds, "--hop-seconds", 99)):
        answer = lapis("index", *mistake, "--model", model, "--rebuild")
        assert answer.returncode == 2 and "Traceback" not in answer.stderr
    assert lapis("search", "rain").returncode == 0


def test_weights_that_are_not_the_recipes_are_refused(lapis, model, tmp_path):
    for content in (b"", (model / "model.safetensors").read_bytes()[:500]):
        run = shutil.copytree(model, tmp_path / "run", dirs_exist_ok=True)
        (run / "model.safetensors").write_bytes(content)
        answer = lapis("evaluate", run)
        assert answer.returncode == 2 and "does not hold what config.json says" in answer.stderr


def test_evaluation_prints_chance_beside_every_figure_and_writes_everything(model, tmp_path):
    only = ("pocket-speech-retrieval-1", "pocket-music-zeroshot-jpn_Jpan-1", "pocket-reliability-1")
    answer = _lapis("evaluate", model, "--only", *only, "--out", tmp_path / "results.json", COLUMNS="120")
    assert answer.returncode == 0, answer.stderr
    assert "pocket-speech-retrieval-1" in answer.stdout and "chance" in answer.stdout
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    result = written["benchmarks"]["pocket-music-zeroshot-jpn_Jpan-1"]
    confusion = result["details"]["confusion"]
    assert result["prompts"]["piano"] == ["ピアノ"] and sum(map(sum, confusion)) == result["num_clips"]
    assert "prompts: " in answer.stdout and "piano: ピアノ" in answer.stdout and "95 % interval" in answer.stdout
    assert result["languages_in_training"] == "given" and "never given" not in answer.stdout
    lacking = "not measured: pocket-reliability-1: not for this model: its scores have no calibration"
    assert lacking in answer.stdout and lacking[46:] in written["absent"]["pocket-reliability-1"]
    again = _lapis("evaluate", model, "--only", "pocket-music-retrieval-1", COLUMNS="120")
    assert again.returncode == 0 and "pocket-speech" not in again.stdout, again.stderr


def test_a_model_in_a_folder_with_spaces_by_its_relative_path(lapis, model, tmp_path):
    shutil.copytree(model, tmp_path / "my models" / "a run")
    told = ("evaluate", "my models/a run", "--only", "pocket-speech-retrieval-1", "--out", "new folder/deep/one.json")
    for _ in range(2):  # the second time in its own place
        answer = lapis(*told)
        assert answer.returncode == 0, answer.stderr
    assert json.loads((tmp_path / "new folder" / "deep" / "one.json").read_text())["model"] == "my models/a run"
    pages = lapis("report", "new folder/deep/one.json", "--out", "pages/report.md")
    assert pages.returncode == 0 and (tmp_path / "pages" / "report.md").is_file(), pages.stderr


def test_an_interrupt_is_said(lapis, monkeypatch):
    def names():
        raise KeyboardInterrupt

    monkeypatch.setattr(recipes, "names", names)
    answer = lapis("train", "--list")
    assert (answer.returncode, answer.stderr) == (130, "lapis: interrupted\n")


def test_benchmarks_are_listed():
    listed = _lapis("evaluate", "--list", "--suite", "papers").stdout.split()
    assert "audiocaps-retrieval-1" in listed and sum(name.startswith("mswc-kws-") for name in listed) == 50
    answer = _lapis("evaluate", "x", "--suite", "pockets")
    assert answer.returncode == 2 and "no suite 'pockets', did you mean 'pocket'?" in answer.stderr


def test_recipes_are_listed_and_printed(lapis):
    assert "pocket" in lapis("train", "--list").stdout.split()
    printed = lapis("train", "pocket", "--print", "--set", "training.steps=7").stdout
    assert recipes.loads(printed).training.steps == 7


def test_an_unreadable_folder_is_one_sentence(lapis, model, tmp_path):
    (tmp_path / "file").write_text("x")
    answer = lapis("index", tmp_path / "file", "--model", model)
    assert answer.returncode == 2 and "expected a folder of sounds" in answer.stderr
