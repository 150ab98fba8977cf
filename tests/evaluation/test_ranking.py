"""mAP and AUROC against scikit-learn and plain loops, and whether their intervals hold what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from lapis.evaluation import ranking
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


@pytest.mark.parametrize("seed", range(4))
def test_what_is_left_out_is_as_if_it_had_never_been(seed):
    """Of each group of clips; classes that have then no clip, or no other, do not count in it."""
    answers, relevant = _random(seed, clips=ranking.GROUPS + 5, classes=5, ties=True)
    relevant[:, 0] = np.arange(len(answers)) == 7
    relevant[:, 1] = np.arange(len(answers)) != 9
    precisions, areas = ranking_scores(answers, relevant=relevant)._left_out()
    group = np.random.default_rng(ranking.SEED).permutation(len(answers)) % ranking.GROUPS
    for number in range(ranking.GROUPS):
        rest = ranking_scores(answers[group != number], relevant=relevant[group != number])
        assert precisions[number] == pytest.approx(rest.precisions.mean())
        some = ~rest.relevant.all(axis=1)
        assert areas[number] == pytest.approx(
            areas_under_curve(rest.answers[some], relevant=rest.relevant[some]).mean()
        )


def _drawn(random, *, clips, classes, share):
    relevant = random.random((clips, classes)) < share
    relevant[random.integers(0, clips, classes)[~relevant.any(axis=0)], ~relevant.any(axis=0)] = True
    return random.normal(size=relevant.shape) + 2 * relevant, relevant


@pytest.mark.parametrize(
    ("share", "draws"),
    [(0.0125, 14), pytest.param(0.0125, 60, marks=pytest.mark.slow), pytest.param(0.005, 60, marks=pytest.mark.slow)],
)
def test_intervals_of_many_classes_of_few_clips_hold_the_truth(share, draws):
    """Five and two clips a class, where copies of clips would lift every draw of a bootstrap above the figure."""
    random, found, truths = np.random.default_rng(0), [], []
    for number in range(2 * draws):
        answers, relevant = _drawn(random, clips=400, classes=200, share=share)
        scores = ranking_scores(answers, relevant=relevant)
        truths.append(scores.precisions.mean())
        if number < draws:
            found.append(scores.figures)
    inside = 0
    for figures in found:
        for figure in figures.values():
            assert figure.interval[0] < figure.value < figure.interval[1]
        inside += figures["mAP"].interval[0] <= np.mean(truths) <= figures["mAP"].interval[1]
    assert inside >= 0.85 * draws
    width = np.mean([figures["mAP"].interval[1] - figures["mAP"].interval[0] for figures in found])
    assert width < 2 * 3.92 * np.std(truths)  # and are no wider than they need be by much


def test_few_clips_have_no_interval():
    answers, relevant = _random(0, clips=ranking.GROUPS - 1)
    assert all(figure.interval is None for figure in ranking_scores(answers, relevant=relevant).figures.values())


def test_classes_that_no_clip_has_do_not_count():
    answers, relevant = _random(0, clips=60)
    more = np.concatenate([answers, np.ones((60, 1))], axis=1), np.concatenate([relevant, np.zeros((60, 1), bool)], 1)
    scores = ranking_scores(more[0], relevant=more[1])
    assert scores.figures == ranking_scores(answers, relevant=relevant).figures
    assert scores.by_class("abcde")["e"] is None and scores.by_class("abcde")["a"] > 0
    low, high = scores.figures["mAP"].interval
    assert low < scores.figures["mAP"].value < high


def test_one_score_for_all_is_a_guess_by_area_and_nothing_by_precision():
    _, relevant = _random(0, clips=60)
    figures = ranking_scores(np.ones((60, 4)), relevant=relevant).figures
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
