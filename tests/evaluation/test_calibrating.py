import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as sklearn_log_loss

from lapis.calibration import Decision, logistic
from lapis.evaluation.calibrating import WAYS, Pairs, fit, fit_isotonic, fit_logistic, log_loss


def planted(seed=0, *, hubs=0.0, curve=lambda cosine: logistic(12 * cosine - 4), texts=60, clips=200, width=48):
    """Pairs that match with a known probability of their cosine; `hubs` lifts some texts near to all clips."""
    random = np.random.default_rng(seed)

    def unit(rows):
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    # All clips share a direction, which some texts share too.
    shared = np.eye(1, width)
    clip_vectors = unit(random.normal(size=(clips, width)) + 4 * shared)
    text_vectors = unit(random.normal(size=(texts, width)) + hubs * random.normal(size=(texts, 1)) * shared)
    cosine = text_vectors.astype(float) @ clip_vectors.T.astype(float)
    centred = cosine - cosine.mean(axis=1, keepdims=True)
    probability = curve(2 * centred)
    return Pairs(text_vectors, clip_vectors, random.random(cosine.shape) < probability, np.arange(texts)), probability


def test_logistic_regression_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    inputs = random.normal(size=(500, 2)) * (0.1, 3.0) + (0.5, -2.0)
    matches = random.random(500) < logistic(inputs @ (9.0, 0.4) - 5)
    slopes, offset = fit_logistic(inputs, matches=matches)
    standard = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    theirs = LogisticRegression(tol=1e-10).fit(standard, matches)
    assert slopes @ inputs.T + offset == pytest.approx(theirs.decision_function(standard), abs=1e-5)


def test_logistic_regression_of_separable_scores_stays_finite():
    inputs = np.linspace(-1, 1, 40)[:, None]
    slopes, offset = fit_logistic(inputs, matches=inputs[:, 0] > 0)
    assert 0 < slopes[0] < 100
    assert abs(offset) < 1


def test_isotonic_regression_is_that_of_scikit_learn_drawn_to_the_share_by_one_pair():
    random = np.random.default_rng(1)
    scores = np.round(random.random(400), 2)  # with ties
    matches = random.random(400) < scores**2
    ours = fit_isotonic(scores, matches=matches)
    theirs = IsotonicRegression().fit_transform(scores, matches)
    expected = 0.0
    for level in np.unique(theirs):
        within = theirs == level
        # What is drawn below the level before it stands on that one.
        expected = max(expected, (level * within.sum() + matches.mean()) / (within.sum() + 1))
        assert logistic(ours(scores[within])) == pytest.approx(np.full(within.sum(), expected), abs=1e-9)


def test_a_planted_calibration_is_recovered():
    pairs, probability = planted(texts=150, clips=400)
    found = fit(pairs, identity="planted", data="planted pairs")
    told = found.meaning(pairs.texts, clips=pairs.clips).probability
    assert found.fitted.chosen == "logistic of the centred cosine"
    assert found.curve.slope == pytest.approx(24, rel=0.05)
    assert found.curve.offset == pytest.approx(-4, rel=0.05)
    assert np.abs(told - probability).max() < 0.03
    assert found.fitted.losses.keys() == set(WAYS)


def test_the_background_takes_away_what_makes_some_texts_near_to_all_clips():
    pairs, _ = planted(hubs=3.0)
    found = fit(pairs, identity="planted", data="planted pairs")
    assert "cosine and background" in found.fitted.chosen or "centred" in found.fitted.chosen
    assert found.fitted.losses[found.fitted.chosen] < found.fitted.losses["logistic of the cosine"] - 0.01
    others, others_probability = planted(1, hubs=3.0)
    told = found.meaning(others.texts, clips=others.clips).probability
    assert np.abs(told - others_probability).mean() < 0.03


def test_a_curve_that_is_not_logistic_is_fitted_by_steps():
    pairs, _ = planted(curve=lambda cosine: np.where(cosine > 0.3, 0.6, 0.1), texts=100)
    found = fit(pairs, identity="planted", data="planted pairs")
    assert found.fitted.chosen == "isotonic of the centred cosine"


def test_the_loss_by_which_is_chosen_is_that_of_texts_not_seen():
    pairs, _ = planted(texts=20)
    found = fit(pairs, identity="planted", data="planted pairs")
    cosine = (pairs.texts.astype(float) @ pairs.clips.astype(float).T).ravel()
    matches = pairs.matches.ravel()
    fold_of = np.random.default_rng(0).permutation(20) % 5
    fold = np.repeat(fold_of, len(pairs.clips))
    odds = np.zeros(len(cosine))
    for number in range(5):
        slopes, offset = fit_logistic(cosine[fold != number][:, None], matches=matches[fold != number])
        odds[fold == number] = slopes[0] * cosine[fold == number] + offset
    assert found.fitted.losses["logistic of the cosine"] == pytest.approx(sklearn_log_loss(matches, logistic(odds)))
    assert log_loss(odds, matches=matches) == pytest.approx(sklearn_log_loss(matches, logistic(odds)))


@pytest.mark.parametrize("level", [0.001, 0.01, 0.2])
def test_no_more_unrelated_pairs_are_heard_than_decided(level):
    pairs, _ = planted()
    found = fit(pairs, identity="x", data="x", decision=Decision("false alarms", level))
    told = found.meaning(pairs.texts, clips=pairs.clips)
    unrelated = told.heard[~pairs.matches]
    assert level * len(unrelated) - 1 <= unrelated.sum() <= level * len(unrelated)
    assert found.fitted.matches_heard == told.heard[pairs.matches].mean()
    # The percentile of what is just heard is that of the level.
    assert found.percentile(np.array([found.least_score]))[0] == pytest.approx(1 - level, abs=2e-3)


@pytest.mark.parametrize("steps", [False, True])
def test_what_is_as_probable_as_decided_is_heard(steps):
    curve = (lambda cosine: np.where(cosine > 0.3, 0.6, 0.1)) if steps else (lambda cosine: logistic(12 * cosine - 2))
    pairs, _ = planted(curve=curve, texts=100)
    found = fit(pairs, identity="x", data="x", decision=Decision("probability", 0.5))
    told = found.meaning(pairs.texts, clips=pairs.clips)
    near = np.abs(told.probability - 0.5) < 1e-9
    assert told.heard[~near].any()
    assert (told.heard == (told.probability >= 0.5))[~near].all()


def test_tied_scores_are_not_heard_beyond_the_rate():
    vectors = np.tile(np.array([[1.0, 0.0]], np.float32), (4, 1))
    clips = np.array([[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 7, np.float32)
    matches = np.zeros((4, 10), bool)
    matches[:, 0] = True  # and two clips that are the same to the model, but do not match
    found = fit(Pairs(vectors, clips, matches, np.arange(4)), identity="x", data="x")
    assert not found.meaning(vectors, clips=clips).heard.any()


def test_scores_that_say_nothing_have_no_meaning():
    pairs, _ = planted()
    collapsed = np.tile(pairs.texts[:1], (len(pairs.clips), 1))
    with pytest.raises(ValueError, match="pairs that match do not score higher than others"):
        fit(Pairs(pairs.texts[:1].repeat(60, 0), collapsed, pairs.matches, pairs.groups), identity="x", data="x")
    with pytest.raises(ValueError, match="pairs that match do not score higher than others"):
        fit(Pairs(-pairs.texts, pairs.clips, pairs.matches, pairs.groups), identity="x", data="x")


def test_what_cannot_be_fitted_is_refused():
    pairs, _ = planted()
    with pytest.raises(ValueError, match="pairs that match and others, got 0 of 12000"):
        Pairs(pairs.texts, pairs.clips, np.zeros_like(pairs.matches), pairs.groups)
    with pytest.raises(ValueError, match="60 texts and 200 clips do not fit"):
        Pairs(pairs.texts, pairs.clips, pairs.matches[:5], pairs.groups)
    broken = pairs.clips.copy()
    broken[7] = np.nan
    with pytest.raises(ValueError, match="the vector of clip 7 is not finite"):
        Pairs(pairs.texts, broken, pairs.matches, pairs.groups)
    with pytest.raises(ValueError, match="texts of two groups"):
        fit(Pairs(pairs.texts, pairs.clips, pairs.matches, np.zeros(60, int)), identity="x", data="x")
    with pytest.raises(ValueError, match=r"no score has a probability of 0\.99"):
        few, _ = planted(curve=lambda cosine: np.where(cosine > 0.3, 0.6, 0.1), texts=100)
        fit(few, identity="x", data="x", decision=Decision("probability", 0.99))
