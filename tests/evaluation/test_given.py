"""The languages that a recipe's data give to training."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from lapis.data.captions import Captions
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


def test_data_that_are_not_there_tell_nothing():
    with pytest.raises(ValueError, match="no tar matches"):
        languages_given(Mixture.Config((Part(Tars("nowhere/*.tar")),)))
