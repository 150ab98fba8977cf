"""Classification by a tower's own head, and its figures by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import tiny
from data.corpus import tones, write_tar
from lapis.audio_encoders.m2d import M2d
from lapis.data.sources import Tars
from lapis.evaluation.classification import Classification, chance, score

ENCODER = M2d.Config(width=16, depth=1, heads=2, hidden=24, classes=3)
CLASSES = ("tone 0", "tone 1", "tone 2")


def test_accuracy_is_counted_with_ties_against_the_model():
    answers = np.array([[3, 1, 0], [0, 2, 2], [1, 1, 1], [0, 0, 5]], np.float32)
    targets = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]
    assert score(answers, targets=targets, kind="single-label") == 0.5
    assert chance(targets, kind="single-label") == 0.5


def test_mean_average_precision_is_over_the_classes_that_are_there():
    answers = np.array([[4, 0, 9], [3, 5, 9], [2, 4, 9], [1, 6, 9]], np.float32)
    targets = np.array([[1, 0, 0], [0, 0, 0], [1, 1, 0], [0, 0, 0]], np.float32)
    first, second = (1 / 1 + 2 / 3) / 2, 1 / 3
    assert score(answers, targets=targets, kind="multi-label") == pytest.approx((first + second) / 2)
    random = np.random.default_rng(0)
    drawn = [score(random.random((4, 3), np.float32), targets=targets, kind="multi-label") for _ in range(3000)]
    assert chance(targets, kind="multi-label") == pytest.approx(np.mean(drawn), abs=0.01)
    with pytest.raises(ValueError, match="not a finite number"):
        score(answers * np.nan, targets=targets, kind="multi-label")


def test_a_head_is_asked(tmp_path):
    samples = Tars(str(write_tar(tmp_path / "a.tar", tones(9)))).build()
    model = tiny.model(audio=ENCODER)
    with torch.no_grad():
        model.audio_encoder.head.linear.weight.zero_()
        model.audio_encoder.head.linear.bias.copy_(torch.tensor([0.0, 1.0, 0.0]))
    result = Classification(CLASSES, "single-label").run(model, clips=samples)
    assert result.score == result.chance == pytest.approx(1 / 3) and result.metric == "accuracy"
    assert result.num_clips == 9 and result.to_dict()["num_classes"] == 3
    several = [replace(sample, label=f"{sample.label};tone 1") for sample in samples]
    assert Classification(CLASSES).run(model, clips=several).metric == "mAP"


def test_what_does_not_fit_is_named(tmp_path):
    samples = Tars(str(write_tar(tmp_path / "a.tar", tones(3)))).build()
    with pytest.raises(ValueError, match="head tells 3 classes apart, and 2 are named"):
        Classification(CLASSES[:2]).run(tiny.model(audio=ENCODER), clips=samples)
    with pytest.raises(ValueError, match="features 'logits': this Slap has no head of classes"):
        Classification(CLASSES).run(tiny.model(), clips=samples)


def test_figures_and_what_single_clips_give(tmp_path):
    samples = Tars(str(write_tar(tmp_path / "a.tar", tones(9)))).build()
    model = tiny.model(audio=ENCODER)
    single = Classification(CLASSES, "single-label").run(model, clips=samples)
    assert single.items["accuracy"].mean() == pytest.approx(single.score) == single.figures["accuracy"].value
    several = [replace(sample, label=f"{sample.label};tone 1") for sample in samples]
    ranked = Classification(CLASSES).run(model, clips=several)
    assert ranked.items == {} and ranked.figures["mAP"].value == pytest.approx(ranked.score)
    assert ranked.figures["mAP"].chance == pytest.approx(ranked.chance) and "AUROC" in ranked.figures
