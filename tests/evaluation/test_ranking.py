"""mAP and AUROC against scikit-learn and plain loops, and their intervals against rankings with clips repeated."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from lapis.evaluation.metrics import areas_under_curve
from lapis.evaluation.ranking import ranking_scores


def _random(seed: int, *, clips: int = 20, classes: int = 4, ties: bool = False):
    random = np.random.default_rng(seed)
    answers = random.integers(0, 4, (clips, classes)) / 4 if ties else random.random((clips, classes))
    relevant = random.random((clips, classes)) < 0.3
    relevant[0], relevant[1] = True, False
    return answers, relevant


@given(st.integers(0, 10**6))
def test_figures_are_those_of_scikit_learn_where_nothing_ties(seed):
    answers, relevant = _random(seed)
    precision = ranking_scores(answers, relevant=relevant).precisions.mean()
    assert precision == pytest.approx(average_precision_score(relevant, answers, average="macro"))
    area = areas_under_curve(answers.T, relevant=relevant.T).mean()
    assert area == pytest.approx(roc_auc_score(relevant, answers, average="macro"))


@given(st.integers(0, 10**6))
def test_areas_are_those_of_scikit_learn_where_much_ties(seed):
    """And the share of pairs in order, an equal pair counting half."""
    answers, relevant = (part.T for part in _random(seed, ties=True))
    found = areas_under_curve(answers, relevant=relevant)
    theirs = [roc_auc_score(true, row) for row, true in zip(answers, relevant)]
    np.testing.assert_allclose(found, theirs)
    pairs = [
        np.mean([(right > wrong) + (right == wrong) / 2 for right in row[true] for wrong in row[~true]])
        for row, true in zip(answers, relevant)
    ]
    np.testing.assert_allclose(found, pairs)


@pytest.mark.parametrize(
    "row",
    [
        [1.0] * 6,  # all equal
        [0.5, 0.5, 0.5, 0.2, 0.2, 0.2],  # ties only among the alike
        [0.5, 0.2, 0.2, 0.5, 0.5, 0.2],  # ties only across
        [np.inf, 1.0, -np.inf, np.inf, -np.inf, -np.inf],
        [0.0, -0.0, 0.0, -0.0, 0.0, -0.0],
    ],
)
def test_areas_of_adversarial_ties(row):
    answers, relevant = np.array([row]), np.array([[True, True, False, False, True, False]])
    finite = np.nan_to_num(answers[0], posinf=9.0, neginf=-9.0)  # scikit-learn takes no infinities
    (area,) = areas_under_curve(answers, relevant=relevant)
    assert area == pytest.approx(roc_auc_score(relevant[0], finite))
    weights = np.array([[2, 1, 3, 1, 1, 4]])
    (drawn,) = ranking_scores(answers.T, relevant=relevant.T)._redrawn()[1](weights)
    assert drawn == pytest.approx(roc_auc_score(relevant[0], finite, sample_weight=weights[0]))


@given(st.integers(0, 10**6))
def test_a_draw_scores_as_the_repeated_clips_do(seed):
    answers, relevant = _random(seed, ties=True)
    weights = np.random.default_rng(seed + 1).integers(0, 3, (3, len(answers)))
    weights[:, :2] += 1
    precision, area = ranking_scores(answers, relevant=relevant)._redrawn()
    for drawn, mean_precision, mean_area in zip(weights, precision(weights), area(weights)):
        again = ranking_scores(np.repeat(answers, drawn, axis=0), relevant=np.repeat(relevant, drawn, axis=0))
        assert mean_precision == pytest.approx(again.precisions.mean())
        areas = areas_under_curve(again.answers, relevant=again.relevant)
        assert mean_area == pytest.approx(areas.mean())


def test_classes_that_no_clip_has_do_not_count():
    answers, relevant = _random(0)
    more = np.concatenate([answers, np.ones((20, 1))], axis=1), np.concatenate([relevant, np.zeros((20, 1), bool)], 1)
    scores = ranking_scores(more[0], relevant=more[1])
    assert scores.figures == ranking_scores(answers, relevant=relevant).figures
    assert scores.by_class("abcde")["e"] is None and scores.by_class("abcde")["a"] > 0
    low, high = scores.figures["mAP"].interval
    assert low < scores.figures["mAP"].value < high


def test_one_score_for_all_is_a_guess_by_area_and_nothing_by_precision():
    _, relevant = _random(0)
    figures = ranking_scores(np.ones((20, 4)), relevant=relevant).figures
    assert figures["AUROC"].value == figures["AUROC"].chance == 0.5 and figures["AUROC"].interval == (0.5, 0.5)
    assert figures["mAP"].value < figures["mAP"].chance


def test_what_cannot_be_ranked_is_named():
    with pytest.raises(ValueError, match="none of 3 clips has any of 2 classes"):
        ranking_scores(np.zeros((3, 2)), relevant=np.zeros((3, 2), bool))
    with pytest.raises(ValueError, match="query 1 has relevant candidates only"):
        areas_under_curve(np.zeros((2, 2)), relevant=np.array([[True, False], [True, True]]))
    answers, relevant = _random(0)
    answers[3, 2] = np.nan
    with pytest.raises(ValueError, match="is NaN"):
        ranking_scores(answers, relevant=relevant)
