"""Clocks in the workers: every part of reading is told, and what is slow is named."""

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

import pytest

from data.corpus import tones, write_tar
from lapis import audio
from lapis.cli import main
from lapis.data.batching import READING, Budget
from lapis.data.loader import Loader, Reading
from lapis.data.mixture import Mixture, Part
from lapis.data.reading_time import ReadingTime, measure
from lapis.data.sample import Location
from lapis.data.sources import Tars
from lapis.train.line import Line


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    monkeypatch.setenv("LAPIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_tar(tmp_path / "a.tar", tones(8))
    return tmp_path


def _loader(workers, sample_rate=16_000):
    mixture = Mixture.Config((Part(Tars("a.tar")),)).build(seed=0)
    return Loader(mixture, budget=Budget(clips=4), sample_rate=sample_rate, reading=Reading(workers=workers))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_says_what_reading_it_took(folder, workers):
    begin = time.perf_counter()
    batches = list(islice(_loader(workers, 8_000).batches(0), 3))
    passed = time.perf_counter() - begin
    for batch in batches:
        assert batch.spent.keys() == set(READING) and all(seconds > 0 for seconds in batch.spent.values())
        assert sum(batch.spent.values()) <= passed and begin < batch.finished < begin + passed


def test_what_is_slow_is_what_the_clocks_say(folder, monkeypatch):
    def slowly(function):
        def call(*arguments, **options):
            time.sleep(0.02)
            return function(*arguments, **options)

        return call

    monkeypatch.setattr(Location, "open", slowly(Location.open))
    assert _measured().bottleneck == "storage"
    monkeypatch.undo()
    monkeypatch.setenv("LAPIS_DATA", str(folder))
    monkeypatch.setenv("LAPIS_CACHE", str(folder / "cache"))
    monkeypatch.setattr(audio, "resample", slowly(audio.resample))
    found = _measured()
    assert found.bottleneck == "resample" and found.seconds["resample"] >= 4 * 4 * 0.02
    assert "--sample-rate 16000" in found.advice()[0]


def _measured():
    return measure(_loader(0), workers=0, sample_rate=16_000, is_local=True, batches=4, most_seconds=60.0)


def _time(workers: int, is_local: bool = True, **seconds: float) -> ReadingTime:
    return ReadingTime(workers, 10, 100, 500.0, 10.0, 16_000, is_local, dict.fromkeys(READING, 0.0) | seconds)


def test_advice_names_the_largest_first_and_nothing_small():
    found = _time(2, decode=12.0, storage=7.0, other=1.0, transfer=3.0)
    assert [sentence.split()[0] for sentence in found.advice(processors=8)] == ["decode", "storage", "transfer"]
    assert "more workers: 2 of 8 processors" in found.advice(processors=8)[0]
    assert "keep_bytes" in found.advice(processors=2)[0] and found.bottleneck == "decode"
    assert "requests under way" in replace(found, is_local=False).advice(processors=2)[1]
    assert _time(2, decode=2.0, transfer=3.0).bottleneck == "transfer"


def _line(reading: Mapping[str, float], *, wait: float) -> Line:
    return Line(
        total=1.0, losses={}, measures={}, learning_rate=0.1, gradient_norm=1.0, clips=4, audio_seconds=1.0, tokens=1,
        dropped=(), wait_seconds=wait, exchange_seconds=0.0, step_seconds=1.0, speed_share=None, reading=reading,
        stop=False,
    )  # fmt: skip


def test_a_step_that_waits_for_data_says_for_which_part():
    reading = {"storage": 0.1, "decode": 0.7, "resample": 0.1, "other": 0.0, "transfer": 0.0}
    waiting = _line(reading, wait=0.8).to_dict()
    assert (waiting["bottleneck"], waiting["data_bottleneck"], waiting["reading"]) == ("data", "decode", reading)
    assert "data_bottleneck" not in _line(reading, wait=0.1).to_dict()


def test_the_command(folder, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["data", "bench", "a.tar", "--batches", "2", "--workers", "0", "--sample-rate", "8000", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert not ended.value.code and told["batches"] == 2 and told["is_local"]
    assert told["seconds"].keys() == set(READING) and told["clips"] == 128


def test_of_a_recipe_it_tells_the_features_too(root, capsys, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(root / "data"))
    with pytest.raises(SystemExit):
        main(["data", "bench", "pocket", "--batches", "1"])
    shown = capsys.readouterr().out
    assert "features (" in shown and "clips/s waits for data, most of all for: " in shown
