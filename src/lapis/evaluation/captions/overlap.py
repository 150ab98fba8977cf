"""BLEU (Papineni et al. 2002) and ROUGE-L (Lin 2004): shared n-grams, and the longest common subsequence.

The constants are those of the caption evaluation kit, so that the figures are the published ones.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from lapis.evaluation.captions.tokens import Tokens

BETA = 1.2
"""How much more recall counts than precision in ROUGE-L."""
TINY, SMALL = 1e-15, 1e-9
"""Added above and below the line of BLEU's precisions: a caption without any shared n-gram is not quite zero."""


@dataclass(frozen=True)
class Scored:
    """A score of a whole corpus, which need not be the mean over its clips, and of each clip."""

    corpus: float
    clips: Float64[np.ndarray, "clips"]


def ngrams(tokens: Tokens, *, size: int) -> Counter[Tokens]:
    """How often each run of `size` words stands in a caption."""
    return Counter(tokens[begin : begin + size] for begin in range(len(tokens) - size + 1))


def check(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> None:
    """Refuses captions that cannot be scored.

    Raises:
        ValueError: there is no caption, another number of reference sets, or a clip without references.
    """
    if not candidates or len(candidates) != len(references):
        raise ValueError(f"expected captions and as many sets of references, got {len(candidates)}, {len(references)}")
    if absent := [number for number, texts in enumerate(references) if not texts]:
        raise ValueError(f"clip {absent[0]} has no reference")


@dataclass(frozen=True)
class _Counts:
    """What BLEU adds up over clips: words, words of the reference nearest in length, n-grams and those shared."""

    words: int
    reference_words: int
    guessed: np.ndarray
    shared: np.ndarray

    def scores(self) -> list[float]:
        precision, scores = 1.0, []
        brevity = (self.words + TINY) / (self.reference_words + SMALL)
        penalty = math.exp(1 - 1 / brevity) if brevity < 1 else 1.0
        for size, (guessed, shared) in enumerate(zip(self.guessed, self.shared), start=1):
            precision *= (shared + TINY) / (guessed + SMALL)
            scores.append(float(precision ** (1 / size) * penalty))
        return scores


def bleu(candidates: Sequence[Tokens], *, references: Sequence[Sequence[Tokens]], longest: int = 4) -> list[Scored]:
    """BLEU-1 to BLEU-`longest`: over the corpus by adding up counts, not by the mean of clips.

    Raises:
        ValueError: there is no caption, another number of reference sets, or a clip without references.
    """
    check(candidates, references)
    counts = [_counts(candidate, texts, longest) for candidate, texts in zip(candidates, references)]
    corpus = _Counts(
        sum(clip.words for clip in counts),
        sum(clip.reference_words for clip in counts),
        np.sum([clip.guessed for clip in counts], axis=0),
        np.sum([clip.shared for clip in counts], axis=0),
    ).scores()
    clips = np.array([clip.scores() for clip in counts], dtype=np.float64)
    return [Scored(corpus[size], clips[:, size]) for size in range(longest)]


def _counts(candidate: Tokens, references: Sequence[Tokens], longest: int) -> _Counts:
    shared = []
    for size in range(1, longest + 1):
        most: Counter[Tokens] = Counter()
        for reference in references:
            most |= ngrams(reference, size=size)
        shared.append((ngrams(candidate, size=size) & most).total())
    nearest = min((abs(len(reference) - len(candidate)), len(reference)) for reference in references)[1]
    guessed = [max(0, len(candidate) - size + 1) for size in range(1, longest + 1)]
    return _Counts(len(candidate), nearest, np.array(guessed), np.array(shared))


def rouge_l(candidates: Sequence[Tokens], *, references: Sequence[Sequence[Tokens]]) -> Scored:
    """ROUGE-L: the best precision and the best recall among a clip's references, and the mean over clips.

    A caption of no words scores zero; the kit gives it one where a reference has none either.

    Raises:
        ValueError: there is no caption, another number of reference sets, or a clip without references.
    """
    check(candidates, references)
    clips = np.array([_rouge(candidate, texts) for candidate, texts in zip(candidates, references)], dtype=np.float64)
    return Scored(float(clips.mean()), clips)


def _rouge(candidate: Tokens, references: Sequence[Tokens]) -> float:
    common = [_longest_common(candidate, reference) for reference in references]
    precision = max(common) / max(len(candidate), 1)
    recall = max(length / max(len(reference), 1) for length, reference in zip(common, references))
    if not precision:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _longest_common(first: Tokens, second: Tokens) -> int:
    lengths = [0] * (len(second) + 1)
    for word in first:
        diagonal = 0
        for place, other in enumerate(second, start=1):
            above = lengths[place]
            lengths[place] = diagonal + 1 if word == other else max(above, lengths[place - 1])
            diagonal = above
    return lengths[-1]
