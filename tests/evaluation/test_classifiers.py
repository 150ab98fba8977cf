"""Neighbours, few shots and folds against scikit-learn and plain loops."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from pitch import CollapsedEmbedder, PitchEmbedder, pitched
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from lapis.data.sample import Sample
from lapis.evaluation.embeddings import AudioEmbeddings
from lapis.evaluation.few_shot import FewShot
from lapis.evaluation.folds import folds
from lapis.evaluation.linear import Fitting, LinearProbe
from lapis.evaluation.neighbours import Neighbours

WIDTH = 8


@dataclass(frozen=True)
class Listed:
    samples: tuple[Sample, ...]

    def build(self):
        return list(self.samples)


def _clips(tmp_path, number, *, prefix="", classes=4, splits=1):
    one = pitched(tmp_path, "one", hertz=500)
    return tuple(
        replace(one, key=f"{prefix}{n}", label=f"class {n % classes}", split=f"fold{n % splits}") for n in range(number)
    )


def _planted(listener, clips) -> AudioEmbeddings:
    """Features by the clip's key: a centre of its class, and noise."""
    rows = []
    for clip in clips:
        random = np.random.default_rng(list(clip.key.encode()))
        centre = np.random.default_rng(int(clip.label[-1])).normal(size=WIDTH)
        rows.append(centre + 2 * random.normal(size=WIDTH))
    return AudioEmbeddings(np.array(rows, np.float32), tuple(clips))


def _unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_one_neighbour_is_that_of_scikit_learn(tmp_path):
    train, test = _clips(tmp_path, 60, prefix="train"), _clips(tmp_path, 50, prefix="test")
    result = Neighbours(Listed(train), k=(1, 5)).run(PitchEmbedder(), clips=test, embed=_planted)
    taught, tested = (_unit(_planted(None, of).vectors) for of in (train, test))
    model = KNeighborsClassifier(1, metric="cosine").fit(taught, [clip.label for clip in train])
    expected = np.array([clip.label for clip in test]) == model.predict(tested)
    np.testing.assert_array_equal(result.items["accuracy 1-NN"], expected)
    assert result.figures["accuracy 1-NN"].value == pytest.approx(expected.mean())
    # Of five neighbours more votes than any other class, counted one by one.
    for row, clip, right in zip(tested, test, result.items["accuracy 5-NN"]):
        nearest = np.argsort(-(taught @ row))[:5]
        votes = [train[number].label for number in nearest]
        others = [votes.count(other) for other in set(votes) - {clip.label}]
        assert right == (votes.count(clip.label) > max(others, default=0))
    assert "by 60 others" in result.protocol and 0.25 <= result.chance <= 0.27


def test_all_clips_of_a_class_are_its_centroid(tmp_path):
    train, test = _clips(tmp_path, 40, prefix="train"), _clips(tmp_path, 30, prefix="test")
    result = FewShot(Listed(train), shots=(1, 10), seeds=(0, 1, 2)).run(PitchEmbedder(), clips=test, embed=_planted)
    taught, tested = (_unit(_planted(None, of).vectors) for of in (train, test))
    labels = np.array([clip.label for clip in train])
    centroids = _unit(NearestCentroid().fit(taught, labels).centroids_)
    expected = np.argmax(tested @ centroids.T, axis=1) == [int(clip.label[-1]) for clip in test]
    np.testing.assert_array_equal(result.items["accuracy 10-shot"], expected)
    assert result.deviations["accuracy 10-shot"] == pytest.approx(0) and result.deviations["accuracy 1-shot"] > 0.01
    assert result.seeds == (0, 1, 2)
    assert json.loads(json.dumps(result.to_dict()))["figures"]["accuracy 1-shot"]["interval"]
    again = FewShot(Listed(train), shots=(1,), seeds=(0, 1, 2)).run(PitchEmbedder(), clips=test, embed=_planted)
    np.testing.assert_array_equal(again.items["accuracy 1-shot"], result.items["accuracy 1-shot"])


@pytest.mark.parametrize("protocol", [Neighbours(k=(1,)), FewShot(shots=(2,), seeds=(0,))])
def test_each_fold_is_tested_by_the_others_and_counts_alike(protocol, tmp_path):
    clips = _clips(tmp_path, 41, splits=3)
    result = protocol.run(PitchEmbedder(), clips=clips, embed=_planted)
    scores = []
    for fold in ("fold0", "fold1", "fold2"):
        test = tuple(clip for clip in clips if clip.split == fold)
        train = Listed(tuple(clip for clip in clips if clip.split != fold))
        (figure,) = replace(protocol, train=train).run(PitchEmbedder(), clips=test, embed=_planted).figures.values()
        scores.append(figure.value)
    (figure,), (items,) = result.figures.values(), result.items.values()
    assert figure.value == pytest.approx(np.mean(scores)) == pytest.approx(items.mean())
    assert "each fold of 3 by the others" in result.protocol


def test_a_linear_probe_goes_over_folds_too(tmp_path):
    clips = _clips(tmp_path, 60, splits=3)
    fitting = Fitting(learning_rate=1e-2, epochs=30, seeds=(1, 2))
    result = LinearProbe(None, features="vectors", fitting=fitting).run(PitchEmbedder(), clips=clips, embed=_planted)
    by_fold = [
        LinearProbe(
            Listed(tuple(clip for clip in clips if clip.split != fold)), features="vectors", fitting=fitting
        ).run(PitchEmbedder(), clips=tuple(clip for clip in clips if clip.split == fold), embed=_planted)
        for fold in ("fold0", "fold1", "fold2")
    ]
    assert result.scores == pytest.approx(tuple(np.mean([one.scores for one in by_fold], axis=0)))
    assert result.items["accuracy"].mean() == pytest.approx(result.score) == result.figures["accuracy"].value
    assert (result.folds, result.num_clips) == (3, 60) and result.protocol.startswith("Leave one fold out: 60 clips")
    with pytest.raises(ValueError, match="expected train clips"):
        LinearProbe(None, Listed(clips))


def test_a_collapsed_model_recognises_nothing(tmp_path):
    clips = tuple(
        pitched(tmp_path, str(number), hertz=100 + 50 * number, label="ab"[number % 2], split=f"fold{number % 3}")
        for number in range(12)
    )
    for protocol in (Neighbours(k=(1, 3)), FewShot(shots=(1, 2))):
        figures = protocol.run(CollapsedEmbedder(), clips=clips).figures
        assert len(figures) == 2 and all(figure.value == 0 for figure in figures.values())


def test_what_does_not_fit_is_named(tmp_path):
    train, test = _clips(tmp_path, 8, prefix="train"), _clips(tmp_path, 8, prefix="test")
    with pytest.raises(ValueError, match="8 training clips are too few for 9 neighbours"):
        Neighbours(Listed(train), k=(9,)).run(PitchEmbedder(), clips=test, embed=_planted)
    with pytest.raises(ValueError, match="class 'class 0' has 2 training clips, fewer than 3 shots"):
        FewShot(Listed(train), shots=(3,)).run(PitchEmbedder(), clips=test, embed=_planted)
    with pytest.raises(ValueError, match="all 8 clips are in"):
        Neighbours().run(PitchEmbedder(), clips=test, embed=_planted)
    with pytest.raises(ValueError, match="clip test0 is in no fold"):
        folds([replace(test[0], split=None), *test])
    with pytest.raises(ValueError, match="at least one kind of features"):
        Neighbours(features=())
    with pytest.raises(ValueError, match=r"features 'frames' need a joint model.*; features 'tokens' need"):
        Neighbours(Listed(train), features=("frames", "tokens")).run(PitchEmbedder(), clips=test)

    def broken(listener, clips):
        found = _planted(listener, clips)
        found.vectors[2, 1] = np.nan
        return found

    with pytest.raises(ValueError, match="the features of clip test2 are not finite"):
        Neighbours(Listed(train)).run(PitchEmbedder(), clips=test, embed=broken)
