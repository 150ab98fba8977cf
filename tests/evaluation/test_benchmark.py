"""Definitions of benchmarks never change: each has a digest, kept in benchmarks.json beside this file."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lapis.data.sources import Tars
from lapis.datasets.esc50 import Esc50
from lapis.evaluation.asking import ByLabels
from lapis.evaluation.benchmark import Benchmark
from lapis.evaluation.linear import Fitting, LinearProbe
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
    assert one.digest == Benchmark("x-1", Tars("a.tar"), Retrieval("label"), obtain="elsewhere").digest
    with pytest.raises(ValueError, match="cannot be a part of a benchmark"):
        _ = replace(one, protocol=lambda samples: Retrieval()).digest
