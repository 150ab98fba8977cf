"""Rules about a translation beside its text, chrF against sacrebleu's figures, and how batches are cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapis.data.translate.checks import Checks, chrf, is_copied
from lapis.data.translate.job import in_batches
from lapis.data.translate.names import NAMES
from lapis.text_encoders.sonar import LANGUAGES


@pytest.mark.parametrize(
    ("text", "reference", "score"),
    [  # sacrebleu 2.6.0, CHRF().sentence_score: nc:6|nw:0|space:no|eff:yes
        ("A dog barks loudly.", "A dog is barking.", 27.337669079838346),
        ("rain on a roof", "Rain falls on a tin roof", 22.18296428579903),
        ("狗在叫", "一只狗在叫。", 43.72623574144487),
        ("Ein Hund bellt", "A dog barks", 3.4722222222222223),
        ("x", "y", 0.0),
        ("dog", "dog", 100.0),
        ("", "a", 0.0),
    ],
)
def test_chrf_is_sacrebleus(text, reference, score):
    assert chrf(text, reference=reference) == pytest.approx(score, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "translation", "to", "problem"),
    [
        ("A dog barks.", "Ein Hund bellt.", "deu_Latn", None),
        ("hail", "Hagelschlag auf dem Dach", "deu_Latn", None),
        ("piano", "Piano", "deu_Latn", None),
        ("A long story of rain that falls all night", "雨", "zho_Hans", "translation much shorter than the text"),
        ("rain", "雨下了整整一夜，街上到处都是水，人们都在跑", "zho_Hans", "translation much longer than the text"),
        ("A dog barks.", "a dog barks", "deu_Latn", "translation that is the text itself"),
        ("A dog barks.", "English: A dog barks. German: Ein Hund", "deu_Latn", "translation that is the text itself"),
        ("A dog barks.", "", "deu_Latn", "no translation"),
        ("A dog barks.", "Собака лает.", "deu_Latn", "caption in another script than Latn"),
        ("A dog barks.", "Hund Hund Hund Hund Hund", "deu_Latn", "caption that repeats itself"),
    ],
)
def test_each_check(text, translation, to, problem):
    assert Checks().problem(text, translation, to=to) == problem


def test_the_way_back_is_compared_where_it_is_asked_for():
    assert Checks().back_problem("a dog barks", None) is None
    assert Checks(least_back=50.0).back_problem("a dog barks", "a dog barked") is None
    assert Checks(least_back=50.0).back_problem("a dog barks", "rain falls") == "translation whose way back differs"
    assert Checks(least_back=50.0).back_problem("a dog barks", None) == "translation whose way back differs"


@pytest.mark.parametrize("least", [float("nan"), -1.0, 101.0])
def test_a_way_back_that_could_not_be_reached_is_refused(least):
    with pytest.raises(ValueError, match="back: expected a chrF from 0 to 100"):
        Checks(least_back=least)


@given(text=st.text(max_size=30), other=st.text(max_size=30))
def test_chrf_is_whole_for_the_text_itself_alone(text, other):
    assert 0 <= chrf(text, reference=other) <= 100.0001
    if "".join(text.split()):
        assert chrf(text, reference=text) == pytest.approx(100)
    assert not is_copied(text, "") or not text


@given(lengths=st.lists(st.integers(1, 50), max_size=60), tokens=st.integers(1, 200))
def test_batches_hold_every_text_once_within_the_budget(lengths, tokens):
    batches = list(in_batches(lengths, tokens=tokens))
    assert sorted(number for batch in batches for number in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[number] for number in batch) <= tokens
    order = [lengths[number] for batch in batches for number in batch]
    assert order == sorted(order)


def test_languages_that_have_a_name_are_those_of_the_text_tower():
    assert set(NAMES) <= set(LANGUAGES) and NAMES["deu_Latn"] == "German" and NAMES["zho_Hans"] == "Simplified Chinese"
