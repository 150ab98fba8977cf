"""`lapis watch` as a user meets it: samples on the standard input, a file that grows, a folder, and the end of it."""

import io
import json
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
import soundfile

import tiny
from lapis import saved
from lapis.search.index import Index
from lapis.watching import capture

RATE = 16_000


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    saved.save(tiny.model(0), folder)
    return folder


def samples(seconds):
    return (np.random.default_rng(0).normal(size=round(seconds * RATE)) * 3000).astype("<i2")


@pytest.fixture
def given(monkeypatch):
    """Puts bytes on the standard input."""
    return lambda content: monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_a_recording_on_the_standard_input(lapis, model, given):
    given(samples(3.0).tobytes())
    asked = (
        "watch",
        "--stream",
        "-",
        "--model",
        model,
        "--for",
        "dog bark",
        "--for",
        "дождь",
        "--threshold=-1",
        "--all",
    )
    said = lapis(*asked)
    assert said.returncode == 0 and "3.0 s came, 0.0 s of them (0.0%) were not heard; 2 events" in said.stderr
    lines = said.stdout.splitlines()
    assert [line.partition(" 0:")[2] for line in lines] == [
        "00.0 – ...",
        "00.0 – ...",
        "00.0 – 0:02.6",
        "00.0 – 0:02.6",
    ]
    assert lines[0].startswith("dog bark ") and lines[3].startswith("дождь ")
    given(samples(3.0).tobytes())
    told = [json.loads(line) for line in lapis(*asked, "--json").stdout.splitlines()]
    assert [of["kind"] for of in told] == ["begin", "begin", "event", "event"]
    assert told[2]["end_seconds"] == 2.6 and told[2]["probability"] is None and told[0]["ends"] is None


def end_soon(signal_number, when):
    """Send this process a signal as soon as something is so."""

    def run():
        until = time.monotonic() + 20
        while not when() and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(os.getpid(), signal_number)

    threading.Thread(target=run, daemon=True).start()


def test_a_file_that_grows_is_heard_as_it_comes_until_one_is_told_to_stop(lapis, model, tmp_path, monkeypatch):
    path, started, left = tmp_path / "grows.raw", threading.Event(), [10]
    path.write_bytes(samples(5.0).tobytes())  # heard by nobody: it was there before
    start = capture.start

    def noted(*arguments, **options):
        started.set()
        return start(*arguments, **options)

    def grown():
        if started.is_set():
            time.sleep(0.15)
            with path.open("ab") as file:
                file.write(samples(0.2).tobytes())
            left[0] -= 1
        return left[0] == 0

    monkeypatch.setattr(capture, "start", noted)
    end_soon(signal.SIGTERM, grown)
    words = ("--stream", path, "--for", "rain", "--threshold=-1", "--delay-seconds", "4")
    said = lapis("watch", *words, "--model", model)
    assert said.returncode == 0
    summary = said.stderr.splitlines()[-1]
    assert " 0.0 s of them" in summary and "1 events, told " in summary, said.stderr
    assert 1.0 < float(summary.partition(" s came")[0]) <= 2.0
    begin, end = said.stdout.splitlines()
    assert begin.startswith("rain ") and begin.endswith(" – ...") and end.count(":") == 4


def test_a_folder_is_heard_and_indexed_as_files_come(lapis, model, tmp_path):
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    soundfile.write(sounds / "there.wav", samples(1.0), RATE)
    (sounds / "bad.wav").write_bytes(b"bad")
    index = tmp_path / "index"
    done = lambda: index.exists() and (index / "index.json").exists() and len(Index.open(index).paths) == 1  # noqa: E731
    end_soon(signal.SIGINT, done)
    words = ("watch", sounds, "--model", model, "--for", "rain", "--threshold=-1", "--all", "--index", index, "--json")
    said = lapis(*words, "--every-seconds", "0.1", "--settle-seconds", "0.1")
    assert said.returncode == 0 and "2 files, 1 of them unreadable; 1 events" in said.stderr, said.stderr
    bad, event, indexed = (json.loads(line) for line in said.stdout.splitlines())
    assert bad["kind"] == "unreadable" and bad["path"] == str(sounds / "bad.wav")
    assert (event["path"], event["begin_seconds"], event["end_seconds"]) == (str(sounds / "there.wav"), 0.0, 1.0)
    assert indexed["kind"] == "index" and indexed["added"] == 1
    assert "bad.wav" in said.stderr


def test_mistakes_are_one_sentence(lapis, model, tmp_path):
    for words, message in (
        (("--for", "a"), "one of them"),
        ((tmp_path, "--stream", "-", "--for", "a"), "one of them"),
        ((tmp_path,), "what to listen for"),
        (("--stream", "-", "--for", "a", "--index", tmp_path / "i"), "sound of a stream is not kept"),
        (("--stream", tmp_path / "none", "--for", "a"), "expected a file of samples"),
        ((tmp_path / "none", "--for", "a"), "expected a folder"),
        (("--stream", "-", "--for", "a", "--delay-seconds", "0"), "above 0"),
        (("--stream", "-", "--for", "a", "--step-seconds", "5"), "expected 0 < step"),
        (("--stream", "-", "--for", "a", "--channels", "0"), "above 0"),
        (("--microphone", "none such", "--for", "a"), "microphone"),
    ):
        said = lapis("watch", *words, "--model", model)
        assert said.returncode == 2 and message in said.stderr and len(said.stderr.splitlines()) == 1, said.stderr
