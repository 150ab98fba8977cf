"""Models that know nothing, that are broken, or that would like to cheat get the scores or errors they deserve."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pitch import CollapsedEmbedder, PitchEmbedder, pitched

import tiny
from lapis.calibration import Logistic
from lapis.evaluation import suite
from lapis.evaluation.benchmark import Benchmark
from lapis.evaluation.calibrating import fit
from lapis.evaluation.disturbances import Crop, Gain
from lapis.evaluation.few_shot import FewShot
from lapis.evaluation.keywords import Keywords
from lapis.evaluation.linear import Fitting, LinearProbe
from lapis.evaluation.neighbours import Neighbours
from lapis.evaluation.planted_localisation import PlantedLocalisation
from lapis.evaluation.reliability import Reliability, pairs_of
from lapis.evaluation.retrieval import Retrieval
from lapis.evaluation.robustness import Robustness
from lapis.evaluation.suite import SUITES, run_suite
from lapis.evaluation.zeroshot import ZeroShot

WIDTH, CLASSES = 32, 8


def _unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _hashed(contents):
    seeds = [list(hashlib.sha256(content).digest()) for content in contents]
    return _unit(np.array([np.random.default_rng(seed).normal(size=WIDTH) for seed in seeds]))


@dataclass
class RandomEmbedder:
    """Every sound and every text somewhere, at random by its bytes."""

    identity: str = "random"
    sample_rate: int = 8000
    width: int = WIDTH

    def embed_audio(self, waveforms):
        return _hashed([waveform.tobytes() for waveform in waveforms])

    def embed_text(self, texts):
        return _hashed([text.encode() for text in texts])


class PeekingEmbedder(RandomEmbedder):
    """Looks for its clip's class wherever a name or a label could be told: in what it is given."""

    def embed_audio(self, waveforms):
        told = [str(getattr(waveform, "name", getattr(waveform, "label", type(waveform)))) for waveform in waveforms]
        assert set(told) == {str(np.ndarray)}, "an embedder is given samples of sound and nothing else"
        return super().embed_audio(waveforms)


class BrokenEmbedder(RandomEmbedder):
    """Gives NaN for some sounds."""

    def embed_audio(self, waveforms):
        vectors = super().embed_audio(waveforms)
        vectors[-1] = np.nan
        return vectors


class SpeechlessEmbedder(RandomEmbedder):
    """Gives NaN for all texts."""

    def embed_text(self, texts):
        return np.full((len(texts), WIDTH), np.nan, np.float32)


@dataclass(frozen=True)
class Tones:
    """Noises by seed: a name and a file name tell the class, the sound does not."""

    folder: str
    number: int
    split: str = "test"

    def build(self):
        samples = []
        for number in range(self.number):
            label = f"class-{number % CLASSES}"
            hertz = 200 + 3 * ((number * 7919 + len(self.split)) % 1000)
            samples.append(
                pitched(
                    Path(self.folder),
                    f"{self.split}-{label}-{number}",
                    hertz=hertz,
                    seconds=0.05 + number / 8000,
                    label=label,
                    language="deu_Latn",
                    transcript=label,
                    captions={"deu_Latn": (f"{number} {label}",)},
                    split=f"fold{number % 3}",
                )
            )
        return samples


PROMPTS = {f"class-{number}": (f"{500 + number} class-{number}",) for number in range(CLASSES)}


@pytest.fixture
def everything(tmp_path, monkeypatch):
    test, train = Tones(str(tmp_path), 160), Tones(str(tmp_path), 96, "train")
    fitting = Fitting(learning_rate=1e-2, epochs=3, seeds=(1,))
    monkeypatch.setitem(
        SUITES,
        "small",
        (
            Benchmark("retrieval-1", test, Retrieval("clip")),
            Benchmark("zeroshot-1", test, ZeroShot(PROMPTS)),
            Benchmark("tagging-1", test, ZeroShot(PROMPTS, kind="multi-label")),
            Benchmark("keywords-1", test, Keywords()),
            Benchmark("neighbours-1", test, Neighbours(train)),
            Benchmark("few-shot-1", test, FewShot(train, (1, 3))),
            Benchmark("folds-1", test, Neighbours()),
            Benchmark("linear-1", test, LinearProbe(train, features="vectors", fitting=fitting)),
        ),
    )
    return suite


class SilentEmbedder(CollapsedEmbedder):
    """One vector for everything; its texts need no number in them."""


def test_one_vector_for_everything_scores_nothing(everything):
    results = run_suite(SilentEmbedder(), suite="small")
    for name, result in results.items():
        for metric, figure in result.figures.items():
            if figure.unit == "rank":
                assert figure.value == 160, (name, metric)
            elif name == "linear-1":  # what is fitted may answer one class always
                assert figure.value <= figure.chance
            elif metric == "AUROC":  # the one figure in which ties count half
                assert figure.value == figure.chance == 0.5
            elif metric == "mAP":
                assert figure.value < figure.chance
            else:
                assert figure.value == 0, (name, metric)


@pytest.mark.parametrize("kind", [RandomEmbedder, PeekingEmbedder])
def test_a_random_model_and_one_that_reads_names_score_as_chance_does(everything, kind):
    results = run_suite(kind(), suite="small")
    for name, result in results.items():
        for metric, figure in result.figures.items():
            if figure.chance is not None:
                spread = figure.interval[1] - figure.interval[0]
                assert abs(figure.value - figure.chance) < max(spread, 0.02), (name, metric, str(figure))


def test_a_model_that_gives_nan_is_stopped_by_name(everything):
    with pytest.raises(ValueError, match="retrieval-1: random gave clip test-class-7-159 a vector that is not finite"):
        run_suite(BrokenEmbedder(), suite="small")
    with pytest.raises(ValueError, match="retrieval-1: the vector of query 0 is not finite"):
        run_suite(SpeechlessEmbedder(), suite="small")


def test_a_good_model_is_told_from_them(tmp_path):
    clips = [pitched(tmp_path, str(hertz), hertz=hertz, label=f"{hertz} hertz") for hertz in range(200, 1000, 100)]
    prompts = {clip.label: (clip.label,) for clip in clips}
    assert ZeroShot(prompts).run(PitchEmbedder(), clips=clips).accuracy == 1


class LevelMeter(RandomEmbedder):
    """Hears how loud it is, and that is what every text is near to."""

    def embed_audio(self, waveforms):
        levels = np.minimum([20 * np.sqrt(np.square(waveform).mean()) for waveform in waveforms], 1)
        return np.stack([levels, np.sqrt(1 - levels**2), *np.zeros((WIDTH - 2, len(levels)))], axis=1).astype("f4")

    def embed_text(self, texts):
        return np.eye(WIDTH, dtype=np.float32)[[0] * len(texts)]


@dataclass(frozen=True)
class Sounds:
    """Clips long enough to be found in a scene, of eight pitches that a name tells, and captions of their labels."""

    folder: str
    number: int = 16

    def build(self):
        return [
            pitched(
                Path(self.folder),
                f"sound-class-{number % CLASSES}-{number}",
                hertz=300 + 97 * number,
                label=f"class-{number % CLASSES}",
                captions={"eng_Latn": (f"{number % CLASSES} class-{number % CLASSES}",)},
            )
            for number in range(self.number)
        ]


@dataclass(frozen=True)
class ByPrompts:
    def __call__(self, samples):
        return ZeroShot(PROMPTS)


@pytest.fixture
def steady(tmp_path, monkeypatch):
    sounds = Sounds(str(tmp_path))
    disturbed = Robustness((Crop(0.5), Gain(-20.0)), task=ZeroShot(PROMPTS), metrics=("accuracy",))
    lines = (
        Benchmark("when-1", sounds, PlantedLocalisation(sounds, ByPrompts())),
        Benchmark("steady-1", sounds, disturbed),
    )
    monkeypatch.setitem(SUITES, "steady", lines)
    return sounds


def test_in_scenes_and_after_disturbances_one_vector_for_everything_is_no_better_than_knowing_nothing(steady):
    results = run_suite(SilentEmbedder(), suite="steady")
    when, moved = results["when-1"].figures, results["steady-1"].figures
    assert when["AUROC"].value == when["AUROC within sound"].value == 0.5 <= when["AUROC within sound"].chance
    assert all(figure.value <= figure.chance for figure in when.values())
    for name, figure in moved.items():
        if name.startswith("cosine"):  # it does not move, and different clips are as near to each other
            assert figure.value == pytest.approx(1.0) == figure.chance
        else:
            assert figure.value == 0


def test_in_scenes_and_after_disturbances_a_random_model_that_would_read_names_is_one(steady):
    results = run_suite(PeekingEmbedder(), suite="steady")
    when, moved = results["when-1"].figures, results["steady-1"].figures
    for name, figure in when.items():
        assert figure.value < max(figure.chance, 0.05) + 0.05, (name, figure)
    assert when["AUROC within sound"].value == pytest.approx(0.5, abs=0.08)
    for name, figure in moved.items():
        if name.startswith("cosine"):
            assert abs(figure.value - figure.chance) < figure.interval[1] - figure.interval[0], (name, figure)
        elif "lost" in name:
            assert figure.interval[0] <= 0 <= figure.interval[1], (name, figure)


def test_a_level_meter_is_told_from_a_model_that_hears_which_class_it_is(steady):
    """It knows when something sounds, which is much of the AUROC of all frames; so that stands beside it as chance."""
    figures = run_suite(LevelMeter(), suite="steady", only=("when-1",))["when-1"].figures
    assert figures["AUROC"].value > 0.7
    assert figures["AUROC"].value < figures["AUROC"].chance + 0.02
    assert figures["AUROC within sound"].value == pytest.approx(0.5, abs=0.1)
    for name in ("event F1", "segment F1", "PSDS1", "PSDS2"):
        assert figures[name].value <= figures[name].chance + 0.02, name


def test_a_model_that_knows_nothing_has_no_probabilities_to_tell(tmp_path):
    sounds = Sounds(str(tmp_path)).build()
    constant, random = SilentEmbedder(), RandomEmbedder()
    with pytest.raises(ValueError, match="pairs that match do not score higher than others"):
        fit(pairs_of(constant, clips=sounds), identity=constant.identity, data="sounds")
    borrowed = tiny.calibration(random.identity, curve=Logistic(10.0, -2.0), centre=(0.0,) * WIDTH, least_score=0.1)
    result = Reliability(borrowed).run(random, clips=sounds)
    for name in ("log loss", "Brier score"):  # worse than saying the share of matches of every pair
        assert result.figures[name].value > result.figures[name].chance
    assert result.heard_matching == pytest.approx(result.heard_unrelated, abs=0.15)


def test_nan_is_stopped_in_scenes_and_after_disturbances_too(steady):
    for line in ("when-1", "steady-1"):
        with pytest.raises(ValueError, match=f"{line}: .*not finite"):
            run_suite(BrokenEmbedder(), suite="steady", only=(line,))
