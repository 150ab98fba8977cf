"""Text-audio retrieval in both directions, after the protocol of Clotho and AudioCaps (several captions a clip).

The protocol is a frozen value and the result says in one sentence what was measured, so that two figures are compared
only when their sentences agree.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int

from lapis.data.sample import Sample
from lapis.evaluation.embeddings import AudioEmbeddings, as_embeddings, embed_texts
from lapis.evaluation.figure import Figure
from lapis.evaluation.metrics import RetrievalScores, cosine_similarity, retrieval_scores
from lapis.evaluation.subject import Needs
from lapis.model import Embedder


@dataclass(frozen=True)
class CaptionsPerClip:
    """How many texts are relevant to a clip."""

    minimum: int
    mean: float
    maximum: int


@dataclass(frozen=True)
class RetrievalResult:
    """Both directions, and what exactly was measured. `unreadable` names the clips that are not counted."""

    text_to_audio: RetrievalScores
    audio_to_text: RetrievalScores
    captions_per_clip: CaptionsPerClip
    protocol: str
    unreadable: tuple[str, ...] = ()

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """By metric and direction."""
        return self._by_direction(lambda scores: scores.figures)

    @cached_property
    def items(self) -> dict[str, Float64[np.ndarray, "_queries"]]:
        """Of each query."""
        return self._by_direction(lambda scores: scores.items)

    @property
    def groups(self) -> dict[str, Int[np.ndarray, "_queries"]]:
        """The clip or the label that a query belongs to."""
        return {name: self._by_name(name).clusters for name in self.items}

    def _by_name(self, name: str) -> RetrievalScores:
        return self.text_to_audio if name.endswith("text to audio") else self.audio_to_text

    def _by_direction(self, of: Callable[[RetrievalScores], Mapping[str, Any]]) -> dict[str, Any]:
        directions = {"text to audio": self.text_to_audio, "audio to text": self.audio_to_text}
        return {
            f"{metric} {direction}": value
            for direction, scores in directions.items()
            for metric, value in of(scores).items()
        }

    def to_dict(self) -> dict[str, Any]:
        """The same as plain dictionaries, ready for JSON."""
        return {
            "text_to_audio": self.text_to_audio.to_dict(),
            "audio_to_text": self.audio_to_text.to_dict(),
            "captions_per_clip": asdict(self.captions_per_clip),
            "protocol": self.protocol,
            "unreadable": list(self.unreadable),
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
        }


@dataclass(frozen=True)
class Texts:
    """The texts of a run, each a query, and which of them are relevant to which clip."""

    texts: tuple[str, ...]
    relevant: Bool[np.ndarray, "texts clips"]
    owners: Int[np.ndarray, "texts"]
    """The first clip of the label, or the first clip that has the text."""


@dataclass(frozen=True)
class Retrieval:
    """Finds clips by text and texts by clip; every text is a query, and a clip counts by the best of its texts.

    `relevance` says which pairs belong together:

    - "clip": a caption and its own clip only, even where another clip has the same caption;
    - "caption": a caption and all clips that have exactly it;
    - "label": a text and all clips of a label, the label's texts being the distinct captions of its clips;
    - "transcript": the words spoken and all clips in which exactly these were spoken.
    """

    needs: ClassVar[Needs] = "vectors"
    relevance: Literal["clip", "caption", "label", "transcript"] = "clip"
    languages: tuple[str, ...] | None = None
    """Of the captions, as FLORES-200 codes; all of them unless told."""
    max_captions: int | None = None
    """Of a clip in one language: the first so many that are not empty; all of them unless told."""

    def __post_init__(self) -> None:
        if self.relevance == "transcript" and (self.languages or self.max_captions):
            raise ValueError(
                "a transcript is one text in one language: choose the samples, not languages or max_captions"
            )
        if self.max_captions is not None and self.max_captions < 1:
            raise ValueError(f"max_captions must be at least 1, got {self.max_captions}")

    def run(self, embedder: Embedder, *, clips: AudioEmbeddings | Sequence[Sample]) -> RetrievalResult:
        """Measure an embedder on clips, or on their embeddings where several protocols share them.

        Raises:
            ValueError: no clip can be read, or a clip lacks the texts or the label that the protocol needs.
        """
        embeddings = as_embeddings(embedder, clips=clips)
        texts = self.texts(embeddings.samples)
        similarity = cosine_similarity(embed_texts(embedder, texts=texts.texts), candidates=embeddings.vectors)
        counts = texts.relevant.sum(axis=0)
        return RetrievalResult(
            text_to_audio=retrieval_scores(
                similarity, relevant=texts.relevant, query_names=texts.texts, clusters=texts.owners
            ),
            audio_to_text=retrieval_scores(
                similarity.T, relevant=texts.relevant.T, query_names=[sample.key for sample in embeddings.samples]
            ),
            captions_per_clip=CaptionsPerClip(int(counts.min()), float(counts.mean()), int(counts.max())),
            protocol=self._sentence(num_texts=len(texts.texts), embeddings=embeddings),
            unreadable=tuple(str(failure) for failure in embeddings.failures),
        )

    def texts(self, samples: Sequence[Sample]) -> Texts:
        """What is asked for of clips.

        Raises:
            ValueError: a clip lacks the texts or the label that the protocol needs.
        """
        texts_of_clip = [self._texts_of(sample) for sample in samples]
        clips = np.arange(len(samples))
        if self.relevance == "clip":
            owner = np.repeat(clips, [len(texts) for texts in texts_of_clip])
            return Texts(tuple(text for texts in texts_of_clip for text in texts), owner[:, None] == clips, owner)
        if self.relevance == "label":
            texts_of_label: dict[str, set[str]] = {}
            for sample, texts in zip(samples, texts_of_clip):
                texts_of_label.setdefault(_label(sample), set()).update(texts)
            relevant_to_clip = [texts_of_label[_label(sample)] for sample in samples]
        else:
            relevant_to_clip = [set(texts) for texts in texts_of_clip]
        distinct = tuple(dict.fromkeys(text for texts in texts_of_clip for text in texts))
        row_of = {text: row for row, text in enumerate(distinct)}
        relevant = np.zeros((len(distinct), len(samples)), dtype=bool)
        for clip, texts in enumerate(relevant_to_clip):
            relevant[[row_of[text] for text in texts], clip] = True
        # The relevant clips of a label's texts are the same ones, so their first names the label.
        return Texts(distinct, relevant, relevant.argmax(axis=1))

    def _written(self, sample: Sample) -> list[Sequence[str]]:
        """The texts of a clip by language, empty ones among them."""
        if self.relevance == "transcript":
            return [(sample.transcript,)] if sample.transcript else []
        languages = sample.captions if self.languages is None else self.languages
        return [sample.captions.get(language, ()) for language in languages]

    def _texts_of(self, sample: Sample) -> tuple[str, ...]:
        """The texts the protocol asks of a clip: cut when the empty ones are left out."""
        by_language = [[text for text in texts if text.strip()] for texts in self._written(sample)]
        filled = tuple(text for texts in by_language for text in texts[: self.max_captions])
        if not filled:
            wanted = "transcript" if self.relevance == "transcript" else "caption"
            within = f" in {', '.join(self.languages)}" if self.languages else ""
            raise ValueError(f"clip {sample.key} has no {wanted}{within}")
        return filled

    def _sentence(self, *, num_texts: int, embeddings: AudioEmbeddings) -> str:
        kind = {
            "clip": "captions, each relevant to its own clip only",
            "caption": "distinct captions, each relevant to all clips that have exactly it",
            "label": "distinct captions, each relevant to all clips of its label",
            "transcript": "distinct transcripts, each relevant to all clips that speak exactly it",
        }[self.relevance]
        languages = f" in {', '.join(self.languages)}" if self.languages else ""
        most = f", at most {self.max_captions} a clip and language" if self.max_captions else ""
        lost = f"; {len(embeddings.failures)} unreadable clips are not counted" if embeddings.failures else ""
        written = [text for sample in embeddings.samples for texts in self._written(sample) for text in texts]
        empty = sum(not text.strip() for text in written)
        lost += f"; {empty} empty texts are left out" if empty else ""
        return (
            f"Retrieval between {len(embeddings.samples)} clips and {num_texts} {kind}{languages}{most}; "
            f"cosine similarity; a query is answered by the best-ranked of its relevant candidates; "
            f"ties count against the model{lost}."
        )


def _label(sample: Sample) -> str:
    if sample.label is None:
        raise ValueError(f"clip {sample.key} has no label, which relevance by label needs")
    return sample.label
