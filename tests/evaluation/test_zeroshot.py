"""Zero-shot classification on sounds whose right answers are known."""

import json
import tracemalloc

import numpy as np
import pytest
from pitch import CollapsedEmbedder, PitchEmbedder, pitched
from sklearn.metrics import average_precision_score, balanced_accuracy_score, confusion_matrix, roc_auc_score

from lapis.data.sample import Location, Sample
from lapis.evaluation import zeroshot
from lapis.evaluation.figure import Result
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
    with pytest.raises(ValueError, match="clip odd has label 'odd', which has no prompts"):
        ZeroShot(PROMPTS).run(PitchEmbedder(), clips=[*clips, pitched(tmp_path, "odd", hertz=500, label="odd")])
    with pytest.raises(ValueError, match="clip bare has label None"):
        ZeroShot(PROMPTS).run(PitchEmbedder(), clips=[*clips, pitched(tmp_path, "bare", hertz=500)])
    with pytest.raises(ValueError, match="class 'b' has no prompt"):
        ZeroShot({"a": ("500 hertz",), "b": ()})
    with pytest.raises(ValueError, match="at least two classes"):
        ZeroShot({"a": ("500 hertz",)})


def test_classes_that_no_clip_has_are_answered_and_do_not_count_in_the_balance(clips):
    more = PROMPTS | {"shrill": ("3900 hertz",), "lowest": ("490 hertz",)}
    result = ZeroShot(more).run(PitchEmbedder(), clips=clips)
    assert result.chance == 1 / 5 and result.confusion.shape == (5, 5) and result.confusion[:, 4].sum() == 1
    assert result.accuracy == pytest.approx(5 / 7)
    assert result.balanced_accuracy == pytest.approx((3 / 4 + 1 / 2 + 1) / 3)
    assert "7 clips into 5 classes, 2 of which no clip has, by cosine" in result.protocol


def test_tens_of_thousands_of_classes_need_no_table_of_them():
    """A table of clips by classes, or of classes by classes, of these would take gigabytes."""
    number = 20_000
    angles = np.linspace(0, 3, number)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    of = np.arange(0, number, 10)
    tracemalloc.start()
    result = zeroshot.ZeroShotResult(
        accuracy=1.0,
        balanced_accuracy=1.0,
        chance=1 / number,
        majority_share=1 / number,
        classes=tuple(map(str, range(number))),
        prompts={},
        num_clips=len(of),
        protocol="",
        true=of,
        predicted=of,
    )
    assert result.figures["balanced accuracy"].interval == (1, 1) and result.confusion is None
    assert result.to_dict()["confusion"] is None
    assert tracemalloc.get_traced_memory()[1] < 300e6
    tracemalloc.stop()
    prompts = {str(name): ("",) for name in of}
    few = zeroshot.classified(
        vectors[of], class_vectors=vectors[of], true=np.arange(len(of)), prompts=prompts, protocol=""
    )
    assert few.num_clips == 2000 and few.confusion is None and few.balanced_accuracy == few.accuracy


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


def test_figures_are_of_the_clips(clips):
    result = ZeroShot(PROMPTS, languages=("eng_Latn",)).run(PitchEmbedder(), clips=clips)
    assert isinstance(result, Result) and "its prompts in eng_Latn" in result.protocol
    assert result.items["accuracy"].tolist() == [1, 1, 1, 1, 1, 0, 1]
    assert result.figures["accuracy"].value == result.accuracy == pytest.approx(result.items["accuracy"].mean())
    assert result.figures["balanced accuracy"].value == result.balanced_accuracy
    low, high = result.figures["accuracy"].interval
    assert low < 6 / 7 < high


def test_many_clips_are_compared_in_parts(clips, monkeypatch):
    whole = ZeroShot(PROMPTS).run(PitchEmbedder(), clips=clips)
    monkeypatch.setattr(zeroshot, "CLIPS_AT_ONCE", 2)
    np.testing.assert_array_equal(ZeroShot(PROMPTS).run(PitchEmbedder(), clips=clips).confusion, whole.confusion)


def test_clips_of_several_classes_are_ranked_by_each(tmp_path):
    pitches = {"low": (480, 900), "low;high": (700, 2500), "high": (2900, 600)}
    clips = [
        pitched(tmp_path, f"{label}{hertz}", hertz=hertz, label=label) for label in pitches for hertz in pitches[label]
    ]
    prompts = {"low": ("500 hertz",), "high": ("3000 hertz",), "absent": ("1000 hertz",)}
    result = ZeroShot(prompts, "multi-label").run(PitchEmbedder(), clips=clips)
    assert isinstance(result, Result) and result.items == {}
    hertz = np.array([pitch for label in pitches for pitch in pitches[label]])
    relevant = np.array([["low" in label, "high" in label] for label in pitches for _ in pitches[label]])
    answers = np.stack([-np.abs(hertz - 500), -np.abs(hertz - 3000)], axis=1)
    assert result.figures["mAP"].value == pytest.approx(average_precision_score(relevant, answers, average="macro"))
    assert result.figures["AUROC"].value == pytest.approx(roc_auc_score(relevant, answers, average="macro"))
    stored = json.loads(json.dumps(result.to_dict()))
    assert stored["average_precisions"]["absent"] is None and stored["prompts"]["high"] == ["3000 hertz"]
    assert "Zero-shot tagging of 6 clips with 3 classes" in result.protocol
    with pytest.raises(ValueError, match="label 'odd', which is none of the 3 classes"):
        odd = pitched(tmp_path, "odd", hertz=500, label="odd;low")
        ZeroShot(prompts, "multi-label").run(PitchEmbedder(), clips=[*clips, odd])


def test_prompts_that_cancel_each_other_are_refused(clips):
    class Opposite(PitchEmbedder):
        def embed_text(self, texts):
            return np.array([[1, 0], [-1, 0]] * len(texts), np.float32)[: len(texts)]

    with pytest.raises(ValueError, match="the vector of candidate 0 is not finite"):
        ZeroShot({"low": ("a", "b"), "middle": ("c",), "high": ("d",)}).run(Opposite(), clips=clips)
