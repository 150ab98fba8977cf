"""Models that know nothing, that are broken, or that would like to cheat get the scores or errors they deserve."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pitch import CollapsedEmbedder, PitchEmbedder, pitched

from lapis.evaluation import suite
from lapis.evaluation.benchmark import Benchmark
from lapis.evaluation.few_shot import FewShot
from lapis.evaluation.keywords import Keywords
from lapis.evaluation.linear import Fitting, LinearProbe
from lapis.evaluation.neighbours import Neighbours
from lapis.evaluation.retrieval import Retrieval
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
