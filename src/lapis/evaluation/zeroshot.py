"""Zero-shot classification: a clip belongs to the class whose prompts lie nearest to it; where it may belong to
several, each class ranks the clips. The prompts are part of the protocol, since other words move the accuracy by
points, and are stored in the result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float64, Int

from lapis.data.classes import Kind, class_targets
from lapis.data.sample import Sample
from lapis.evaluation.bootstrap import interval, mean_of, mean_over_groups
from lapis.evaluation.embeddings import AudioEmbeddings, as_embeddings, embed_texts
from lapis.evaluation.figure import Figure
from lapis.evaluation.metrics import cosine_similarity
from lapis.evaluation.ranking import RankingScores, ranking_scores
from lapis.evaluation.subject import Needs
from lapis.model import Embedder
from lapis.search.classify import ensembled
from lapis.shapes import Vectors
from lapis.values import check_choice

CLIPS_AT_ONCE = 1024
"""That are compared with all classes; a language may have tens of thousands of words."""
MOST_CONFUSED = 500
"""Of so many classes at most a confusion is told: it grows with their square."""


@dataclass(frozen=True)
class ZeroShotResult:
    """What was measured, beside what guessing gives: `chance` at random, `majority_share` by the commonest class."""

    accuracy: float
    balanced_accuracy: float
    """The mean over classes that some clip has of the share of its clips that were recognised."""
    chance: float
    majority_share: float
    classes: tuple[str, ...]
    prompts: Mapping[str, tuple[str, ...]]
    num_clips: int
    protocol: str
    true: Int[np.ndarray, "clips"] = field(compare=False, repr=False)
    """The number of each clip's class."""
    predicted: Int[np.ndarray, "clips"] = field(compare=False, repr=False)
    unreadable: tuple[str, ...] = ()

    @property
    def confusion(self) -> Int[np.ndarray, "classes classes"] | None:
        """Number of clips by true class (rows) and predicted class (columns); None above `MOST_CONFUSED` classes."""
        if (number := len(self.classes)) > MOST_CONFUSED:
            return None
        return np.bincount(self.true * number + self.predicted, minlength=number**2).reshape(number, number)

    @cached_property
    def items(self) -> dict[str, Float64[np.ndarray, "clips"]]:
        """1 where a clip was recognised."""
        return {"accuracy": (self.true == self.predicted).astype(np.float64)}

    @cached_property
    def accuracy_figure(self) -> Figure:
        """The accuracy with its 95 % interval over clips."""
        within = interval(mean_of(self.items["accuracy"]), clusters=np.arange(self.num_clips))
        return Figure(self.accuracy, self.chance, within)

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """With 95 % intervals over clips."""
        balanced = mean_over_groups(self.items["accuracy"], groups=self.true)
        within = interval(balanced, clusters=np.arange(self.num_clips))
        return {
            "accuracy": self.accuracy_figure,
            "balanced accuracy": Figure(self.balanced_accuracy, self.chance, within),
        }

    def to_dict(self) -> dict[str, Any]:
        """The same as plain dictionaries and lists, ready for JSON."""
        return {
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced_accuracy,
            "chance": self.chance,
            "majority_share": self.majority_share,
            "confusion": None if (confusion := self.confusion) is None else confusion.tolist(),
            "classes": list(self.classes),
            "prompts": {name: list(texts) for name, texts in self.prompts.items()},
            "num_clips": self.num_clips,
            "protocol": self.protocol,
            "unreadable": list(self.unreadable),
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
        }


@dataclass(frozen=True)
class MultiLabelResult:
    """How well each class ranks the clips, where a clip may belong to several."""

    scores: RankingScores
    classes: tuple[str, ...]
    prompts: Mapping[str, tuple[str, ...]]
    num_clips: int
    protocol: str
    unreadable: tuple[str, ...] = ()

    @property
    def figures(self) -> dict[str, Figure]:
        """mAP and AUROC, means over classes."""
        return self.scores.figures

    @property
    def items(self) -> dict[str, Float64[np.ndarray, "_clips"]]:
        """None: neither figure is a mean over clips."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """The same as plain dictionaries and lists, ready for JSON."""
        return {
            "classes": list(self.classes),
            "average_precisions": self.scores.by_class(self.classes),
            "prompts": {name: list(texts) for name, texts in self.prompts.items()},
            "num_clips": self.num_clips,
            "protocol": self.protocol,
            "unreadable": list(self.unreadable),
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
        }


@dataclass(frozen=True)
class ZeroShot:
    """Classifies clips by the texts of `prompts`, a mapping from the label to one or several sentences.

    A class with several prompts is the mean of their vectors, brought back to unit length. Where `kind` is
    "multi-label" the labels of a clip stand with semicolons between them. A class that no clip has may be answered all
    the same; means over classes are over the others.

    Raises:
        ValueError: there are fewer than two classes, or a class has no prompt.
    """

    needs: ClassVar[Needs] = "vectors"
    prompts: Mapping[str, tuple[str, ...]]
    kind: Kind = "single-label"
    languages: tuple[str, ...] = ()
    """Of the prompts, as FLORES-200 codes; for the record."""

    def __post_init__(self) -> None:
        check_choice(self.kind, Kind, name="kind")
        if len(self.prompts) < 2:
            raise ValueError(f"zero-shot classification needs at least two classes, got {list(self.prompts)}")
        for name, texts in self.prompts.items():
            if not texts:
                raise ValueError(f"class {name!r} has no prompt")

    def run(
        self, embedder: Embedder, *, clips: AudioEmbeddings | Sequence[Sample]
    ) -> ZeroShotResult | MultiLabelResult:
        """Measure an embedder on labelled clips, or on their embeddings where several protocols share them.

        Raises:
            ValueError: no clip can be read, or a clip's label has no prompts.
        """
        embeddings = as_embeddings(embedder, clips=clips)
        vectors = class_vectors(embedder, prompts=self.prompts)
        unreadable = tuple(str(failure) for failure in embeddings.failures)
        if self.kind == "multi-label":
            classes = tuple(self.prompts)
            relevant = class_targets(embeddings.samples, classes=classes, kind=self.kind) > 0
            scores = self._ranked(vectors, embeddings, relevant)
            return MultiLabelResult(
                scores, classes, self.prompts, len(relevant), self._sentence(embeddings), unreadable
            )
        return classified(
            embeddings.vectors,
            class_vectors=vectors,
            true=self._classes_of(embeddings.samples),
            prompts=self.prompts,
            protocol=self._sentence(embeddings),
            unreadable=unreadable,
        )

    def _ranked(
        self, vectors: Vectors, embeddings: AudioEmbeddings, relevant: Bool[np.ndarray, "clips classes"]
    ) -> RankingScores:
        return ranking_scores(cosine_similarity(vectors, candidates=embeddings.vectors).T, relevant=relevant)

    def _classes_of(self, samples: Sequence[Sample]) -> Int[np.ndarray, "clips"]:
        number_of = {name: number for number, name in enumerate(self.prompts)}
        for sample in samples:
            if sample.label not in number_of:
                raise ValueError(f"clip {sample.key} has label {sample.label!r}, which has no prompts")
        return np.array([number_of[str(sample.label)] for sample in samples])

    def _sentence(self, embeddings: AudioEmbeddings) -> str:
        counts = [len(texts) for texts in self.prompts.values()]
        number = str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        within = f" in {', '.join(self.languages)}" if self.languages else ""
        lost = f"; {len(embeddings.failures)} unreadable clips are not counted" if embeddings.failures else ""
        how = f"a class is the renormalised mean of its prompts{within} ({number} a class)"
        if self.kind == "multi-label":
            return (
                f"Zero-shot tagging of {len(embeddings.samples)} clips with {len(counts)} classes by cosine "
                f"similarity; {how}; average precision and area under the curve of all clips, means over the classes "
                f"that some clip has; ties count against the model in precision and half in area{lost}."
            )
        absent = len(self.prompts.keys() - {sample.label for sample in embeddings.samples})
        without = f", {absent} of which no clip has," if absent else ""
        return (
            f"Zero-shot classification of {len(embeddings.samples)} clips into {len(counts)} classes{without} by "
            f"cosine similarity; {how}; ties count against the model{lost}."
        )


def class_vectors(embedder: Embedder, *, prompts: Mapping[str, tuple[str, ...]]) -> Vectors:
    """Of each class the mean of its prompts' vectors, brought back to unit length."""
    vectors = embed_texts(embedder, texts=[text for texts in prompts.values() for text in texts])
    return ensembled(vectors, counts=[len(texts) for texts in prompts.values()])


def classified(
    vectors: Vectors,
    *,
    class_vectors: Vectors,
    true: Int[np.ndarray, "clips"],
    prompts: Mapping[str, tuple[str, ...]],
    protocol: str,
    unreadable: tuple[str, ...] = (),
) -> ZeroShotResult:
    """Each clip to the nearest class; the best wrong class wins unless the true one is strictly nearer.

    Raises:
        NotFiniteError: a vector is not finite.
    """
    classes = tuple(prompts)
    counts = np.bincount(true, minlength=len(classes))
    parts = []
    for begin in range(0, len(true), CLIPS_AT_ONCE):
        part = slice(begin, begin + CLIPS_AT_ONCE)
        similarity = cosine_similarity(vectors[part], candidates=class_vectors)
        rows, own = np.arange(len(similarity)), true[part]
        nearness = similarity[rows, own]
        similarity[rows, own] = -np.inf
        parts.append(np.where(nearness > similarity.max(axis=1), own, similarity.argmax(axis=1)))
    predicted = np.concatenate(parts)
    recognised = np.bincount(true[predicted == true], minlength=len(classes))
    return ZeroShotResult(
        accuracy=float((predicted == true).mean()),
        balanced_accuracy=float((recognised[counts > 0] / counts[counts > 0]).mean()),
        chance=1 / len(classes),
        majority_share=float(counts.max() / len(true)),
        classes=classes,
        prompts=prompts,
        num_clips=len(true),
        protocol=protocol,
        true=true,
        predicted=predicted,
        unreadable=unreadable,
    )
