"""What is no caption: every rule on planted texts, on all captions of the pocket corpus, and as properties."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapis.data.captions import Captions
from lapis.data.cleaning import SCRIPTS, Cleaning, letters_of, repeats
from lapis.data.sample import Location, Sample
from lapis.datasets.pocket import Pocket
from lapis.text_encoders.sonar import LANGUAGES

NOWHERE = Location(Path("nowhere"))
WORDS = st.lists(st.text("abcdefgh", min_size=2, max_size=6), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("text", "language", "reason"),
    [
        ("A dog barks.", "eng_Latn", None),
        ("Woof, woof, woof!", "eng_Latn", None),
        ("Knock knock knock, and then someone opens the door and greets.", "eng_Latn", None),
        ("Ein Hund bellt, bellt, bellt und bellt.", "deu_Latn", None),
        ("一只狗在叫。", "zho_Hans", None),
        ("DJ在播放Techno音乐", "zho_Hans", None),
        ("人群熙熙攘攘，人声嘈杂。", "zho_Hans", None),
        ("ザーザーと雨が降っている。", "jpn_Jpan", None),
        ("雷雨", "jpn_Jpan", None),
        ("สุนัขกำลังเห่า", "tha_Thai", None),
        ("कुत्ता भौंक रहा है", "hin_Deva", None),
        ("piano", "xyz_Qaaa", None),
        ("the the the the", "eng_Latn", "caption that repeats itself"),
        ("impact de de de de de de de de cochon", "fra_Latn", "caption that repeats itself"),
        ("a dog barks, a dog barks, a dog barks, a dog barks, a dog", "eng_Latn", "caption that repeats itself"),
        ("trumpetingingingingingingingingingingingingingingingingingi", "eng_Latn", "caption that repeats itself"),
        ("狗在叫狗在叫狗在叫狗在叫", "zho_Hans", "caption that repeats itself"),
        ("The car is red and fast. " * 3 + "A car is red and fast. The car is red and fast", "eng_Latn",
         "caption that repeats itself"),
        ("Собака лает.", "deu_Latn", "caption in another script than Latn"),
        ("A dog barks.", "zho_Hans", "caption in another script than Hans"),
        ("A dog barks.", "rus_Cyrl", "caption in another script than Cyrl"),
        ("一只狗在公园里大声地叫着。", "jpn_Jpan", "caption in Japanese without kana"),
        ("犬が吠えている。", "kor_Hang", "caption in another script than Hang"),
        ("1234 ...", "eng_Latn", "caption without letters"),
        ("a", "eng_Latn", "caption of less than 2 letters"),
        ("A <b>dog</b> barks", "eng_Latn", "caption with markup"),
        ("rock &amp; roll", "eng_Latn", "caption with markup"),
        ("The sound of {label}", "eng_Latn", "caption with markup"),
        ("<|im_end|> a dog", "eng_Latn", "caption with markup"),
        ("a \ufffdt dog", "eng_Latn", "caption with markup"),
        ("Dogs < cats, R&B; 5 < 6", "eng_Latn", None),
        ("I'm sorry, but I cannot listen to audio.", "eng_Latn", "caption that is a language model's own talk"),
        ("As an AI language model, I have no ears.", "eng_Latn", "caption that is a language model's own talk"),
        ("Here are three captions: a dog barks", "eng_Latn", "caption that is a language model's own talk"),
        ("A person cannot open the door", "eng_Latn", None),
    ],
)  # fmt: skip
def test_each_rule(text, language, reason):
    assert Cleaning(refusals=True).problem(text, language=language) == reason
    if reason is not None:
        off = Cleaning(repeats=False, script=False, markup=False, refusals=False, least_letters=0)
        assert off.problem(text, language=language) is None


def test_letters_are_counted_by_what_they_say():
    assert letters_of("a dog") == 4 and letters_of("狗叫") == 6 and letters_of("e\u0301 1") == 1
    assert Cleaning(most_letters=5).problem("a green dog", language="eng_Latn") == "caption of more than 5 letters"
    assert Cleaning(most_letters=6).problem("狗叫", language="zho_Hans") is None


def test_every_language_of_the_text_tower_has_a_script():
    assert {language.partition("_")[2] for language in LANGUAGES} <= set(SCRIPTS)


@given(phrase=WORDS, times=st.integers(8, 30), before=WORDS)
def test_a_phrase_said_eight_times_is_found_whatever_stands_before(phrase, times, before):
    assert repeats(" ".join(before + phrase * times))
    assert repeats("".join("狗叫声雨风雷水火"[len(word)] for word in phrase) * times, spaced=False)


@given(words=st.lists(st.text("abcdefghijklmnop", min_size=2, max_size=4), max_size=40, unique=True))
def test_a_text_of_different_words_is_never_a_repeat(words):
    # Letters that come again in many words are no repeat; a word that is one letter eight times would be.
    assert not repeats(" ".join(words))


@given(text=st.text(max_size=80), language=st.sampled_from(LANGUAGES))
def test_any_text_gets_an_answer(text, language):
    found = Cleaning(refusals=True, most_letters=60).problem(text, language=language)
    assert found is None or found.startswith("caption ")


def test_the_pocket_corpus_loses_nothing_but_single_letters():
    lost, rule = Counter(), Captions(cleaning=Cleaning())
    for split in ("val", "test"):
        for sample in Pocket(split).build():
            rule.clean(sample, reject=lambda reason: lost.update([reason]))
    assert set(lost) <= {"caption of less than 2 letters", "empty caption"}


def test_reasons_are_counted_and_the_words_of_speech_pass():
    captions = {"eng_Latn": ("no no no no no", "a dog barks"), "deu_Latn": ("Собака лает",)}
    reasons = Counter()
    rule = Captions(cleaning=Cleaning())
    kept = rule.clean(Sample("a", NOWHERE, captions), reject=lambda reason: reasons.update([reason]))
    assert kept == {"eng_Latn": ("a dog barks",)}
    assert reasons == {"caption that repeats itself": 1, "caption in another script than Latn": 1}
    spoken = Sample("a", NOWHERE, captions, language="eng_Latn", transcript="no no no no no")
    said = Captions(transcripts=True, cleaning=Cleaning()).clean(spoken, reject=lambda reason: None)
    assert said == {"eng_Latn": ("no no no no no",)}
    assert Captions().clean(Sample("a", NOWHERE, captions), reject=lambda reason: None) == captions
