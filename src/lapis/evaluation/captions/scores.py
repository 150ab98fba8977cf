"""All scores of captions at once, and for each one that is not there the reason.

`CaptionScoring` is also for captions that another program wrote.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float64

from lapis.evaluation.captions.cider import cider_d
from lapis.evaluation.captions.java import spice, stanford_tokens, why_no_spice
from lapis.evaluation.captions.meaning import Fluency, penalised, similarity
from lapis.evaluation.captions.meteor import Meteor
from lapis.evaluation.captions.meteor_data import MeteorData
from lapis.evaluation.captions.overlap import Scored, bleu, check, rouge_l
from lapis.evaluation.captions.tokens import Tokens, tokenise_all
from lapis.text_encoders.sentence import Sentence

ENGLISH = "eng_Latn"
UNSPACED = ("Hans", "Hant", "Jpan", "Thai", "Laoo", "Khmr", "Mymr", "Tibt")
"""Scripts that put no spaces between words."""


@dataclass(frozen=True)
class CaptionScores:
    """Figures of a corpus and of each clip, by name; `absent` says of the others why they are not there."""

    corpus: Mapping[str, float]
    clips: Mapping[str, Float64[np.ndarray, "clips"]]
    absent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CaptionScoring:
    """BLEU, ROUGE-L and CIDEr-D always; METEOR, SPICE and SPIDEr where their programs' files are; model scores where
    models are named.

    Papers print all of them times a hundred.
    """

    words: Literal["lapis", "stanford"] = "lapis"
    """What splits captions: our rules, or the Java program whose behaviour they follow."""
    language: str = ENGLISH
    """Of the captions, as a FLORES-200 code. METEOR and SPICE are for English, and so are the rules of splitting, which
    cost other languages little where they put spaces between words."""
    meaning: Sentence.Config | None = None
    """What gives captions vectors. FENSE's is paraphrase-TinyBERT-L6-v2 of sentence-transformers, 312 wide."""
    fluency: Fluency.Config | None = None

    def __post_init__(self) -> None:
        if self.language.endswith(UNSPACED):
            raise ValueError(f"these scores compare words, and {self.language} puts no spaces between them")
        if self.fluency and not self.meaning:
            raise ValueError("fluency lowers the score by meaning: name a sentence embedder as `meaning`")

    def score(self, captions: Sequence[str], *, references: Sequence[Sequence[str]]) -> CaptionScores:
        """Score one caption a clip against the clip's references, of which there may be any number but none.

        Raises:
            ValueError: there is no caption, a clip has no reference, or what was asked for is not here.
        """
        split = tokenise_all if self.words == "lapis" else stanford_tokens
        candidates, texts = _split(captions, references, split)
        check(candidates, texts)
        found = {f"bleu_{size}": scored for size, scored in enumerate(bleu(candidates, references=texts), start=1)}
        found["rouge_l"] = rouge_l(candidates, references=texts)
        found["cider_d"] = cider_d(candidates, references=texts)
        absent = self._absent()
        if "meteor" not in absent and (data := MeteorData.installed()):
            found["meteor"] = Meteor(data)(candidates, references=texts)
        if "spice" not in absent:
            found["spice"] = spice(candidates, references=texts)
            found["spider"] = _mean(found["cider_d"], found["spice"])
        if self.meaning:
            found["similarity"] = similarity(captions, references=references, embedder=self.meaning)
        if self.fluency:
            found["fluent"] = self.fluency.build().fluent(captions)
            found["fense"] = penalised(found["similarity"], fluent=found["fluent"])
        return CaptionScores(
            {name: scored.corpus for name, scored in found.items()},
            {name: scored.clips for name, scored in found.items()},
            absent,
        )

    def _absent(self) -> dict[str, str]:
        absent: dict[str, str] = {}
        if self.language != ENGLISH:
            absent = dict.fromkeys(("meteor", "spice", "spider"), f"it is for {ENGLISH}")
        else:
            if MeteorData.installed() is None:
                absent["meteor"] = "it needs an extra: pip install 'lapis-audio[captions]'"
            if lacking := why_no_spice():
                absent |= dict.fromkeys(("spice", "spider"), f"it needs {lacking}")
        if not self.meaning:
            absent["similarity"] = "no sentence embedder was named"
        if not self.fluency:
            absent |= dict.fromkeys(("fluent", "fense"), "no detector of errors was named")
        return absent

    def sentence(self) -> str:
        """What the figures rest on, in words."""
        words = "the rules of Lapis" if self.words == "lapis" else "Stanford's tokeniser"
        parts = [f"words split by {words}", "document frequencies of CIDEr-D from these references"]
        if self.meaning:
            parts.append(f"similarity by {self.meaning.name}")
        if self.fluency:
            parts.append(f"errors by {self.fluency.checkpoint.name}")
        return "; ".join(parts)


def _split(
    captions: Sequence[str], references: Sequence[Sequence[str]], split: Callable[[Sequence[str]], list[Tokens]]
) -> tuple[list[Tokens], list[list[Tokens]]]:
    """Captions and references as words, all texts in one call: a program takes long to start."""
    every = iter(split([*captions, *(text for texts in references for text in texts)]))
    return [next(every) for _ in captions], [[next(every) for _ in texts] for texts in references]


def _mean(first: Scored, second: Scored) -> Scored:
    return Scored((first.corpus + second.corpus) / 2, (first.clips + second.clips) / 2)
