import random
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapis.data.captions import Captions
from lapis.data.mixture import Mixture, Part
from lapis.data.order import ROUND, shuffled, turns
from lapis.data.sample import Location, Sample
from lapis.data.sources import Tars
from lapis.values import from_values, to_values

NOWHERE = Location(Path("nowhere"))


@dataclass(frozen=True)
class Numbered:
    """A source of `count` samples."""

    name: str
    count: int
    captions: tuple[str, ...] = ("words",)

    def build(self):
        return [Sample(f"{self.name}{number}", NOWHERE, {"eng_Latn": self.captions}) for number in range(self.count)]


def _mixture(*parts, seed=0, captions=None):
    config = Mixture.Config(tuple(Part(source, weight) for source, weight in parts), captions or Captions())
    return config.build(seed=seed)


@given(size=st.integers(1, 300), seed=st.integers(0, 2**40))
def test_shuffled_is_a_permutation(size, seed):
    assert sorted(shuffled(place, size, seed=(seed, 1)) for place in range(size)) == list(range(size))


def test_shuffles_differ_by_seed_and_look_random():
    orders = [tuple(shuffled(place, 1000, seed=(seed,)) for place in range(1000)) for seed in range(20)]
    assert len(set(orders)) == 20
    firsts = [order[0] for order in orders]
    assert len(set(firsts)) > 15
    neighbours = sum(abs(a - b) == 1 for order in orders for a, b in pairwise(order))
    assert neighbours < 100  # a random order of 1000 has two on average


def test_a_draw_is_a_pure_function_of_its_number():
    parts = ((Numbered("a", 7), 3.0), (Numbered("b", 11), 1.0))
    first, second = _mixture(*parts), _mixture(*parts)
    forward = [first[number] for number in range(1200)]
    backward = [second[number] for number in reversed(range(1200))][::-1]
    assert forward == backward
    assert forward != [_mixture(*parts, seed=1)[number] for number in range(1200)]


def test_weights_are_kept_and_every_epoch_is_whole():
    mixture = _mixture((Numbered("a", 7), 3.0), (Numbered("b", 50), 1.0))
    keys = [mixture[number].sample.key for number in range(2 * ROUND)]
    assert Counter(key[0] for key in keys) == {"a": 1500, "b": 500}
    of_a = [key for key in keys if key[0] == "a"]
    for begin in range(0, 1400, 7):
        assert len(set(of_a[begin : begin + 7])) == 7
    assert len({tuple(of_a[begin : begin + 7]) for begin in range(0, 1400, 7)}) > 100


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=6))
def test_turns_never_lag_by_more_than_the_number_of_parts(weights):
    order = turns(weights)
    total, given_so_far = sum(weights), Counter()
    for place, part in enumerate(order, start=1):
        given_so_far[part] += 1
        for number, weight in enumerate(weights):
            assert abs(given_so_far[number] - weight / total * place) <= len(weights)


def test_bad_weights_are_refused():
    with pytest.raises(ValueError, match="positive weight"):
        _mixture((Numbered("a", 1), 0.0))
    with pytest.raises(ValueError, match="less than one draw in 1000"):
        _mixture((Numbered("a", 1), 1.0), (Numbered("b", 1), 1e-5))


def test_unusable_captions_are_counted_and_printed():
    long = "x" * 100_000
    mixture = _mixture((Numbered("a", 2, ("", "  ", "good\n words")), 1.0), (Numbered("b", 3, (long, "ok")), 1.0))
    assert mixture.rejected == {"empty caption": 4, "caption longer than 1000 characters": 3}
    assert mixture[0].sample.captions == {"eng_Latn": ("good words",)}
    assert "left out: 4 x empty caption" in str(mixture)
    with pytest.raises(ValueError, match="no sample with a usable caption"):
        _mixture((Numbered("a", 2, ("",)), 1.0))


def test_languages_are_weighed():
    captions = {"eng_Latn": ("one", "two"), "deu_Latn": ("drei",), "fra_Latn": ("quatre",)}
    rule = Captions({"eng_Latn": 3.0, "deu_Latn": 1.0})
    kept = rule.clean(Sample("a", NOWHERE, captions), reject=lambda reason: None)
    assert set(kept) == {"eng_Latn", "deu_Latn"}
    state = random.Random(0)
    counts = Counter(rule.choose(kept, random_state=state) for _ in range(4000))
    assert abs(counts["drei"] - 1000) < 120 and abs(counts["one"] - 1500) < 120


def test_the_caption_of_a_draw_is_a_pure_function_of_its_number():
    parts = ((Numbered("a", 3, tuple("abcdefgh")), 1.0),)
    first, second = _mixture(*parts), _mixture(*parts)
    chosen = [first.choose_caption(first[number]) for number in range(200)]
    assert chosen[::-1] == [second.choose_caption(second[number]) for number in reversed(range(200))]
    assert len(set(chosen)) == 8


def test_equal_captions_are_equal_in_whatever_form_their_accents_are():
    composed, apart = "caf\u00e9", "cafe\u0301"
    kept = Captions().clean(Sample("a", NOWHERE, {"fra_Latn": (composed, apart)}), reject=lambda reason: None)
    assert kept == {"fra_Latn": (composed, composed)}


class TestMixtureOfMixtures:
    INNER = Mixture.Config((Part(Numbered("b", 5), 3.0), Part(Numbered("c", 6), 1.0)), Captions(max_characters=5))

    def test_a_branch_has_its_share_and_shares_it_out(self):
        tree = Mixture.Config((Part(Numbered("a", 4), 1.0), Part(self.INNER, 4.0))).build(seed=0)
        assert tree.shares == (0.2, 0.6, 0.2)
        drawn = Counter(tree[number].sample.key[0] for number in range(ROUND))
        assert drawn == {"a": 200, "b": 600, "c": 200}
        assert [line.strip().split("  ")[0] for line in str(tree).splitlines()] == [
            "mixture of 3 sources",
            "20.0%",
            "mixture of 2, weight 4",
            "60.0%",
            "20.0%",
        ]

    def test_a_branch_keeps_its_own_rule_of_captions(self):
        long = Part(Numbered("a", 4, ("long words",)))
        inner = Mixture.Config((Part(Numbered("b", 4, ("long words", "short"))),), Captions(max_characters=5))
        tree = Mixture.Config((long, Part(inner))).build(seed=0)
        said = {(draw.sample.key[0], tree.choose_caption(draw)) for draw in map(tree.__getitem__, range(100))}
        assert said == {("a", "long words"), ("b", "short")}

    def test_draws_are_those_of_the_leaves_as_one_mixture(self):
        """Only the order of turns and the sources count, not how they are bracketed."""
        tree = Mixture.Config((Part(Numbered("a", 4), 1.0), Part(self.INNER, 4.0))).build(seed=0)
        flat = _mixture((Numbered("a", 4), 1.0), (Numbered("b", 5), 3.0), (Numbered("c", 6), 1.0))
        assert [tree[number].sample.key for number in range(500)] == [flat[number].sample.key for number in range(500)]

    def test_it_is_written_and_read(self):
        config = Mixture.Config((Part(Tars("a.tar")), Part(Mixture.Config((Part(Tars("b.tar")),)), 2.0)))
        assert from_values(to_values(config)) == config

    @pytest.mark.parametrize("choice", [{"balanced_draws": 3}, {"exclude": "list.json"}])
    def test_what_its_parts_choose_is_not_chosen_for_it(self, choice):
        with pytest.raises(ValueError, match="belong to the parts"):
            Mixture.Config((Part(self.INNER, **choice),)).build(seed=0)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_is_a_positive_number(weight):
    with pytest.raises(ValueError, match="needs a positive weight"):
        Part(Numbered("a", 1), weight)


def test_a_mixture_has_parts():
    with pytest.raises(ValueError, match="needs parts, at least one"):
        Mixture.Config(())
