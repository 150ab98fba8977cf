"""Zero-shot classification: a clip belongs to the class whose prompts lie nearest to it. The prompts are part of the
protocol, since other words move the accuracy by points, and are stored in the result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from lapis.data.sample import Sample
from lapis.evaluation.embeddings import AudioEmbeddings, as_embeddings, embed_texts
from lapis.evaluation.metrics import cosine_similarity
from lapis.model import Embedder


@dataclass(frozen=True)
class ZeroShotResult:
    """What was measured, beside what guessing gives: `chance` at random, `majority_share` by the commonest class."""

    accuracy: float
    balanced_accuracy: float
    """The mean over classes of the share of its clips that were recognised."""
    chance: float
    majority_share: float
    confusion: Int[np.ndarray, "classes classes"]
    """Number of clips by true class (rows) and predicted class (columns)."""
    classes: tuple[str, ...]
    prompts: Mapping[str, tuple[str, ...]]
    num_clips: int
    protocol: str
    unreadable: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The same as plain dictionaries and lists, ready for JSON."""
        return vars(self) | {
            "confusion": self.confusion.tolist(),
            "classes": list(self.classes),
            "prompts": {name: list(texts) for name, texts in self.prompts.items()},
            "unreadable": list(self.unreadable),
        }


@dataclass(frozen=True)
class ZeroShot:
    """Classifies clips by the texts of `prompts`, a mapping from the label to one or several sentences.

    A class with several prompts is the mean of their vectors, brought back to unit length.

    Raises:
        ValueError: there are fewer than two classes, or a class has no prompt.
    """

    prompts: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        if len(self.prompts) < 2:
            raise ValueError(f"zero-shot classification needs at least two classes, got {list(self.prompts)}")
        for name, texts in self.prompts.items():
            if not texts:
                raise ValueError(f"class {name!r} has no prompt")

    def run(self, embedder: Embedder, *, clips: AudioEmbeddings | Sequence[Sample]) -> ZeroShotResult:
        """Measure an embedder on labelled clips, or on their embeddings where several protocols share them.

        Raises:
            ValueError: no clip can be read, a clip's label has no prompts, or a class has no clips.
        """
        embeddings = as_embeddings(embedder, clips=clips)
        classes = tuple(self.prompts)
        true = self._classes_of(embeddings.samples)
        counts = np.bincount(true, minlength=len(classes))
        if not counts.all():
            raise ValueError(f"class {classes[int(np.argmin(counts))]!r} has no readable clip; leave its prompts out")
        similarity = cosine_similarity(embeddings.vectors, candidates=self._class_vectors(embedder))
        # The best wrong class wins unless the true one is strictly better: ties count against the model.
        rows = np.arange(len(true))
        wrong = similarity.copy()
        wrong[rows, true] = -np.inf
        predicted = np.where(similarity[rows, true] > wrong.max(axis=1), true, wrong.argmax(axis=1))
        confusion = np.zeros((len(classes), len(classes)), dtype=np.int64)
        np.add.at(confusion, (true, predicted), 1)
        return ZeroShotResult(
            accuracy=float((predicted == true).mean()),
            balanced_accuracy=float((confusion.diagonal() / counts).mean()),
            chance=1 / len(classes),
            majority_share=float(counts.max() / len(true)),
            confusion=confusion,
            classes=classes,
            prompts=self.prompts,
            num_clips=len(true),
            protocol=self._sentence(embeddings),
            unreadable=tuple(str(failure) for failure in embeddings.failures),
        )

    def _classes_of(self, samples: Sequence[Sample]) -> Int[np.ndarray, "clips"]:
        number_of = {name: number for number, name in enumerate(self.prompts)}
        for sample in samples:
            if sample.label not in number_of:
                raise ValueError(f"clip {sample.key} has label {sample.label!r}, which has no prompts")
        return np.array([number_of[str(sample.label)] for sample in samples])

    def _class_vectors(self, embedder: Embedder) -> np.ndarray:
        vectors = np.stack([embed_texts(embedder, texts=texts).mean(axis=0) for texts in self.prompts.values()])
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def _sentence(self, embeddings: AudioEmbeddings) -> str:
        counts = [len(texts) for texts in self.prompts.values()]
        number = str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        lost = f"; {len(embeddings.failures)} unreadable clips are not counted" if embeddings.failures else ""
        return (
            f"Zero-shot classification of {len(embeddings.samples)} clips into {len(counts)} classes by cosine "
            f"similarity; a class is the renormalised mean of its prompts ({number} a class); "
            f"ties count against the model{lost}."
        )
