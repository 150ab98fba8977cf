"""The speech of a source, split by its language."""

from data.corpus import tones, write_tar
from lapis.data.sources import Tars
from lapis.data.spoken import Spoken
from lapis.datasets.pocket import Pocket


def test_languages_are_split_and_none_is_lost():
    source = Pocket("val")
    english = Spoken(source, ("eng_Latn",)).build()
    two = Spoken(source, ("eng_Latn", "fra_Latn")).build()
    others = Spoken(source, ("eng_Latn", "fra_Latn"), others=True).build()
    assert {sample.language for sample in english} == {"eng_Latn"}
    assert {sample.language for sample in two} == {"eng_Latn", "fra_Latn"}
    assert {sample.language for sample in others} == {"ita_Latn", "rus_Cyrl", "spa_Latn"}
    assert len(two) + len(others) == len(Pocket("val", "speech").build())


def test_what_is_said_is_the_caption_in_the_language_spoken(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    (sound, words), *_ = tones(1).values()
    both = words | {"language": "ara_Arab", "captions": {"eng_Latn": ["four"], "ara_Arab": ["أربعة"]}}
    write_tar(tmp_path / "a.tar", {"a": (sound, both), "b": (sound, both | {"captions": {"eng_Latn": ["four"]}})})
    plain = Spoken(Tars("a.tar"), (), others=True).build()
    assert [sample.transcript for sample in plain] == [None, None]
    (told,) = Spoken(Tars("a.tar"), (), others=True, transcribed=True).build()
    assert (told.key, told.transcript) == ("a", "أربعة")


def test_what_is_no_speech_is_in_neither_half():
    sounds = Tars("pocket/pocket-val-*.tar", domain="sound")
    assert not Spoken(sounds, ("eng_Latn",)).build() and not Spoken(sounds, ("eng_Latn",), others=True).build()
