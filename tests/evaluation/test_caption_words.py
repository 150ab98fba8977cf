"""Captions to words: what Stanford's program gives on captions, recorded and, where there is Java, asked again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapis.evaluation.captions.java import stanford_tokens, why_no_stanford
from lapis.evaluation.captions.tokens import PUNCTUATION, tokenise, tokenise_all

SPLIT = {
    "A man's dog doesn't bark, and can't \"sing\" (loudly).": (
        "a man 's dog does n't bark and ca n't sing -lrb- loudly -rrb-"
    ),
    "The colour of the grey harbour; organised travelling": "the colour of the grey harbour organised travelling",
    "High-pitched whistle - a dog -- barks — loudly… and/or e.g. the U.S. Mr. Smith etc.": (
        "high-pitched whistle a dog barks loudly and/or e.g. the u.s. mr. smith etc."
    ),
    "It costs $5.50, 1,000 people at 10:30 a.m. 50% off &": "it costs $ 5.50 1,000 people at 10:30 a.m. 50 % off &",
    "Café naïve 犬が吠える。 собака лает 🐶 barks": "café naïve 犬が吠える 。 собака лает barks",
    "cannot gonna it's they're we've I'd you'll dogs' o'clock 'tis": (
        "can not gon na it 's they 're we 've i 'd you 'll dogs o'clock 't is"
    ),
    "'quoted' “curly” ‘single’ it’s don’t [a] {b} a*b #1": (
        "quoted curly single it 's do n't -lsb- a -rsb- -lcb- b -rcb- a * b # 1"
    ),
    "1990s 3rd 2nd-floor -5 +5 5km 10 kHz 1/2 ½": "1990s 3rd 2nd-floor -5 +5 5km 10 khz 1/2 1/2",
    "wait... what?! no!!! yes?? well, so,no": "wait what ?! no !!! yes ?? well so no",
    "tab\there \n line   two p.m. vs. approx. St.": "tab here line two p.m. vs. approx st.",
    "car engine w/ beep; ~5s ^ | \\ =": "car engine w / beep ~ 5s ^ | \\ =",
    'State-of-the-art woof-woof! "Hello," she said.': "state-of-the-art woof-woof hello she said",
    "Plan B. on Jan. 5, type a. then No. 7, no. No, say no.": "plan b. on jan. 5 type a. then no. 7 no no say no",
    "...": "",
    "": "",
}


@pytest.mark.parametrize(("caption", "words"), SPLIT.items())
def test_captions_are_split_as_the_kit_splits_them(caption, words):
    assert tokenise(caption) == tuple(words.split())


@pytest.mark.skipif(why_no_stanford() is not None, reason=f"needs {why_no_stanford()}")
def test_the_program_gives_the_same():
    assert stanford_tokens(list(SPLIT)) == tokenise_all(list(SPLIT))
    assert stanford_tokens(["one\u2028line", "", "two"]) == [("one", "line"), (), ("two",)]


@given(st.text(max_size=60))
def test_nothing_is_left_between_words_and_no_punctuation(text):
    words = tokenise(text)
    assert not PUNCTUATION & set(words) and all(word and not word.isspace() for word in words)


@given(st.lists(st.sampled_from(["rain", "dog's", "don't", "high-pitched", "5.50", "wind"]), max_size=8))
def test_splitting_goes_word_by_word(words):
    assert tokenise(" ".join(words)) == tuple(part for word in words for part in tokenise(word))
