"""Zero-shot classification on sounds whose right answers are known."""

import json

import numpy as np
import pytest
from pitch import CollapsedEmbedder, PitchEmbedder, pitched
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from lapis.data.sample import Location, Sample
from lapis.evaluation.zeroshot import ZeroShot

PROMPTS = {"low": ("500 hertz",), "middle": ("1000 hertz", "1200 hertz"), "high": ("3000 hertz",)}


@pytest.fixture
def clips(tmp_path):
    # The second "middle" clip is nearer to the prompt of "low".
    pitches = {"low": (480, 500, 520, 540), "middle": (1100, 700), "high": (2900,)}
    return [
        pitched(tmp_path, f"{label}{hertz}", hertz=hertz, label=label) for label in pitches for hertz in pitches[label]
    ]


def test_figures_by_hand_and_by_scikit_learn(clips):
    result = ZeroShot(PROMPTS).run(PitchEmbedder(), clips=clips)
    np.testing.assert_array_equal(result.confusion, [[4, 0, 0], [1, 1, 0], [0, 0, 1]])
    assert result.accuracy == pytest.approx(6 / 7)
    assert result.balanced_accuracy == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert result.chance == pytest.approx(1 / 3)
    assert result.majority_share == pytest.approx(4 / 7)
    assert (result.num_clips, result.classes) == (7, ("low", "middle", "high"))
    true, predicted = [0, 0, 0, 0, 1, 1, 2], [0, 0, 0, 0, 1, 0, 2]
    np.testing.assert_array_equal(result.confusion, confusion_matrix(true, predicted))
    assert result.balanced_accuracy == pytest.approx(balanced_accuracy_score(true, predicted))


def test_several_prompts_are_averaged(tmp_path):
    clips = [pitched(tmp_path, "a", hertz=1000, label="a"), pitched(tmp_path, "b", hertz=2000, label="b")]
    # The mean of 200 and 1800 Hz is the angle of 1000 Hz; neither alone is nearest to clip a.
    averaged = ZeroShot({"a": ("200 hertz", "1800 hertz"), "b": ("1400 hertz", "2600 hertz")})
    assert averaged.run(PitchEmbedder(), clips=clips).accuracy == 1


def test_ties_count_against_the_model(clips):
    result = ZeroShot(PROMPTS).run(CollapsedEmbedder(), clips=clips)
    assert result.accuracy == result.balanced_accuracy == 0
    assert result.confusion.diagonal().sum() == 0
    assert result.confusion.sum() == 7


def test_mismatches_are_named(clips, tmp_path):
    with pytest.raises(ValueError, match="class 'shrill' has no readable clip"):
        ZeroShot(PROMPTS | {"shrill": ("3900 hertz",)}).run(PitchEmbedder(), clips=clips)
    with pytest.raises(ValueError, match="clip odd has label 'odd', which has no prompts"):
        ZeroShot(PROMPTS).run(PitchEmbedder(), clips=[*clips, pitched(tmp_path, "odd", hertz=500, label="odd")])
    with pytest.raises(ValueError, match="clip bare has label None"):
        ZeroShot(PROMPTS).run(PitchEmbedder(), clips=[*clips, pitched(tmp_path, "bare", hertz=500)])
    with pytest.raises(ValueError, match="class 'b' has no prompt"):
        ZeroShot({"a": ("500 hertz",), "b": ()})
    with pytest.raises(ValueError, match="at least two classes"):
        ZeroShot({"a": ("500 hertz",)})


def test_unreadable_clips_are_named(clips, tmp_path):
    lost = Sample("lost", Location(tmp_path / "lost.wav"), label="low")
    result = ZeroShot(PROMPTS).run(PitchEmbedder(), clips=[*clips, lost])
    assert result.num_clips == 7
    assert [reason.partition(":")[0] for reason in result.unreadable] == ["lost"]
    assert "1 unreadable clips are not counted" in result.protocol


def test_results_are_ready_for_json(clips):
    result = ZeroShot(PROMPTS).run(PitchEmbedder(), clips=clips)
    stored = json.loads(json.dumps(result.to_dict()))
    assert stored["confusion"] == result.confusion.tolist()
    assert stored["prompts"]["middle"] == ["1000 hertz", "1200 hertz"]
    assert "7 clips into 3 classes" in stored["protocol"]
    assert "1 to 2 a class" in stored["protocol"]
