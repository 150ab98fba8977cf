"""The choice of words: shares of languages, speech that keeps its own words, and what is left out."""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapis.data.captions import Captions, normalized
from lapis.data.cleaning import Cleaning
from lapis.data.sample import Location, Sample
from lapis.recipes.glap import TRANSLATIONS, glap

NOWHERE = Location(Path("nowhere"))
LANGUAGES = ("eng_Latn", "deu_Latn", "fra_Latn", "zho_Hans", "rus_Cyrl")
WEIGHTS = st.dictionaries(st.sampled_from(LANGUAGES), st.floats(0.01, 100.0), min_size=1)
CAPTIONS = st.dictionaries(
    st.sampled_from(LANGUAGES), st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=3).map(tuple)
)


def _clean(rule, sample):
    reasons = Counter()
    return rule.clean(sample, reject=lambda reason: reasons.update([reason])), reasons


@given(weights=WEIGHTS, captions=CAPTIONS)
def test_shares_are_the_weights_of_the_languages_that_are_there(weights, captions):
    rule = Captions(weights)
    kept, _ = _clean(rule, Sample("a", NOWHERE, captions))
    assert set(kept) == set(weights) & set(captions)
    if not kept:
        return
    shares = rule.shares(kept)
    assert sum(shares.values()) == pytest.approx(1)
    one = next(iter(kept))
    for language in kept:
        assert shares[language] / shares[one] == pytest.approx(weights[language] / weights[one])


@given(weights=WEIGHTS, captions=CAPTIONS, seed=st.integers(0, 2**32))
def test_languages_are_chosen_by_their_shares(weights, captions, seed):
    rule = Captions(weights)
    kept, _ = _clean(rule, Sample("a", NOWHERE, {of: tuple(of + text for text in s) for of, s in captions.items()}))
    if not kept:
        return
    state, draws = random.Random(seed), 400
    counts = Counter(rule.choose(kept, random_state=state)[:8] for _ in range(draws))
    for language, share in rule.shares(kept).items():
        deviation = (draws * share * (1 - share)) ** 0.5
        assert abs(counts[language] - draws * share) <= 6 * deviation + 6


@given(language=st.sampled_from((*LANGUAGES, "gla_Latn")), captions=CAPTIONS, weights=st.none() | WEIGHTS)
def test_speech_keeps_its_own_words_whatever_the_weights(language, captions, weights):
    rule = Captions(weights, transcripts=True)
    told, _ = _clean(rule, Sample("a", NOWHERE, captions, language=language, transcript="the very words"))
    assert told == {language: ("the very words",)}
    assert rule.shares(told) == {language: 1.0}
    assert rule.choose(told, random_state=random.Random(0)) == "the very words"
    # Where no field holds the transcript, the captions in the spoken language do; a translation is none.
    own, _ = _clean(rule, Sample("a", NOWHERE, captions, language=language))
    assert own == ({language: captions[language]} if language in captions else {})
    # Without the rule, and for sounds with it, all languages that have a weight are there.
    speech = _clean(Captions(weights), Sample("a", NOWHERE, captions, language=language, transcript="words"))
    assert speech == _clean(rule, Sample("a", NOWHERE, captions))


def test_speech_in_a_language_of_no_weight_is_told_by_its_words():
    rule = Captions({"eng_Latn": 1.0, "deu_Latn": 0.0}, transcripts=True)
    told, _ = _clean(rule, Sample("a", NOWHERE, {}, language="deu_Latn", transcript="die Worte"))
    assert rule.shares(told) == {"deu_Latn": 1.0}
    assert rule.choose(told, random_state=random.Random(0)) == "die Worte"


def test_a_lone_surrogate_is_no_text():
    assert normalized("A \ud83d dog \ude00") == "A \ufffd dog \ufffd" and normalized("\U0001f600") == "\U0001f600"
    kept, reasons = _clean(Captions(cleaning=Cleaning()), Sample("a", NOWHERE, {"eng_Latn": ("A \ud83d dog",)}))
    assert kept == {} and reasons == {"caption with markup": 1}


def test_translations_stand_beside_english_as_glap_has_them():
    """0.1 translations beside each English caption, over seven languages; a language that is not there adds none."""
    rule = glap().data.captions
    everything = dict.fromkeys(("eng_Latn", *TRANSLATIONS, "rus_Cyrl"), ("words",))
    kept, _ = _clean(rule, Sample("a", NOWHERE, everything))
    shares = rule.shares(kept)
    assert len(TRANSLATIONS) == 7 and set(shares) == {"eng_Latn", *TRANSLATIONS}
    assert all(shares[of] / shares["eng_Latn"] == pytest.approx(0.1 / 7) for of in TRANSLATIONS)
    assert shares["eng_Latn"] == pytest.approx(1 / 1.1)
    kept, _ = _clean(rule, Sample("a", NOWHERE, dict.fromkeys(("eng_Latn", "deu_Latn"), ("words",))))
    assert rule.shares(kept)["deu_Latn"] == pytest.approx(0.1 / 7 / (1 + 0.1 / 7))
    english = glap(captions="english").data.captions
    assert set(_clean(english, Sample("a", NOWHERE, everything))[0]) == {"eng_Latn"}


def test_long_words_are_left_out_one_by_one():
    rule = glap().data.captions
    kept, reasons = _clean(rule, Sample("a", NOWHERE, {"eng_Latn": ("x" * 180, "x" * 181)}))
    assert kept == {"eng_Latn": ("x" * 180,)} and reasons == {"caption longer than 180 characters": 1}
    speech = Sample("a", NOWHERE, {"eng_Latn": ("short",)}, language="eng_Latn", transcript="y" * 181)
    assert _clean(rule, speech)[0] == {}
