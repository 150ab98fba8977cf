"""Keyword spotting in many languages: which word of its language is spoken, by the word written alone.

Each language is a task of its own, among the words that its clips have; the figure of all is the mean over languages,
as GLAP's multilingual sets are averaged (arXiv 2506.11350, evaluation code).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float64

from lapis.data.sample import Sample
from lapis.evaluation.bootstrap import alike, interval, mean_over_groups
from lapis.evaluation.embeddings import AudioEmbeddings, as_embeddings
from lapis.evaluation.figure import Figure
from lapis.evaluation.subject import Needs
from lapis.evaluation.zeroshot import ZeroShotResult, class_vectors, classified
from lapis.model import Embedder


@dataclass(frozen=True)
class KeywordsResult:
    """What was recognised in each language. `left_out` says of languages that could not be asked why."""

    by_language: Mapping[str, ZeroShotResult]
    left_out: Mapping[str, str]
    protocol: str
    unreadable: tuple[str, ...] = ()
    trained: frozenset[str] | None = None
    """The languages that training was given, where that is known."""

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The mean over languages; over those given to training and those never given, where known; each language."""
        each = {f"accuracy {language}": of.accuracy_figure for language, of in self.by_language.items()}
        parts = {} if self.trained is None else self.by_training(self.trained)
        return {"accuracy": self.mean(self.by_language)} | parts | each

    @cached_property
    def items(self) -> dict[str, Float64[np.ndarray, "_clips"]]:
        """1 where a clip was recognised; in the mean scaled so that every language counts alike."""
        each = {f"accuracy {language}": of.items["accuracy"] for language, of in self.by_language.items()}
        return {"accuracy": alike(list(each.values()))} | each

    @property
    def prompts(self) -> dict[str, dict[str, tuple[str, ...]]]:
        """By language."""
        return {language: dict(result.prompts) for language, result in self.by_language.items()}

    def mean(self, languages: Collection[str]) -> Figure:
        """Over some of the languages."""
        of = [self.by_language[language] for language in languages]
        correct = [result.items["accuracy"] for result in of]
        groups = np.repeat(np.arange(len(of)), [len(part) for part in correct])
        return Figure(
            float(np.mean([result.accuracy for result in of])),
            float(np.mean([result.chance for result in of])),
            interval(mean_over_groups(np.concatenate(correct), groups=groups), clusters=np.arange(len(groups))),
        )

    def by_training(self, trained: Collection[str]) -> dict[str, Figure]:
        """The means over languages that training was given, and over those that it was never given."""
        parts = {
            "given to training": [language for language in self.by_language if language in trained],
            "never given to training": [language for language in self.by_language if language not in trained],
        }
        return {f"accuracy, {len(of)} languages {name}": self.mean(of) for name, of in parts.items() if of}

    def to_dict(self) -> dict[str, Any]:
        """The same as plain dictionaries and lists, ready for JSON; without confusions, which grow with the square."""
        return {
            "by_language": {
                language: {"num_clips": of.num_clips, "num_classes": len(of.classes)}
                for language, of in self.by_language.items()
            },
            "left_out": dict(self.left_out),
            "prompts": {
                language: {word: list(texts) for word, texts in of.items()} for language, of in self.prompts.items()
            },
            "protocol": self.protocol,
            "unreadable": list(self.unreadable),
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
        }


@dataclass(frozen=True)
class Keywords:
    """Spots words: the transcript of a clip, or where there is none its caption in the language that is spoken.

    A language with fewer than `min_words` words is left out, and the result says so.
    """

    needs: ClassVar[Needs] = "vectors"
    min_words: int = 2

    def __post_init__(self) -> None:
        if self.min_words < 2:
            raise ValueError(f"min_words must be at least 2, got {self.min_words}")

    def run(self, embedder: Embedder, *, clips: AudioEmbeddings | Sequence[Sample]) -> KeywordsResult:
        """Measure an embedder on clips of single words, or on their embeddings.

        Raises:
            ValueError: no clip can be read, a clip has no language or no word in it, or no language has enough words.
        """
        embeddings = as_embeddings(embedder, clips=clips)
        words = [word_of(sample) for sample in embeddings.samples]
        spoken = [str(sample.language) for sample in embeddings.samples]
        found: dict[str, ZeroShotResult] = {}
        left_out: dict[str, str] = {}
        for language in sorted(set(spoken)):
            rows = np.array([row for row, of in enumerate(spoken) if of == language])
            classes = sorted({words[row] for row in rows})
            if len(classes) < self.min_words:
                left_out[language] = f"{len(classes)} words among {len(rows)} clips"
                continue
            number_of = {word: number for number, word in enumerate(classes)}
            prompts = {word: (word,) for word in classes}
            found[language] = classified(
                embeddings.vectors[rows],
                class_vectors=class_vectors(embedder, prompts=prompts),
                true=np.array([number_of[words[row]] for row in rows]),
                prompts=prompts,
                protocol=f"Keyword spotting of {len(rows)} clips among {len(classes)} words in {language}.",
            )
        if not found:
            raise ValueError(f"no language has {self.min_words} words: {left_out}")
        return KeywordsResult(
            found,
            left_out,
            self._sentence(found, left_out, embeddings),
            tuple(str(failure) for failure in embeddings.failures),
        )

    def _sentence(
        self, found: Mapping[str, ZeroShotResult], left_out: Mapping[str, str], embeddings: AudioEmbeddings
    ) -> str:
        counts = [len(result.classes) for result in found.values()]
        clips = sum(result.num_clips for result in found.values())
        number = str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        out = f"; {len(left_out)} languages have fewer than {self.min_words} words" if left_out else ""
        lost = f"; {len(embeddings.failures)} unreadable clips are not counted" if embeddings.failures else ""
        return (
            f"Keyword spotting of {clips} clips in {len(found)} languages, among the {number} words of a language; the "
            f"prompt is the word alone; cosine similarity; the mean over languages; ties count against the "
            f"model{out}{lost}."
        )


def word_of(sample: Sample) -> str:
    """The word that is spoken: the transcript, or where there is none the first caption in the language spoken.

    Raises:
        ValueError: the clip has no language, or no word in it.
    """
    if not sample.language:
        raise ValueError(f"clip {sample.key} has no language")
    texts = (sample.transcript,) if sample.transcript else sample.captions.get(sample.language, ())
    words = [text for text in texts if text and text.strip()]
    if not words:
        raise ValueError(f"clip {sample.key} has no word in {sample.language}")
    return words[0]
