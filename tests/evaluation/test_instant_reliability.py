"""The probabilities of instants against known events, by hand and on answers whose probabilities are the truth."""

import numpy as np
import pytest

from lapis.evaluation.instant_reliability import instant_reliability
from lapis.search.events import Event, FrameScores
from lapis.search.localise import Located, Locations, Span

FRAMES = 40
SECONDS = np.stack([np.arange(FRAMES) / 10, np.arange(1, FRAMES + 1) / 10], axis=1)


def answer(probabilities, *, spans=((), ())):
    nearest = Span(0.0, 0.1, 0.0, 0.0)
    found = tuple(Located(text, tuple(of), 0.5, "why", nearest) for text, of in zip(("dog", "rain"), spans))
    return Locations(found, FrameScores(np.zeros((FRAMES, 2)), SECONDS), probabilities)


def test_figures_by_hand():
    said = np.zeros((FRAMES, 2))
    said[:, 0], said[10:20, 1] = 0.3, 0.75
    # The dog barks in 10 of 40 instants, rain falls in 5 of the 10 that are called probable.
    events = [Event("dog", 1.0, 2.0), Event("rain", 1.0, 1.5)]
    # The first instant of rain is the first of the most probable: it is there; the span of the dog is not.
    spans = ([Span(3.0, 3.2, 0.3, 0.3)], [Span(0.8, 2.2, 0.7, 0.75)])
    found = instant_reliability([answer(said, spans=spans)], reference=[events], classes=["dog", "rain"])
    assert found.count == 80 and found.base_rate == pytest.approx(15 / 80)
    assert found.probability == pytest.approx((40 * 0.3 + 10 * 0.75) / 80)
    assert [(of.count, of.probability, of.matching) for of in found.bins] == [
        (30, 0.0, 0.0), (40, pytest.approx(0.3), 0.25), (10, 0.75, 0.5),
    ]  # fmt: skip
    assert found.calibration_error == pytest.approx((40 * 0.05 + 10 * 0.25) / 80)
    wrong = 10 * 0.7**2 + 30 * 0.3**2 + 5 * 0.25**2 + 5 * 0.75**2
    assert found.brier_score == pytest.approx(wrong / 80)
    assert found.brier_score_of_base_rate == pytest.approx(15 / 80 * 65 / 80)
    assert found.spans is not None and (found.spans.count, found.spans.matching) == (2, 0.5)
    assert found.spans.probability == pytest.approx((0.3 + 0.75) / 2)


def test_what_comes_true_as_often_as_it_is_said_has_no_error():
    random = np.random.default_rng(0)
    answers, reference = [], []
    for _ in range(60):
        said = np.repeat(random.choice([0.02, 0.2, 0.6], size=(FRAMES // 4, 2)), 4, axis=0)
        happens = random.random((FRAMES // 4, 2)) < said[::4]
        answers.append(answer(said))
        reference.append(
            [Event(("dog", "rain")[of], float(of_four * 0.4), float((of_four + 1) * 0.4))
             for of_four, of in np.argwhere(happens)]
        )  # fmt: skip
    found = instant_reliability(answers, reference=reference, classes=["dog", "rain"])
    assert found.calibration_error < 0.03 and found.spans is None
    assert found.brier_score < 0.8 * found.brier_score_of_base_rate
    assert all(abs(of.probability - of.matching) < 0.06 for of in found.bins) and len(found.bins) == 3
    assert found.to_dict()["bins"][0]["count"] == found.bins[0].count


def test_what_does_not_fit_is_refused():
    said = np.zeros((FRAMES, 2))
    for answers, classes, message in (
        ([], ["dog", "rain"], "an answer for each scene, got 0 for 1"),
        ([answer(None)], ["dog", "rain"], "the model has no calibration"),
        ([answer(said)], ["rain", "dog"], r"is about \['dog', 'rain'\]"),
    ):
        with pytest.raises(ValueError, match=message):
            instant_reliability(answers, reference=[[]], classes=classes)
