"""Captions that a benchmark shares with training: equal but for case, punctuation, accents' form and spaces.

A caption that several clips of the benchmark have, or more than a few of training, is a class's and not one clip's, and
a few words may be equal by chance ("a dog barks"): none of them is counted.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from lapis.data.sample import Sample

MINIMUM_WORDS, MINIMUM_LETTERS = 5, 10
"""Of a caption that is hardly equal by chance; letters count in scripts without spaces."""
MOST_CLIPS = 3
"""Of training that one leaked caption may stand at, since collections overlap."""
_WITHOUT_SPACES = re.compile("[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")


@lru_cache(maxsize=1 << 16)
def plain_words(caption: str) -> str:
    """A caption as it is compared; empty where it is too short to tell anything."""
    folded = unicodedata.normalize("NFKC", caption).casefold()
    kept = "".join(c if unicodedata.category(c)[0] in "LNM" else " " for c in folded)
    words = kept.split()
    letters = len(_WITHOUT_SPACES.findall(kept))
    return " ".join(words) if len(words) >= MINIMUM_WORDS or letters >= MINIMUM_LETTERS else ""


def captions_of(sample: Sample) -> dict[str, str]:
    """The captions and the transcript of a clip, as they are compared, to what they are."""
    texts: Iterable[str] = (text for of_language in sample.captions.values() for text in of_language)
    texts = [*texts, *([sample.transcript] if sample.transcript else [])]
    return {plain: text for text in texts if (plain := plain_words(text))}


def captions_of_one(samples: Iterable[Sample]) -> dict[str, int]:
    """Of each caption that one clip has alone, the place of the clip."""
    owners: dict[str, int] = {}
    for number, sample in enumerate(samples):
        for plain in captions_of(sample):
            owners[plain] = number if plain not in owners else -1
    return {plain: number for plain, number in owners.items() if number >= 0}
