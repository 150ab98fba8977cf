"""`lapis data verify` and `lapis data blacklist`, as a user calls them."""

import json
import os
from pathlib import Path

import pytest

from data.corpus import sound_bytes, tones, write_tar
from lapis.cli_data import app
from lapis.cli_data.verify import find_parts
from lapis.data.mixture import Mixture, Part
from lapis.data.sources import Tars
from lapis.values import to_values


def _run(*words):
    with pytest.raises(SystemExit) as ended:
        app([str(word) for word in words])
    return ended.value.code or 0


@pytest.fixture
def tars(tmp_path):
    """Three clips of training share a recording, a caption and all samples with a test of four."""
    train, test = tones(8, name="train"), tones(12, name="test")
    test = dict(list(test.items())[8:])
    test["test008"][1].update(source="freesound:77")
    test["test009"][1].update(captions={"eng_Latn": ["A tone as high as nine others."]})
    train["train001"][1].update(source="freesound:77")
    train["train002"][1].update(captions={"eng_Latn": ["a tone as high as nine others"]})
    train["train003"] = (test["test010"][0], train["train003"][1])
    return write_tar(tmp_path / "train.tar", train), write_tar(tmp_path / "test.tar", test)


def test_offenders_are_shown_and_left_out_by_their_list(tars, tmp_path, capsys):
    train, test = tars
    out, banned = tmp_path / "leaks.json", tmp_path / "blacklist.json"
    assert _run("verify", train, "--against", test, "--workers", 1, "--out", out) == 1
    shown = capsys.readouterr().out
    assert "8 clips of training against 4 of benchmarks: 1 clips by equal caption; 1 clips by equal sound;" in shown
    found = {(one["key"], one["test_key"], one["reason"]) for one in json.loads(out.read_text())["offenders"]}
    assert found == {
        ("train001", "test008", "same recording"),
        ("train002", "test009", "equal caption"),
        ("train003", "test010", "equal sound"),
    }
    assert _run("blacklist", train, "--against", test, "--workers", 1, "--out", banned) == 0
    assert "1 recordings and 3 clips" in capsys.readouterr().out
    assert json.loads(banned.read_text())["FreeSound"] == ["77"]

    mixture = Mixture.Config((Part(Tars(str(train)), exclude=str(banned)),))
    (tmp_path / "mixture.json").write_text(json.dumps(to_values(mixture)))
    assert _run("verify", tmp_path / "mixture.json", "--against", test, "--workers", 1) == 0
    assert "5 clips of training (3 more are on black-lists)" in capsys.readouterr().out
    assert len(mixture.build(seed=0).sources[0]) == 5


def test_json_and_no_sound(tars, capsys):
    train, test = tars
    assert _run("verify", train, "--against", test, "--no-sound", "--no-captions", "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert [one["reason"] for one in told["offenders"]] == ["same recording"] and told["clips"] == 8


def test_clips_that_cannot_be_read_are_named(tmp_path, capsys):
    samples = tones(3)
    samples["clip001"] = (b"no sound at all", samples["clip001"][1])
    train = write_tar(tmp_path / "train.tar", samples)
    test = write_tar(
        tmp_path / "test.tar",
        {"high": (sound_bytes(0.5, hertz=4000.0), samples["clip000"][1] | {"captions": {"eng_Latn": ["high"]}})},
    )
    assert _run("verify", train, "--against", test, "--workers", 2) == 1
    ended = capsys.readouterr()
    assert "clip001.flac" in ended.err and "1 clips cannot be read" in ended.err and "no leak found" in ended.out
    # A second run finds the fingerprints, and the reason, in the cache.
    assert _run("verify", train, "--against", test, "--workers", 1) == 1
    assert "clip001.flac" in capsys.readouterr().err


def test_training_is_a_recipe_a_mixture_or_a_source():
    assert len(find_parts("pocket")) == 3
    (part,) = find_parts("pocket", ("split=val",))
    assert part.source.split == "val"
    with pytest.raises(ValueError, match=r"mx\.json holds all there is to say: expected no --set with it, got a=b"):
        find_parts("mx.json", ("a=b",))
    with pytest.raises(ValueError, match="expected the name of a corpus or a path"):
        find_parts(str(Path("nowhere") / "nothing.tar"))


def test_verifying_against_nothing_does_not_pass(tars):
    train, test = tars
    with pytest.raises(ValueError, match="expected a benchmark"):
        app(["verify", str(train), "--against"])
    with pytest.raises(ValueError, match="has no clips"):
        app(["verify", str(train), "--against", f"{test},domain=musik", "--no-sound"])


def test_names_that_are_no_utf_8(tmp_path, capsys):
    folder = tmp_path / os.fsdecode(b"t\xf6ne")
    folder.mkdir()
    samples = tones(2)
    samples["clip001"] = (b"no sound at all", samples["clip001"][1])
    tar, out, banned = write_tar(folder / "a.tar", samples), tmp_path / "leaks.json", folder / "list.json"
    # What is captured is encoded, as strictly as for a user's terminal.
    for words in (("verify", "--out", out), ("verify", "--json"), ("blacklist", "--out", banned)):
        assert _run(words[0], tar, "--against", tar, "--workers", 1, *words[1:]) == 1
        assert "udcf6ne" in "".join(capsys.readouterr())
    assert r"t\udcf6ne" in json.loads(out.read_text())["offenders"][0]["where"]
    assert json.loads(banned.read_text())["clips"] == [{"source": "", "key": "clip000"}]
