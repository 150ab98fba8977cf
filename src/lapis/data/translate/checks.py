"""What is wrong with a translation, by rules that need its text and that of the caption alone, or its way back."""

from collections import Counter
from dataclasses import dataclass

from lapis.data.cleaning import Cleaning, letters_of

LONGEST_NGRAM = 6
RECALL_WEIGHT = 2.0
FREE_LETTERS = 20
"""By so many letters a text may be longer than its length would allow: "hail" is "Hagelschlag"."""
COPIED_WORDS = 3
"""Of fewer words a translation may be the text itself: "piano" is "Piano"."""


@dataclass(frozen=True)
class Checks:
    """When a translation is no caption.

    Args:
        cleaning: the rules for any caption; the script is that of the language asked for.
        most_ratio: a translation may be so many times longer than the text, or shorter, and a few letters more.
            A letter of a dense script (Han, kana, Hangul) counts as three.
        least_back: the least chrF, of 100, between the text and the translation translated back; None for not asking.
    """

    cleaning: Cleaning = Cleaning()
    most_ratio: float = 3.0
    least_back: float | None = None

    def __post_init__(self) -> None:
        if self.least_back is not None and not 0 <= self.least_back <= 100:
            raise ValueError(f"back: expected a chrF from 0 to 100, got {self.least_back}")

    def problem(self, text: str, translation: str, *, to: str) -> str | None:
        """Why a translation into the language `to` is left out; None where nothing is wrong."""
        if not translation:
            return "no translation"
        if (found := self.cleaning.problem(translation, language=to)) is not None:
            return found
        if is_copied(text, translation):
            return "translation that is the text itself"
        long, short = letters_of(translation), letters_of(text)
        if long > self.most_ratio * short + FREE_LETTERS:
            return "translation much longer than the text"
        if short > self.most_ratio * long + FREE_LETTERS:
            return "translation much shorter than the text"
        return None

    def back_problem(self, text: str, back: str | None) -> str | None:
        """Why the way back (None: there is none) shows the translation to be wrong."""
        if self.least_back is None or chrf(back or "", reference=text) >= self.least_back:
            return None
        return "translation whose way back differs"


def is_copied(text: str, translation: str) -> bool:
    """Whether a translation holds the text as it was."""
    words, others = (_words(of) for of in (text, translation))
    return len(words) >= COPIED_WORDS and f" {' '.join(words)} " in f" {' '.join(others)} "


def _words(text: str) -> list[str]:
    return "".join(letter if letter.isalnum() else " " for letter in text.casefold()).split()


def chrf(text: str, *, reference: str) -> float:
    """The character n-gram F-score, 0 to 100: n up to 6, spaces left out, recall counted twice (Popović 2015).

    Orders in which a text has no n-gram are left out, as sacrebleu does for single sentences.
    """
    text, reference = "".join(text.split()), "".join(reference.split())
    precisions, recalls = [], []
    for size in range(1, LONGEST_NGRAM + 1):
        ours, theirs = _ngrams(text, size), _ngrams(reference, size)
        if ours and theirs:
            common = (ours & theirs).total()
            precisions.append(common / ours.total())
            recalls.append(common / theirs.total())
    if not precisions or not sum(precisions):
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    weight = RECALL_WEIGHT**2
    return 100 * (1 + weight) * precision * recall / (weight * precision + recall)


def _ngrams(text: str, size: int) -> Counter[str]:
    return Counter(text[start : start + size] for start in range(len(text) - size + 1))
