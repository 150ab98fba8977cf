"""Balanced sampling against drawing one clip after another by hand, and what a mixture makes of it."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.corpus import tones, write_tar
from lapis.data.balanced import Balanced
from lapis.data.mixture import Mixture, Part
from lapis.data.sample import Location, Sample
from lapis.data.sources import Tars


def _samples(*labels: str | None) -> list[Sample]:
    return [
        Sample(f"clip{number}", Location(Path("nowhere")), {"eng_Latn": ("words",)}, label=label)
        for number, label in enumerate(labels)
    ]


SKEWED = _samples(*["speech"] * 90, *["dog"] * 9, "gong")


def test_labels_are_the_parts_between_semicolons():
    assert _samples("dog; bark;dog;")[0].labels == ("dog", "bark")
    assert _samples(None)[0].labels == ()


@given(size=st.integers(1, 60), draws=st.integers(1, 60), seed=st.integers(0, 50))
def test_an_epoch_takes_no_sample_twice_and_a_draw_is_a_function_of_its_number(size, draws, seed):
    draws = min(draws, size)
    samples = _samples(*[f"class {number % 4}" for number in range(size)])
    balanced = Balanced(samples, draws=draws, seed=(seed, 0))
    forward = [balanced[number] for number in range(3 * draws)]
    again = Balanced(samples, draws=draws, seed=(seed, 0))
    assert [again[number] for number in reversed(range(3 * draws))][::-1] == forward
    for epoch in range(3):
        assert len(set(forward[epoch * draws : (epoch + 1) * draws])) == draws


def test_classes_are_drawn_as_often_as_each_other():
    """One draw an epoch: the chance of a class is a third, whatever number of clips it has."""
    balanced = Balanced(SKEWED, draws=1, seed=(0, 0))
    counts = Counter(SKEWED[balanced[number]].label for number in range(6000))
    assert all(abs(count / 6000 - 1 / 3) < 0.03 for count in counts.values()) and len(counts) == 3


def test_it_draws_as_one_draws_by_hand():
    """How often each of the first places of an epoch goes to each class, against weighted draws without replacement."""
    weights = np.array([1 / 90] * 90 + [1 / 9] * 9 + [1.0])
    random, by_hand = np.random.default_rng(0), np.zeros((4, 3))
    ours = np.zeros((4, 3))
    kinds = np.array([0] * 90 + [1] * 9 + [2])
    balanced = Balanced(SKEWED, draws=4, seed=(7, 0))
    for epoch in range(4000):
        chosen = random.choice(100, size=4, replace=False, p=weights / weights.sum())
        by_hand[range(4), kinds[chosen]] += 1
        ours[range(4), kinds[[balanced[4 * epoch + place] for place in range(4)]]] += 1
    np.testing.assert_allclose(ours / 4000, by_hand / 4000, atol=0.035)


def test_a_clip_of_two_classes_has_the_weight_of_both():
    samples = _samples("dog", "dog", "dog;gong")
    balanced = Balanced(samples, draws=1, seed=(0, 0))
    counts = np.bincount([balanced[number] for number in range(9000)], minlength=3) / 9000
    np.testing.assert_allclose(counts, np.array([1 / 3, 1 / 3, 4 / 3]) / 2, atol=0.02)


@dataclass(frozen=True)
class Listed:
    def build(self):
        return SKEWED


def test_a_mixture_takes_turns_with_a_balanced_part():
    parts = (Part(Listed(), balanced_draws=30), Part(Listed(), weight=3.0))
    mixture = Mixture.Config(parts).build(seed=3)
    draws = [mixture[number] for number in range(2000)]
    assert [mixture[number] for number in (1999, 5, 700)] == [draws[1999], draws[5], draws[700]]
    turns = [mixture._turns[number % 1000] for number in range(2000)]
    rare = [sum(d.sample.label == "gong" for d, turn in zip(draws, turns) if turn == part) for part in (0, 1)]
    assert turns.count(0) == 500 and rare[0] > 10 and rare[1] == 15  # 500 and 1500 draws; every clip 15 times


def test_what_cannot_be_balanced_is_named():
    with pytest.raises(ValueError, match=r"balanced_draws: .* 1 to 100, got 101"):
        Balanced(SKEWED, draws=101, seed=(0,))
    with pytest.raises(ValueError, match="balanced_draws: sample clip1 has no label"):
        Balanced(_samples("dog", None), draws=1, seed=(0,))


def test_what_cannot_be_used_is_never_drawn(tmp_path):
    """Nor does it end the run, where a source was not looked through."""
    write_tar(tmp_path / "a.tar", tones(4) | {"empty": (b"", {"captions": {"eng_Latn": [""]}, "label": "rare"})})
    part = Part(Tars(str(tmp_path / "a.tar")), balanced_draws=4)
    for scanned in (0, 10):
        mixture = Mixture.Config((part,), scanned=scanned).build(seed=0)
        assert {mixture[number].sample.key for number in range(40)} == {f"clip{number:03d}" for number in range(4)}
    with pytest.raises(ValueError, match="so 1 to 4, got 5"):
        Mixture.Config((replace(part, balanced_draws=5),), scanned=0).build(seed=0)
