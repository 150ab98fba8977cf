"""CIDEr-D (arXiv 1411.5726, section 6): how far a caption says what its clip's references agree on.

N-grams weigh by how few clips of the same corpus have them in a reference, so a figure holds for a test set only.
"""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from lapis.evaluation.captions.overlap import Scored, check, ngrams
from lapis.evaluation.captions.tokens import Tokens

LONGEST = 4
"""In words, of the n-grams."""
SIGMA = 6.0
"""In words, of the penalty for a caption shorter or longer than its reference."""
SCALE = 10.0
"""A perfect caption scores this, where its references are all alike."""

Weights = dict[Tokens, float]


def cider_d(candidates: Sequence[Tokens], *, references: Sequence[Sequence[Tokens]]) -> Scored:
    """CIDEr-D of a corpus, the mean over clips, and of each clip; from 0 to 10. Papers print it times a hundred.

    A corpus of one clip scores zero: each of its n-grams stands in all clips, so none says anything.

    Raises:
        ValueError: there is no caption, another number of reference sets, or a clip without references.
    """
    check(candidates, references)
    clips_with: Counter[Tokens] = Counter()
    for texts in references:
        clips_with.update(
            {ngram for text in texts for size in range(1, LONGEST + 1) for ngram in ngrams(text, size=size)}
        )
    num_clips = len(candidates)

    def weighted(tokens: Tokens) -> list[Weights]:
        return [
            {
                ngram: count * (math.log(num_clips) - math.log(max(1, clips_with[ngram])))
                for ngram, count in ngrams(tokens, size=size).items()
            }
            for size in range(1, LONGEST + 1)
        ]

    clips = []
    for candidate, texts in zip(candidates, references):
        said = weighted(candidate)
        likeness = [
            math.exp(-((len(candidate) - len(text)) ** 2) / (2 * SIGMA**2))
            * sum(_cosine(ours, theirs) for ours, theirs in zip(said, weighted(text)))
            / LONGEST
            for text in texts
        ]
        clips.append(SCALE * sum(likeness) / len(likeness))
    return Scored(float(np.mean(clips)), np.array(clips, dtype=np.float64))


def _cosine(said: Weights, reference: Weights) -> float:
    """Of two weighted counts, where saying a word more often than the reference does earns nothing."""
    product = sum(
        min(weight, reference[ngram]) * reference[ngram] for ngram, weight in said.items() if ngram in reference
    )
    norms = math.sqrt(sum(w * w for w in said.values())) * math.sqrt(sum(w * w for w in reference.values()))
    return product / norms if norms else 0.0
