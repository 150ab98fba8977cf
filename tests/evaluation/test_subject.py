"""Every protocol of a suite is given what it asks for, or says why a model has not got it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest
import torch
from pitch import PitchEmbedder, pitched
from test_captioning import GERMAN, PitchDescriber

import tiny
from lapis.calibration import Calibration
from lapis.evaluation.benchmark import Benchmark
from lapis.evaluation.cache import EmbeddingCache
from lapis.evaluation.calibrating import fit
from lapis.evaluation.captioning import Captioning
from lapis.evaluation.disturbances import Crop, Gain
from lapis.evaluation.figure import Result
from lapis.evaluation.part import Part
from lapis.evaluation.planted_localisation import PlantedLocalisation
from lapis.evaluation.reliability import Reliability, pairs_of
from lapis.evaluation.results_file import read, write
from lapis.evaluation.robustness import Robustness
from lapis.evaluation.subject import Measuring, Needs, Subject
from lapis.evaluation.suite import SUITES, run_suite
from lapis.evaluation.zeroshot import ZeroShot

HERTZ = (600, 1600, 3100)


@dataclass
class CalibratedPitch(PitchEmbedder):
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Tones:
    """Two clips of each pitch."""

    folder: str

    def build(self):
        said = {"deu_Latn": ("ein Ton von 600 Hertz",), "eng_Latn": ("600 Hz",)}
        return [
            pitched(
                Path(self.folder),
                f"{hertz}-{number}",
                hertz=hertz + number,
                seconds=0.8,
                label=str(hertz),
                domain="sound",
                captions={**said, "eng_Latn": (f"{hertz} Hz",)},
            )
            for hertz in HERTZ
            for number in range(2)
        ]


@dataclass(frozen=True)
class ByPitch:
    def __call__(self, samples):
        return ZeroShot({label: (label,) for label in sorted({str(sample.label) for sample in samples})})


@pytest.fixture
def small(tmp_path, monkeypatch):
    tones = Tones(str(tmp_path))
    disturbances = (Crop(0.5), Gain(-20.0))
    lines = (
        Benchmark("robust-1", Part(tones, 4), Robustness(disturbances, task=ByPitch(), metrics=("accuracy",))),
        Benchmark("when-1", tones, PlantedLocalisation(tones, ByPitch())),
        Benchmark("dense-1", tones, PlantedLocalisation(tones, ByPitch(), hearing="dense")),
        Benchmark("told-1", tones, Reliability(languages=("eng_Latn",))),
        Benchmark("said-1", tones, Captioning(GERMAN)),
    )
    monkeypatch.setitem(SUITES, "small", lines)
    return tones


def calibrated(tones):
    embedder = CalibratedPitch()
    pairs = pairs_of(embedder, clips=tones.build(), languages=("eng_Latn",))
    embedder.calibration = fit(pairs, identity=embedder.identity, data="tones")
    return embedder


def test_what_a_model_lacks_is_listed_with_the_reason(small):
    results = run_suite(PitchEmbedder(), suite="small", only=("robust-1", "dense-1", "told-1", "said-1"))
    assert list(results) == ["robust-1"]
    assert results.absent.keys() == {"dense-1", "told-1", "said-1"}
    assert "a joint model of this package" in results.absent["dense-1"]
    assert "no calibration (lapis calibrate)" in results.absent["told-1"]
    assert "no decoder of captions" in results.absent["said-1"]


def test_a_model_that_has_everything_is_measured_by_everything(small, tmp_path):
    results = run_suite(calibrated(small), suite="small", captioner=PitchDescriber())
    assert list(results.absent) == ["dense-1"]
    assert all(isinstance(result, Result) for result in results.values())
    robust, when = results["robust-1"].figures, results["when-1"].figures
    assert robust["cosine after crop to 50%"].value == pytest.approx(1, abs=1e-3) and robust["accuracy"].value == 1.0
    assert robust["accuracy lost by gain of -20 dB"].unit == "lost share"
    assert when["AUROC"].value > 0.9 and results["when-1"].prompts["600"] == ("600",)
    assert {of.unit for of in results["told-1"].figures.values()} == {"error"}
    assert results["said-1"].clips[0].caption == "ein Ton von 600 Hertz"
    write(results.to_run(model="pitch"), tmp_path / "run.json")
    assert read(tmp_path / "run.json").benchmarks["told-1"].details["bins"]


def test_a_calibration_of_other_weights_is_none(small):
    embedder = calibrated(small)
    embedder.identity = "other weights"
    assert "told-1" in run_suite(embedder, suite="small", only=("told-1", "robust-1")).absent


def test_disturbed_clips_are_embedded_once(small, tmp_path):
    for embeds in (True, False):
        cache, embedder = EmbeddingCache(tmp_path / "kept"), PitchEmbedder()
        first = run_suite(embedder, suite="small", cache=cache, only=("robust-1",))
        assert cache.embedded == (12 if embeds else 0) and bool(embedder.batches) == embeds
        assert first["robust-1"].figures["accuracy"].value == 1.0


def test_dense_hearing_is_for_joint_models(small):
    torch.manual_seed(0)
    protocol = SUITES["small"][2].protocol
    assert not Subject(tiny.model()).lacks(protocol)
    assert Subject(PitchEmbedder()).lacks(protocol).startswith("not for this model: dense vectors need")


def test_every_line_says_what_it_needs():
    for suite in ("pocket", "pocket-linear", "pool", "papers"):
        for benchmark in SUITES[suite]:
            protocol = benchmark.protocol
            assert isinstance(protocol, Measuring) != callable(protocol), benchmark.name
            assert getattr(protocol, "needs", "vectors") in get_args(Needs), benchmark.name


def test_another_protocol_needs_no_other_place_to_be_named(tmp_path, monkeypatch):
    """A protocol of a stranger runs in a suite by what it says alone."""

    @dataclass(frozen=True)
    class Counted:
        figures: Mapping[str, Any]
        items: Mapping[str, Any]
        protocol: str = "Counts clips."

        def to_dict(self):
            return {}

    @dataclass(frozen=True)
    class Count:
        needs: ClassVar[Needs] = "clips"

        def run(self, embedder, *, clips):
            return Counted({}, {}, f"{len(clips)} clips for {embedder.identity}.")

    monkeypatch.setitem(SUITES, "small", (Benchmark("count-1", Tones(str(tmp_path)), Count()),))
    assert run_suite(PitchEmbedder(), suite="small")["count-1"].protocol == "6 clips for pitch."
