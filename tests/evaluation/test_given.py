"""The languages that a recipe's data give to training."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from lapis.data.captions import Captions
from lapis.data.leaks.exclusion import Exclusion, write_exclusion
from lapis.data.mixture import Mixture, Part
from lapis.data.sample import Location, Sample
from lapis.data.sources import Tars
from lapis.evaluation.given import languages_given


@dataclass(frozen=True)
class Listed:
    language: str | None = None

    def build(self):
        captions = {"eng_Latn": ("rain",), "deu_Latn": ("Regen",), "fra_Latn": (" ",), "pol_Latn": ("deszcz",)}
        return [Sample("a", Location(Path("a.wav")), captions=captions, language=self.language)]


def test_languages_of_texts_that_may_be_drawn():
    assert languages_given(Mixture.Config((Part(Listed()),))) == {"eng_Latn", "deu_Latn", "pol_Latn"}
    weighted = Captions(languages={"eng_Latn": 1.0, "deu_Latn": 0.0})
    assert languages_given(Mixture.Config((Part(Listed()),), weighted)) == {"eng_Latn"}
    spoken = Captions(languages={"eng_Latn": 1.0}, transcripts=True)
    assert languages_given(Mixture.Config((Part(Listed("pol_Latn")),), spoken)) == {"pol_Latn"}


def test_of_mixtures_within_a_mixture_each_has_its_own_captions():
    inner = Mixture.Config((Part(Listed()),), Captions(languages={"deu_Latn": 1.0}))
    assert languages_given(Mixture.Config((Part(inner),))) == {"deu_Latn"}
    spoken = Mixture.Config((Part(Listed("pol_Latn")), Part(inner)), Captions(languages={}, transcripts=True))
    outer = Mixture.Config((Part(spoken), Part(Listed())), Captions(languages={"eng_Latn": 1.0}))
    assert languages_given(outer) == {"pol_Latn", "deu_Latn", "eng_Latn"}
    drawn = outer.build(seed=0)  # and no other language is drawn
    assert {language for n in range(50) for language in drawn[n].sample.captions} == languages_given(outer)


def test_what_is_on_a_black_list_is_not_given(tmp_path):
    write_exclusion(tmp_path / "list.json", Exclusion(clips=frozenset({("", "a")})))
    listed = Part(Listed(), exclude=str(tmp_path / "list.json"))
    assert languages_given(Mixture.Config((listed,))) == frozenset()
    other = Mixture.Config((Part(Listed()),), Captions(languages={"deu_Latn": 1.0}))
    assert languages_given(Mixture.Config((listed, Part(other)))) == {"deu_Latn"}


def test_tars_too_many_to_be_looked_through_tell_nothing(root):
    tars = Part(Tars(str(root / "data/pocket/pocket-val-*.tar")))
    assert "jpn_Jpan" in languages_given(Mixture.Config((tars,)))
    with pytest.raises(ValueError, match=r"pocket-val-.* has [\d,]+ samples, which would all have to be read"):
        languages_given(Mixture.Config((tars,), scanned=10))


def test_data_that_are_not_there_tell_nothing():
    with pytest.raises(ValueError, match="no tar matches"):
        languages_given(Mixture.Config((Part(Tars("nowhere/*.tar")),)))
