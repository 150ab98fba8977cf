"""Definitions of benchmarks never change: each has a digest, kept in benchmarks.json beside this file."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lapis.data.sources import Tars
from lapis.datasets.esc50 import Esc50
from lapis.evaluation.asking import ByLabels
from lapis.evaluation.benchmark import Benchmark, Beside
from lapis.evaluation.figure import Figure
from lapis.evaluation.linear import Fitting, LinearProbe
from lapis.evaluation.published import LANGUAGE, published
from lapis.evaluation.report_sections import section, unversioned
from lapis.evaluation.results import Measured, RunResults
from lapis.evaluation.retrieval import Retrieval
from lapis.evaluation.suite import ELSEWHERE, SUITES
from lapis.evaluation.zeroshot import ZeroShot

DIGESTS = Path(__file__).with_name("benchmarks.json")
ALL = {benchmark.name: benchmark for of in SUITES.values() for benchmark in of}


def test_no_definition_has_been_edited():
    """A benchmark that has to change gets a new name with a higher number; its old line stays, or goes from both."""
    kept = json.loads(DIGESTS.read_text(encoding="utf-8"))
    edited = {name for name in kept.keys() & ALL.keys() if kept[name] != ALL[name].digest}
    assert not edited, "edited, and not superseded under a new number"
    assert kept.keys() == ALL.keys(), "a new benchmark needs its digest in benchmarks.json, one that is gone loses it"


def test_names_are_unique_and_have_a_version():
    names = [benchmark.name for of in SUITES.values() for benchmark in of]
    assert len(names) == len(set(names)) and all(name.rsplit("-", 1)[1].isdecimal() for name in names)
    assert len({benchmark.digest for benchmark in ALL.values()}) == len(ALL)
    assert not [name for of in ELSEWHERE.values() for name in of if f"{name}-1" in ALL]


def test_whatever_decides_a_figure_is_in_the_digest():
    one = Benchmark("x-1", Tars("a.tar"), Retrieval("label"))
    others = [
        replace(one, name="x-2"),
        replace(one, source=Tars("b.tar")),
        replace(one, protocol=Retrieval("clip")),
        replace(one, protocol=ZeroShot({"a": ("a",), "b": ("b",)})),
        replace(one, protocol=ZeroShot({"a": ("a",), "b": ("c",)})),
        replace(one, protocol=LinearProbe(Tars("c.tar"))),
        replace(one, protocol=LinearProbe(Tars("c.tar"), fitting=Fitting(learning_rate=1.0))),
        replace(one, protocol=LinearProbe(Tars("c.tar"), fitting=Fitting(as_released=True))),
        replace(one, source=Esc50(), protocol=ByLabels("esc50", ("evar",))),
        replace(one, source=Esc50(), protocol=ByLabels("esc50", ("glap",))),
        replace(one, source=Esc50(), protocol=ByLabels("esc50", ("lapis",), "deu_Latn")),
    ]
    assert len({other.digest for other in [one, *others]}) == 12
    beside = Beside("esc50-zeroshot")
    assert one.digest == Benchmark("x-1", Tars("a.tar"), Retrieval("label"), (), "elsewhere", beside).digest
    with pytest.raises(ValueError, match="cannot be a part of a benchmark"):
        _ = replace(one, protocol=lambda samples: Retrieval()).digest


OTHERS = {
    *(f"{name}-zeroshot-glap" for name in ("esc50", "urbansound8k", "gtzan", "fsd50k")),
    "urbansound8k-zeroshot-wavcaps",
    "esc50-finetune-as-released",
    *(f"{name}-zeroshot-eng_Latn" for name in ("esc50", "urbansound8k", "gtzan")),
}
"""Lines of the same clips and task as the published benchmark of a shorter name: other prompts, EVAR's own code."""
NAMED_OTHERWISE = {"evaluation": "test"}
"""Splits as the corpus calls them, and as the papers do."""


def test_only_lines_of_the_same_clips_and_task_stand_beside_published_figures():
    for benchmark in ALL.values():
        name, beside = unversioned(benchmark.name), benchmark.published
        if beside is None:
            continue
        assert published(benchmark=beside.benchmark), name
        if name in OTHERS:
            assert name.startswith(LANGUAGE.sub("", beside.benchmark))
        else:
            assert beside.benchmark == name
        splits = {figure.split for figure in published(benchmark=beside.benchmark)} - {""}
        assert splits == ({beside.split} if beside.split else set()), name
        if beside.split:
            split = getattr(benchmark.source, "split", None) or benchmark.source.source.split
            assert NAMED_OTHERWISE.get(split, split.lower()) == beside.split, name
    for name in (
        *("librispeech-retrieval-clean-1", "gigaspeech-retrieval-dev-1", "audiocaps-retrieval-one-1"),
        *("crema_d-linear-speakers-1", "voxforge-linear-speakers-1", "esc50-linear-as-released-1"),
        *("esc50-zeroshot-ensemble-1", "pool-urbansound8k-linear-1", "pocket-sound-retrieval-1"),
    ):
        assert ALL[name].published is None


def test_the_report_shows_beside_each_line_what_it_names_and_nothing_else():
    metrics = ("accuracy", "mAP", "CIDEr", "R@1 text to audio", "R@1 audio to text")
    for name, benchmark in ALL.items():
        one = Measured("p", {metric: Figure(0.5) for metric in metrics}, data_checksum="", num_clips=1)
        run = RunResults(model="m", identity="m", suite="", benchmarks={name: one})
        shown = {figure for row in section(name, runs=[run]).rows for figure in row.published}
        beside = benchmark.published
        expected = set() if beside is None else set(published(benchmark=beside.benchmark))
        kept = {figure for figure in expected if f"{figure.metric} {figure.direction}".strip() in metrics}
        assert shown == kept and bool(shown) == (beside is not None), name
