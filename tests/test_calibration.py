import json

import numpy as np
import pytest

import tiny
from lapis import calibration
from lapis.calibration import LEVELS, Calibration, Decision, Isotonic, Logistic, logistic


def made(**changes) -> Calibration:
    known = {
        "curve": Logistic(10.0, -2.0),
        "centre": (0.6, 0.8),
        "unrelated": tuple(np.quantile(np.linspace(-1, 0, 1001), LEVELS).tolist()),
        "least_score": -0.01,
    }
    return tiny.calibration("model", **(known | changes))


def test_the_meaning_of_pairs_is_that_of_its_formula():
    texts = np.array([[1.0, 0.0], [0.6, 0.8]], np.float32)
    clips = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], np.float32)
    told = made().meaning(texts, clips=clips)
    for text in range(2):
        for clip in range(3):
            score = float(texts[text] @ clips[clip]) - 0.5 * float(texts[text] @ np.array([0.6, 0.8]))
            assert told.probability[text, clip] == pytest.approx(1 / (1 + np.exp(2.0 - 10.0 * score)), abs=1e-6)
            assert told.percentile[text, clip] == pytest.approx(np.clip(1 + score, 0, 1), abs=2e-3)
            assert told.heard[text, clip] == (score >= -0.01)


@pytest.mark.parametrize(
    ("decision", "told"),
    [
        (Decision("false alarms", 1e-5), "at most 0.001% of unrelated pairs do"),
        (Decision("false alarms", 0.07), "at most 7% of unrelated pairs do"),
        (Decision("probability", 0.004), "its probability is at least 0.4%"),
        (Decision("probability", 0.999), "its probability is at least 99.9%"),
    ],
)
def test_a_rule_is_told_with_all_its_digits(decision, told):
    assert decision.rule == told


def test_a_tie_with_unrelated_pairs_is_not_above_them():
    """The share that scores lower, counted in the pairs themselves."""
    pairs = np.sort(np.repeat([-0.4, 0.1, 0.1, 0.1, 0.1, 0.3, 0.7, 0.7], 125))
    of = made(unrelated=tuple(np.quantile(pairs, LEVELS, method="inverted_cdf").tolist()))
    for score in (-0.4, 0.1, 0.1 + 1e-7, 0.1 - 1e-7, 0.3, 0.7):
        lower = (pairs < score - 1e-6).mean()
        assert of.percentile(np.array(score)) == pytest.approx(lower, abs=0.011)
    collapsed = made(unrelated=(0.25,) * len(LEVELS))
    assert collapsed.percentile(np.array([[0.2, 0.25], [0.25, 0.3]])).tolist() == [[0.0, 0.0], [0.0, 1.0]]
    rising = made().percentile(np.linspace(-1.2, 0.2, 5001))
    assert (np.diff(rising) >= 0).all() and rising[0] == 0 and rising[-1] == 1


def test_nothing_matches_where_no_clip_is_heard():
    of = made(background_weight=0.0, least_score=0.5)
    texts = np.array([[1.0, 0.0], [0.0, -1.0]], np.float32)
    clips = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    assert of.meaning(texts, clips=clips).nothing_matches.tolist() == [False, True]


def test_another_prior_moves_the_odds_by_the_ratio_of_the_priors_odds():
    scores = np.linspace(-1, 1, 9)
    odds = [p / (1 - p) for p in (made().probability(scores), made().probability(scores, prior=0.5))]
    assert odds[1] / odds[0] == pytest.approx(np.full(9, 9.0))
    assert made().probability(scores, prior=0.1) == pytest.approx(made().probability(scores))


def test_extreme_scores_stay_probabilities():
    told = made().probability(np.array([-1e9, 1e9]))
    assert told.tolist() == [0.0, 1.0]
    assert logistic(np.zeros(1)).tolist() == [0.5]


@pytest.mark.parametrize("curve", [Logistic(28.5, -9.25), Isotonic((-0.1, 0.2, 0.2, 0.9), (-7.0, -7.0, -1.0, 2.5))])
def test_what_is_written_is_read(curve, tmp_path):
    of = made(curve=curve)
    assert calibration.read(tmp_path) is None
    path = calibration.write(of, tmp_path)
    assert path == tmp_path / "calibration.json"
    assert calibration.read(tmp_path, identity="model") == of


def test_a_calibration_of_other_weights_is_refused(tmp_path):
    calibration.write(made(), tmp_path)
    with pytest.raises(ValueError, match=r"calibration\.json was fitted to other weights \(model\) than these \(other"):
        calibration.read(tmp_path, identity="other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(version=2), "of version 2, and this version of Lapis reads 1"),
        (lambda content: content.update(format="x"), "expected a calibration of Lapis"),
        (lambda content: content.update(calibration=None), "expected a calibration under 'calibration', got NoneType"),
        (lambda content: content["calibration"].pop("prior"), "needs the field 'prior'"),
        (lambda content: content["calibration"].update(prior=1.5), "a prior between 0 and 1, got 1.5"),
        (lambda content: content["calibration"]["unrelated"].pop(), "rising scores of unrelated pairs, got 171"),
        (lambda content: content["calibration"]["decision"].update(level=0.0), "must lie between 0 and 1, got 0.0"),
    ],
)
def test_a_damaged_file_is_explained(change, message, tmp_path):
    path = calibration.write(made(), tmp_path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        calibration.read(tmp_path)


def test_what_is_no_json_is_explained(tmp_path):
    (tmp_path / "calibration.json").write_text("{")
    with pytest.raises(ValueError, match=r"calibration\.json is not JSON"):
        calibration.read(tmp_path)


def test_it_goes_into_a_folder_that_is_there(tmp_path):
    with pytest.raises(ValueError, match="expected the folder of a model, there is none"):
        calibration.write(made(), tmp_path / "none")


def test_what_cannot_be_a_calibration_is_refused():
    with pytest.raises(ValueError, match="finite numbers"):
        made(least_score=float("nan"))
    with pytest.raises(ValueError, match="scores and log odds do not fall"):
        Isotonic((0.0, 1.0), (1.0, 0.0))
    with pytest.raises(ValueError, match="vectors of width 2, got 3"):
        made().background(np.zeros((1, 3), np.float32))
    with pytest.raises(ValueError, match="prior must lie between 0 and 1"):
        made().probability(np.zeros(1), prior=0.0)
