"""Sentences of labels: joined as each language joins, named in each, and drawn by the rule of captions alone."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from lapis.data.captioned import Captioned
from lapis.data.captions import Captions
from lapis.data.cleaning import Cleaning
from lapis.data.sample import Location, Sample
from lapis.data.sources import Table
from lapis.data.templates import EIGHT_LANGUAGES, SOUND_OF, Templates
from lapis.values import from_values, to_values

NAMES = {"dog": {"deu_Latn": "Hund", "zho_Hans": "狗"}, "rain": {"deu_Latn": "Regen"}}
TWO = Templates({"eng_Latn": ("The sound of {label}.", "{label}."), "deu_Latn": ("Geräusch: {label}.",)}, NAMES)


def _sample(label: str | None, captions: dict | None = None) -> Sample:
    return Sample("a", Location(Path("nowhere")), captions or {}, label=label)


def _no(reason):
    raise AssertionError(reason)


def test_labels_become_sentences_in_languages_that_name_them():
    assert TWO.captions(_sample("dog;rain;tin_roof")) == {
        "eng_Latn": ("The sound of dog, rain and tin roof.", "Dog, rain and tin roof.")
    }
    assert TWO.captions(_sample("dog; rain"))["deu_Latn"] == ("Geräusch: Hund und Regen.",)
    assert SOUND_OF.captions(_sample("dog;rain")) == {"eng_Latn": ("The sound of dog and rain.",)}


def test_clips_with_captions_keep_them_unless_asked_otherwise():
    told = _sample("dog", {"eng_Latn": ("A dog barks.",)})
    assert TWO.captions(told) == told.captions
    assert TWO.captions(_sample(None)) == {}
    assert TWO.captions(_sample("dog", {"eng_Latn": ("",)}))["deu_Latn"] == ("Geräusch: Hund.",)
    both = replace(TWO, always=True).captions(told)
    assert both["eng_Latn"] == ("A dog barks.", "The sound of dog.", "Dog.")


def test_the_names_of_the_pocket_corpus_fit_its_eight_languages(root):
    rule = Captions(templates=replace(EIGHT_LANGUAGES, names="pocket/classes.json"))
    made = rule.clean(_sample("birdsong"), reject=_no)
    assert len(made) == 8 and made["zho_Hans"][0] == "鸟鸣声的声音。" and made["deu_Latn"][1] == "Vogelgesang."
    for label in json.loads((root / "data" / "pocket" / "classes.json").read_text(encoding="utf-8")):
        assert all(len(texts) == 3 for texts in rule.clean(_sample(label), reject=_no).values())


def test_a_sentence_is_drawn_by_language_and_as_likely_as_the_others():
    rule = Captions({"eng_Latn": 3.0, "deu_Latn": 1.0}, templates=TWO)
    captions = rule.clean(_sample("dog"), reject=_no)
    drawn = [rule.choose(captions, random_state=random.Random(f"{number}")) for number in range(800)]
    assert drawn == [rule.choose(captions, random_state=random.Random(f"{number}")) for number in range(800)]
    counts = Counter(drawn)
    assert counts["The sound of dog."] == pytest.approx(300, abs=60) == counts["Dog."]
    assert counts["Geräusch: Hund."] == pytest.approx(200, abs=50)


def test_speech_that_is_told_by_its_words_gets_no_sentences():
    spoken = replace(_sample("dog"), language="eng_Latn", transcript="good morning")
    assert Captions(transcripts=True, templates=TWO).clean(spoken, reject=_no) == {"eng_Latn": ("good morning",)}


def test_a_rule_with_all_its_parts_can_be_written_down_and_read():
    rule = Captions({"eng_Latn": 1.0}, cleaning=Cleaning(refusals=True), templates=TWO)
    source = Captioned(Table("clips.jsonl"), ("translated",))
    for value in (rule, source):
        assert from_values(json.loads(json.dumps(to_values(value)))) == value


def test_mistakes_are_told(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"expected \{label\} in 'A dog'"):
        Templates({"eng_Latn": ("A dog",)})
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    rule = replace(TWO, names="names.json")
    with pytest.raises(ValueError, match="there is no such file"):
        rule.captions(_sample("dog"))
    (tmp_path / "names.json").write_text('["dog"]')
    with pytest.raises(ValueError, match=r"expected \{label: \{language: name\}\}"):
        rule.captions(_sample("dog"))
