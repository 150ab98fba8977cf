"""Which words a clip is given: captions cleaned with counted reasons, and one chosen by language for each draw."""

import random
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from lapis.data.cleaning import Cleaning
from lapis.data.sample import Sample
from lapis.data.templates import Templates

SURROGATES = re.compile("[\ud800-\udfff]")
"""Halves of letters that stand alone, as JSON may have them: neither a file in UTF-8 nor a tokenizer takes them."""


def normalized(text: str) -> str:
    """One space between words, and one form of accented letters, so that equal captions are equal.

    A surrogate becomes U+FFFD, which stands for bytes that were no text.
    """
    spaced = " ".join(text.split())
    return spaced if spaced.isascii() else unicodedata.normalize("NFC", SURROGATES.sub("\ufffd", spaced))


@runtime_checkable
class Reject(Protocol):
    """Called with the reason of every caption that is left out."""

    def __call__(self, reason: str, /) -> None: ...  # noqa: D102


def ignore(reason: str) -> None:
    """For whoever asks a second time: what is left out has been counted."""


@dataclass(frozen=True)
class Captions:
    """The rule of choice.

    `languages` gives each language a weight, and the others none; None takes all a clip has, alike. A language that a
    clip lacks does not count for it. Within a language every caption is as likely.

    `transcripts`: speech is told by the words spoken alone, in whatever language they are, and takes no part in the
    choice between languages.

    `needed`: a clip without a usable caption is left out; where it is not, its caption is the empty text.

    `cleaning`: what else is no caption (`cleaning.py`); the words of speech under `transcripts` are what was said and
    pass. `templates` make sentences of the labels of clips that have no caption (`templates.py`).
    """

    languages: Mapping[str, float] | None = None
    max_characters: int = 1000
    transcripts: bool = False
    needed: bool = True
    cleaning: Cleaning | None = None
    templates: Templates | None = None

    def clean(self, sample: Sample, *, reject: Reject) -> dict[str, tuple[str, ...]]:
        """The captions that may be chosen: not empty, not overlong, in a language that has a weight."""
        kept: dict[str, tuple[str, ...]] = {}
        spoken = self.transcripts and sample.language is not None
        for language, texts in self._considered(sample):
            good = []
            for text in texts:
                words = normalized(text)
                if not words:
                    reject("empty caption")
                elif len(words) > self.max_characters:
                    reject(f"caption longer than {self.max_characters} characters")
                elif self.cleaning and not spoken and (problem := self.cleaning.problem(words, language=language)):
                    reject(problem)
                else:
                    good.append(words)
            if good:
                kept[language] = tuple(good)
        return kept

    def _considered(self, sample: Sample) -> Iterable[tuple[str, tuple[str, ...]]]:
        """The texts of each language that counts, as they come."""
        if self.transcripts and sample.language is not None:
            spoken = sample.captions.get(sample.language, ()) if sample.transcript is None else (sample.transcript,)
            return [(sample.language, spoken)]
        weights = self.languages
        captions = sample.captions if self.templates is None else self.templates.captions(sample)
        return [of for of in captions.items() if weights is None or weights.get(of[0], 0) > 0]

    def shares(self, captions: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
        """How likely each language is to be chosen among the cleaned captions of a clip."""
        # Speech that is told by its words has one language, which may have no weight, or that of zero.
        weights = {of: 1.0 if self.languages is None else self.languages.get(of, 1.0) for of in sorted(captions)}
        if not any(weights.values()):
            weights = dict.fromkeys(weights, 1.0)
        total = sum(weights.values())
        return {language: weight / total for language, weight in weights.items()}

    def choose(self, captions: Mapping[str, tuple[str, ...]], *, random_state: random.Random) -> str:
        """One of the cleaned captions; the empty text where there are none."""
        if not captions:
            return ""
        shares = self.shares(captions)
        (language,) = random_state.choices(list(shares), list(shares.values()))
        return random_state.choice(captions[language])
