"""The table of benchmarks on a real model of two steps: everything is measured, once, and printed beside chance."""

from dataclasses import dataclass

import numpy as np
import pytest
import soundfile

import tiny
from lapis.data.sources import Tars
from lapis.datasets.esc50 import Esc50
from lapis.datasets.pocket import Pocket, class_names
from lapis.datasets.reading import MissingClips, warn_missing
from lapis.evaluation import suite
from lapis.evaluation.asking import ByName
from lapis.evaluation.cache import EmbeddingCache
from lapis.evaluation.linear import Fitting, LinearProbe
from lapis.evaluation.reliability import Reliability
from lapis.evaluation.results_file import read, write
from lapis.evaluation.retrieval import Retrieval
from lapis.evaluation.suite import SUITES, Benchmark, run_suite, table


def test_every_benchmark_of_the_pocket_suite_finds_its_clips_and_prompts():
    for benchmark in SUITES["pocket"]:
        samples, protocol = benchmark.source.build(), benchmark.protocol
        made = getattr(protocol, "task", None) or getattr(protocol, "asked", None) or protocol
        assert isinstance(made, Retrieval | Reliability) or len(made(samples).prompts) > 4


def _small(monkeypatch, *benchmarks):
    monkeypatch.setitem(SUITES, "small", benchmarks)


def test_a_suite_is_measured_and_each_clip_embedded_once(monkeypatch, tmp_path):
    val = Pocket("val", "music")
    labels = {sample.label for sample in val.build()}
    _small(
        monkeypatch,
        Benchmark("one-1", val, SUITES["pocket"][1].protocol),
        Benchmark("two-1", val, ByName("music", "zho_Hans"), ("zho_Hans",)),
    )
    seen, cache = [], EmbeddingCache()
    results = run_suite(tiny.model(), suite="small", progress=seen.append, cache=cache, trained={"eng_Latn"})
    assert seen == ["one-1", "two-1"] and cache.embedded == len(val.build())
    assert results["two-1"].prompts == {
        label: (names["zho_Hans"],) for label, names in class_names("music").items() if label in labels
    }
    assert results["two-1"].num_clips == len(val.build())
    rows = table(results)
    assert [row["metric"] for row in rows if row["benchmark"] == "two-1"] == ["accuracy", "balanced accuracy"]
    assert {(row["benchmark"], row["languages"]) for row in rows} == {("one-1", "unknown"), ("two-1", "never given")}
    shares = [row for row in rows if "rank" not in row["metric"]]
    assert all(row["measured"].endswith("%") and row["chance"].endswith("%") for row in shares)
    assert np.isclose(results["one-1"].text_to_audio.recall_at_1, float(rows[0]["measured"][:-1]) / 100, atol=1e-3)
    low, high = results["two-1"].figures["accuracy"].interval
    assert rows[-2]["interval"] == f"{low:.1%} to {high:.1%}"
    run = results.to_run(model="a model")
    write(run, tmp_path / "run.json")
    again = read(tmp_path / "run.json").benchmarks["two-1"]
    assert again.figures == results["two-1"].figures and again.languages_in_training == "never given"
    assert again.prompts == {label: list(texts) for label, texts in results["two-1"].prompts.items()}
    assert again.details["definition"] == SUITES["small"][1].digest


def test_what_is_not_there_is_listed_with_the_way_to_get_it(monkeypatch):
    val = Pocket("val", "music")
    _small(
        monkeypatch,
        Benchmark("esc50-1", Esc50(), SUITES["pocket"][1].protocol),
        Benchmark("tars-1", Tars("nowhere/*.tar"), SUITES["pocket"][1].protocol, obtain="Ask for them."),
        Benchmark("frames-1", val, LinearProbe(val, features="frames")),
        Benchmark("there-1", val, SUITES["pocket"][1].protocol),
    )
    results = run_suite(tiny.model(), suite="small")
    assert list(results) == ["there-1"] and list(results.absent) == ["esc50-1", "tars-1", "frames-1"]
    assert "Unpack https://github.com/karolpiczak/ESC-50" in results.absent["esc50-1"]
    assert results.absent["tars-1"].endswith("Ask for them.")
    assert results.absent["frames-1"].startswith("not for this model: features 'frames'")
    with pytest.raises(ValueError, match=r"nothing of the suite small could be measured:\nesc50-1: .*ESC-50"):
        run_suite(tiny.model(), suite="small", only=("esc50-1",))
    with pytest.raises(ValueError, match="the suite small has no benchmark 'ther-1', did you mean 'there-1'"):
        run_suite(tiny.model(), suite="small", only=("ther-1",))


def test_clips_that_are_missing_of_a_corpus_are_told(monkeypatch, tmp_path):
    @dataclass(frozen=True)
    class Incomplete:
        def build(self):
            warn_missing("3 of 9 clips have no sound file")
            return Pocket("val", "music").build()

    _small(monkeypatch, Benchmark("one-1", Incomplete(), SUITES["pocket"][1].protocol))
    with pytest.warns(MissingClips, match="3 of 9"):
        results = run_suite(tiny.model(), suite="small")
    assert results.incomplete == {"one-1": "3 of 9 clips have no sound file"}
    assert results.to_run(model="a").benchmarks["one-1"].details["incomplete"] == "3 of 9 clips have no sound file"


def test_the_papers_suite_lists_every_benchmark_that_is_not_there(monkeypatch, tmp_path):
    """With one small corpus in its true layout, that one is measured and no other is passed over in silence."""
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    for number, (label, hertz) in enumerate((("dog", 300), ("rain", 900), ("cow", 1500), ("dog", 310))):
        path = tmp_path / "ESC-50-master" / "audio" / f"{number % 2 + 1}-{number}-A-0.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        instants = np.arange(8000) / 16_000
        soundfile.write(path, 0.5 * np.sin(2 * np.pi * hertz * instants), 16_000)
        table_of = tmp_path / "ESC-50-master" / "meta" / "esc50.csv"
        table_of.parent.mkdir(exist_ok=True)
        if not table_of.exists():
            table_of.write_text("filename,fold,target,category,esc10,src_file,take\n")
        with table_of.open("a") as file:
            file.write(f"{path.name},{number % 2 + 1},{number},{label},False,{number},A\n")
    chosen = [benchmark.name for benchmark in SUITES["papers"] if benchmark.name.startswith("esc50-zeroshot")]
    monkeypatch.setitem(
        SUITES, "papers", tuple(b for b in SUITES["papers"] if b.name in chosen or not b.name.startswith("esc50"))
    )
    results = run_suite(tiny.model(), suite="papers")
    assert sorted(results) == sorted(chosen)
    expected = {benchmark.name for benchmark in SUITES["papers"]} - set(chosen) | suite.ELSEWHERE["papers"].keys()
    assert results.absent.keys() == expected and all(results.absent.values())
    assert results["esc50-zeroshot-1"].prompts["dog"] == ("dog can be heard",)
    assert len(results["esc50-zeroshot-ensemble-1"].prompts["dog"]) == 3


def test_a_linear_probe_is_a_benchmark(monkeypatch):
    probe = LinearProbe(Pocket("test", "music"), fitting=Fitting(learning_rate=1e-2, epochs=2, seeds=(1,)))
    monkeypatch.setitem(SUITES, "small", (Benchmark("linear-1", Pocket("val", "music"), probe),))
    results = run_suite(tiny.model(), suite="small")
    (row,) = table(results)
    assert row["interval"]
    assert row["metric"] == "accuracy" and row["measured"] == f"{results['linear-1'].score:.1%}"
    for benchmark in SUITES["pocket-linear"]:
        labels = {sample.label for sample in benchmark.protocol.train.build()}
        assert {sample.label for sample in benchmark.source.build()} <= labels


def test_an_unknown_suite_is_named():
    with pytest.raises(
        ValueError, match=r"expected a suite among .*'papers', 'papers-finetuning', 'pocket', 'pocket-linear', 'pool'.*, got 'pockets'"
    ):
        run_suite(tiny.model(), suite="pockets")
