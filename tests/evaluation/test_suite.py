"""The table of benchmarks on a real model of two steps: everything is measured, once, and printed beside chance."""

import numpy as np
import pytest

import tiny
from lapis.datasets.pocket import Pocket, class_names
from lapis.evaluation import suite
from lapis.evaluation.linear import Fitting, LinearProbe
from lapis.evaluation.suite import SUITES, Benchmark, by_name, run_suite, table


def test_names_are_unique_and_have_a_version():
    names = [benchmark.name for of in SUITES.values() for benchmark in of]
    assert len(names) == len(set(names)) and all(name.rsplit("-", 1)[1].isdecimal() for name in names)


def test_every_benchmark_of_the_pocket_suite_finds_its_clips_and_prompts():
    for benchmark in SUITES["pocket"]:
        assert benchmark.protocol(benchmark.source.build())


def test_a_suite_is_measured_and_each_clip_embedded_once(monkeypatch):
    model, embedded = tiny.model(), []
    val = Pocket("val", "music")
    labels = {sample.label for sample in val.build()}
    monkeypatch.setitem(
        SUITES,
        "small",
        (
            Benchmark("one-1", val, SUITES["pocket"][1].protocol),
            Benchmark("two-1", val, by_name("music", language="zho_Hans")),
        ),
    )
    original = suite.embed_samples
    monkeypatch.setattr(suite, "embed_samples", lambda *a, **k: embedded.append(1) or original(*a, **k))
    seen = []
    results = run_suite(model, suite="small", progress=seen.append)
    assert seen == ["one-1", "two-1"] and embedded == [1]
    assert results["two-1"].prompts == {
        label: (names["zho_Hans"],) for label, names in class_names("music").items() if label in labels
    }
    assert results["two-1"].num_clips == len(val.build())
    rows = table(results)
    assert [row["metric"] for row in rows if row["benchmark"] == "two-1"] == ["accuracy"]
    assert all(row["measured"].endswith("%") and row["chance"].endswith("%") for row in rows)
    assert np.isclose(results["one-1"].text_to_audio.recall_at_1, float(rows[0]["measured"][:-1]) / 100, atol=1e-3)


def test_a_linear_probe_is_a_benchmark(monkeypatch):
    probe = LinearProbe(Pocket("test", "music"), fitting=Fitting(learning_rate=1e-2, epochs=2, seeds=(1,)))
    monkeypatch.setitem(SUITES, "small", (Benchmark("linear-1", Pocket("val", "music"), probe),))
    results = run_suite(tiny.model(), suite="small")
    (row,) = table(results)
    assert row["metric"] == "accuracy" and row["measured"] == f"{results['linear-1'].score:.1%}"
    for benchmark in SUITES["pocket-linear"]:
        labels = {sample.label for sample in benchmark.protocol.train.build()}
        assert {sample.label for sample in benchmark.source.build()} <= labels


def test_an_unknown_suite_is_named():
    with pytest.raises(ValueError, match=r"expected a suite among \['pocket', 'pocket-linear'\], got 'papers'"):
        run_suite(tiny.model(), suite="papers")
