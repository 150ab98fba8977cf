"""Which words a clip is given: captions cleaned with counted reasons, and one chosen by language for each draw."""

import random
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from lapis.data.sample import Sample


@runtime_checkable
class Reject(Protocol):
    """Called with the reason of every caption that is left out."""

    def __call__(self, reason: str, /) -> None: ...  # noqa: D102


@dataclass(frozen=True)
class Captions:
    """The rule of choice.

    `languages` gives each language a weight, and the others none; None takes all a clip has, alike. A language that a
    clip lacks does not count for it. Within a language every caption is as likely.
    """

    languages: Mapping[str, float] | None = None
    max_characters: int = 1000

    def clean(self, sample: Sample, *, reject: Reject) -> dict[str, tuple[str, ...]]:
        """The captions that may be chosen: not empty, not overlong, in a language that has a weight."""
        kept: dict[str, tuple[str, ...]] = {}
        for language, texts in sample.captions.items():
            if self.languages is not None and self.languages.get(language, 0) <= 0:
                continue
            good = []
            for text in texts:
                # One form of accented letters, so that equal captions are equal.
                words = unicodedata.normalize("NFC", " ".join(text.split()))
                if not words:
                    reject("empty caption")
                elif len(words) > self.max_characters:
                    reject(f"caption longer than {self.max_characters} characters")
                else:
                    good.append(words)
            if good:
                kept[language] = tuple(good)
        return kept

    def choose(self, captions: Mapping[str, tuple[str, ...]], *, random_state: random.Random) -> str:
        """One of the cleaned captions."""
        languages = sorted(captions)
        weights = [1.0 if self.languages is None else self.languages[language] for language in languages]
        (language,) = random_state.choices(languages, weights)
        return random_state.choice(captions[language])
