import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pitch import CollapsedEmbedder, PitchEmbedder, pitched
from sklearn.metrics import brier_score_loss, log_loss

import tiny
from lapis.calibration import logistic
from lapis.datasets.pocket import Pocket
from lapis.evaluation.calibrating import Pairs, fit
from lapis.evaluation.figure import Result
from lapis.evaluation.reliability import (
    Reliability,
    ReliabilityResult,
    calibration_error,
    equal_mass_bins,
    pairs_of,
)
from lapis.evaluation.results import Measured, data_checksum


def by_loop(probabilities, matches, bins):
    total = 0.0
    for number in sorted(set(bins)):
        own = [index for index, of in enumerate(bins) if of == number]
        said = sum(probabilities[index] for index in own) / len(own)
        true = sum(bool(matches[index]) for index in own) / len(own)
        total += abs(said - true) * len(own) / len(bins)
    return total


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=80))
def test_the_calibration_error_is_that_of_a_loop(drawn):
    probabilities = np.array([number / 12 for number, _ in drawn])
    matches = np.array([match for _, match in drawn])
    bins = equal_mass_bins(probabilities)
    assert calibration_error(probabilities, matches=matches) == pytest.approx(
        by_loop(probabilities, matches, bins.tolist()), abs=1e-12
    )
    # Equal probabilities share a bin, and bins are in their order.
    for one, other in zip(bins, probabilities):
        assert (bins[probabilities == other] == one).all()
        assert (bins[probabilities > other] >= one).all()
    assert set(bins) == set(range(bins.max() + 1)) and bins.max() < 15


def test_bins_of_distinct_probabilities_hold_equally_many():
    bins = equal_mass_bins(np.random.default_rng(0).random(1500))
    assert np.bincount(bins).tolist() == [100] * 15


def test_the_worst_and_the_best_that_can_be_said():
    matches = np.array([True, False, True, False])
    assert calibration_error(matches.astype(float), matches=matches) == 0
    assert calibration_error(1.0 - matches, matches=matches) == 1
    with pytest.raises(ValueError, match="probabilities between 0 and 1"):
        calibration_error(np.array([1.5]), matches=np.array([True]))


def result(probabilities, matches):
    return ReliabilityResult(
        probabilities=probabilities,
        matches=matches,
        baselines={"share of matches": {"Brier score": 0.25, "log loss": 0.69}},
        heard_unrelated=0.0,
        heard_matching=0.0,
        protocol="made up",
    )


def test_figures_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    probabilities = random.random((20, 30))
    matches = random.random((20, 30)) < probabilities
    of = result(probabilities, matches)
    assert isinstance(of, Result)
    assert of.figures["Brier score"].value == pytest.approx(brier_score_loss(matches.ravel(), probabilities.ravel()))
    assert of.figures["log loss"].value == pytest.approx(log_loss(matches.ravel(), probabilities.ravel()))
    for name, items in of.items.items():
        assert items.mean() == pytest.approx(of.figures[name].value)
    for figure in of.figures.values():
        low, high = figure.interval
        assert low < figure.value < high
    assert sum(point.count for point in of.bins) == 600
    assert sum(point.count * point.matching for point in of.bins) == pytest.approx(matches.sum())
    json.dumps(of.to_dict())


def test_what_is_right_errs_as_little_as_chance_lets_it():
    random = np.random.default_rng(1)
    probabilities = random.random((40, 50)) ** 3
    right = result(probabilities, random.random((40, 50)) < probabilities)
    wrong = result(np.sqrt(probabilities), right.matches)
    perfect = right.error_if_perfect()
    assert 0.5 * perfect < right.figures["ECE"].value < 2 * perfect
    assert wrong.figures["ECE"].value > 5 * perfect
    assert wrong.figures["ECE"].interval[0] > right.figures["ECE"].interval[1]


@pytest.fixture
def clips(tmp_path):
    said = {"a": ("500", "510"), "b": ("2000",), "c": ("3000", "510")}
    made = [
        pitched(tmp_path, f"{label}{number}", hertz=int(of[0]) + number, label=label, captions={"x": of})
        for label, of in said.items()
        for number in range(2)
    ]
    speech = pitched(tmp_path, "s", hertz=1000, label="German", domain="speech", captions={"x": ("1000",)})
    return [*made, speech, pitched(tmp_path, "alone", hertz=100, captions={"x": ("100",), "y": ("90", " ")})]


def test_a_caption_matches_every_clip_of_its_label(clips):
    pairs = pairs_of(PitchEmbedder(), clips=clips)
    #           500, 510 (of a and c), 2000, 3000, 100, 90; the speech's is not asked for
    expected = ["aa......", "aa..cc..", "..bb....", "....cc..", ".......x", ".......x"]
    assert pairs.matches.tolist() == [[of != "." for of in row] for row in expected]
    assert len(set(pairs.groups[[0, 1]])) == 1 and len(set(pairs.groups)) == 4
    only = pairs_of(PitchEmbedder(), clips=clips, languages=["y"])
    assert only.matches.sum() == 1 and len(only.texts) == 1
    with pytest.raises(ValueError, match="none of 8 clips has a caption to ask for"):
        pairs_of(PitchEmbedder(), clips=clips, languages=["z"])


def test_clips_of_one_key_are_as_many_clips(tmp_path):
    """Two folders have a clip 1 each, without a label."""
    (tmp_path / "b").mkdir()
    captions = {"x": ("500",)}, {"x": ("2000",)}
    pair = [
        pitched(of, "1", hertz=int(told["x"][0]), captions=told)
        for of, told in zip((tmp_path, tmp_path / "b"), captions)
    ]
    pairs = pairs_of(PitchEmbedder(), clips=pair)
    assert pairs.matches.tolist() == [[True, False], [False, True]] and pairs.groups.tolist() == [0, 1]


def test_a_measurement_on_clips_of_the_fit_says_that_it_is_too_good(clips, tmp_path):
    embedder = PitchEmbedder()
    pairs = pairs_of(embedder, clips=clips)
    found = fit(pairs, identity="pitch", data="tones", languages=["x"], clips=clips[:3])
    assert len(found.fitted.clips) == 3 and "clips" not in repr(found.fitted).replace("num_clips", "")
    of = Reliability(found).run(embedder, clips=clips)
    assert "fitted on tones, captions in x, 3 of these clips among them: too good." in of.chosen
    assert "too good" not in Reliability(found).run(embedder, clips=clips[3:]).chosen
    # A calibration that was written before clips were kept has the checksum of all.
    old = fit(pairs, identity="pitch", data="tones", checksum=data_checksum(clips))
    assert "8 of these clips among them: too good" in Reliability(old).run(embedder, clips=clips).chosen
    assert "too good" not in Reliability(old).run(embedder, clips=clips[1:]).chosen


def test_a_calibration_is_measured_on_the_model_it_is_of(clips):
    embedder = PitchEmbedder()
    found = fit(pairs_of(embedder, clips=clips), identity="pitch", data="tones")
    of = Reliability(found).run(embedder, clips=clips)
    assert of.figures["Brier score"].value < of.figures["Brier score"].chance
    assert of.heard_unrelated <= 0.01
    kept = Measured.of(of, clips=clips)
    assert kept.figures == of.figures and len(kept.items["Brier score"]) == 8 and kept.details["bins"]
    assert "48 pairs of 6 captions and 8 clips" in of.protocol and "fitted on tones" in of.chosen
    with pytest.raises(ValueError, match="a calibration of pitch is not that of other"):
        Reliability(found).run(PitchEmbedder(identity="other"), clips=clips)
    with pytest.raises(ValueError, match="pairs that match do not score higher than others"):
        fit(pairs_of(CollapsedEmbedder(), clips=clips), identity="pitch", data="tones")


def _unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_a_calibration_of_one_half_holds_for_the_other():
    """Planted: the truth is a logistic function of the cosine; the bare cosine says something else."""
    random = np.random.default_rng(0)
    texts, clips = _unit(random.normal(size=(200, 24))), _unit(random.normal(size=(200, 24)))
    matches = random.random((200, 200)) < logistic(14 * (texts @ clips.T).astype(float) - 5)
    halves = [Pairs(texts[of], clips, matches[of], np.arange(100)) for of in (slice(100), slice(100, 200))]
    found = fit(halves[0], identity="planted", data="one half")
    told = found.meaning(halves[1].texts, clips=clips).probability
    error = calibration_error(told.ravel(), matches=halves[1].matches.ravel())
    bare = np.clip(halves[1].texts @ clips.T, 0, 1).astype(float)
    assert error < 0.008 < 0.03 < calibration_error(bare.ravel(), matches=halves[1].matches.ravel())


@pytest.fixture(scope="module")
def trained():
    """A small tower that has heard pocket clips for a few dozen steps."""
    import torch
    import torch.nn.functional as F

    model = tiny.model(width=16)
    samples = [sample for sample in Pocket("train", "music").build() if sample.seconds < 2][:96]
    batches = [tiny.batch(samples[begin : begin + 24]) for begin in range(0, 96, 24)]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(30):
        batch = batches[step % len(batches)]
        sounds = model.project_audio(model.audio_tokens(batch.waveforms))
        logits = 10 * sounds @ model.encode_text(batch.captions).T
        same = torch.tensor([[a == b for b in batch.captions] for a in batch.captions]).float()
        loss = -(same / same.sum(1, keepdim=True) * F.log_softmax(logits, 1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def test_on_a_real_model_calibration_makes_the_error_smaller_on_clips_not_seen(trained):
    held_out, test = (
        [sample for sample in Pocket(split, "music").build() if sample.seconds < 2] for split in ("val", "test")
    )
    found = fit(pairs_of(trained, clips=held_out, languages=["eng_Latn"]), identity=trained.identity, data="pocket val")
    of = Reliability(found, languages=("eng_Latn",)).run(trained, clips=test[::3])
    assert of.figures["ECE"].value < 0.5 * of.baselines["cosine as probability"]["ECE"]
    assert of.figures["log loss"].value < of.baselines["cosine as probability"]["log loss"]


def test_a_model_without_a_calibration_is_refused():
    with pytest.raises(ValueError, match="expected the calibration of the model, got none"):
        Reliability().run(PitchEmbedder(), clips=[])
