"""Captioning: what a model says of clips, scored against what people wrote of them.

The figures move with the search for words, so its settings are part of the protocol's sentence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float64

from lapis import audio
from lapis.data.sample import Sample
from lapis.evaluation.bootstrap import interval, mean_of
from lapis.evaluation.captions.scores import CaptionScoring
from lapis.evaluation.embeddings import Failure
from lapis.evaluation.figure import Figure
from lapis.evaluation.retrieval import CaptionsPerClip
from lapis.evaluation.subject import Describer, Needs
from lapis.shapes import Waveform

SECONDS_AT_ONCE = 120.0
WORST = 10
METRICS = {
    **{f"bleu_{size}": f"BLEU-{size}" for size in range(1, 5)},
    "rouge_l": "ROUGE-L",
    "meteor": "METEOR",
    "cider_d": "CIDEr",
    "spice": "SPICE",
    "spider": "SPIDEr",
    "similarity": "sentence similarity",
    "fluent": "fluent captions",
    "fense": "FENSE",
}
"""Scores by the names that papers give them: where they write CIDEr, they measured CIDEr-D."""
UNBOUNDED = ("CIDEr", "SPIDEr")
"""They end above one."""


@dataclass(frozen=True)
class CaptionedClip:
    """What was said of a clip, what is said of it, and its scores by name."""

    key: str
    caption: str
    references: tuple[str, ...]
    scores: Mapping[str, float]


@dataclass(frozen=True)
class CaptioningResult:
    """The figures by name, each caption, and what exactly was measured. `unreadable` names the clips not counted."""

    scores: Mapping[str, float]
    absent: Mapping[str, str]
    """Scores that were not computed, and why."""
    clips: tuple[CaptionedClip, ...]
    worst: tuple[CaptionedClip, ...]
    """The ten to read: lowest CIDEr-D first, ROUGE-L between equals."""
    references_per_clip: CaptionsPerClip
    num_empty: int
    """Of captions; they score zero."""
    protocol: str
    unreadable: tuple[str, ...] = ()
    of_others: Mapping[str, float] = field(default_factory=dict)
    """What the same captions score when each stands by another clip: what a model has that says what is usual."""

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """The scores under the names that papers give them, with intervals where one is a mean over clips; `chance` is
        what the captions of other clips score.
        """
        items, clips = self.items, np.arange(len(self.clips))
        return {
            metric: Figure(
                self.scores[name],
                chance=self.of_others.get(name),
                interval=interval(mean_of(items[metric]), clusters=clips) if metric in items else None,
                unit="score" if metric in UNBOUNDED else "share",
            )
            for name, metric in METRICS.items()
            if name in self.scores
        }

    @cached_property
    def items(self) -> dict[str, Float64[np.ndarray, "_clips"]]:
        """Those of each clip; BLEU and METEOR add up counts over the clips and are no means."""
        return {
            metric: np.array([clip.scores[name] for clip in self.clips], dtype=np.float64)
            for name, metric in METRICS.items()
            if name in self.scores and not metric.startswith(("BLEU", "METEOR"))
        }

    def to_dict(self) -> dict[str, Any]:
        """The same as plain dictionaries, ready for JSON."""
        return asdict(self) | {"figures": {name: asdict(figure) for name, figure in self.figures.items()}}


@dataclass(frozen=True)
class Captioning:
    """Has a model describe clips, and scores each caption against the clip's own, in one language.

    Raises:
        ValueError: a number is below one.
    """

    needs: ClassVar[Needs] = "captioner"
    scoring: CaptionScoring = field(default_factory=CaptionScoring)
    max_references: int | None = None
    """Of a clip, the first so many that are not empty; all of them unless told."""
    beam: int = 3
    """How many unfinished captions are followed; 1 takes the likeliest word each time."""
    max_tokens: int | None = None
    """Where a caption is cut; where it was in the model's training unless told."""

    def __post_init__(self) -> None:
        for name in ("max_references", "beam", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def run(self, captioner: Describer, *, clips: Sequence[Sample]) -> CaptioningResult:
        """Measure a captioner on clips.

        Raises:
            ValueError: no clip can be described, or a clip has no caption in the language.
        """
        for sample in clips:  # what is missing is told before the model is at work
            self._references(sample)
        captions, described, failures = self._describe(captioner, clips)
        if not described:
            reasons = "; ".join(map(str, failures[:3])) or "none was given"
            raise ValueError(f"no clip to evaluate: {reasons}")
        references = [self._references(sample) for sample in described]
        scores = self.scoring.score(captions, references=references)
        found = tuple(
            CaptionedClip(
                sample.key, caption, texts, {name: float(each[number]) for name, each in scores.clips.items()}
            )
            for number, (sample, caption, texts) in enumerate(zip(described, captions, references))
        )
        counts = [len(texts) for texts in references]
        num_empty = sum(not caption.strip() for caption in captions)
        return CaptioningResult(
            scores=scores.corpus,
            absent=scores.absent,
            clips=found,
            worst=tuple(sorted(found, key=lambda clip: (clip.scores["cider_d"], clip.scores["rouge_l"]))[:WORST]),
            references_per_clip=CaptionsPerClip(min(counts), sum(counts) / len(counts), max(counts)),
            num_empty=num_empty,
            protocol=self._sentence(described, counts, num_empty=num_empty, num_lost=len(failures)),
            unreadable=tuple(map(str, failures)),
            of_others=self._of_others(captions, references),
        )

    def _of_others(self, captions: Sequence[str], references: Sequence[tuple[str, ...]]) -> Mapping[str, float]:
        """The scores of captions that are dealt to other clips: by half the clips on, as neighbours may be alike.

        Without errors of language, which are those of a caption wherever it stands.
        """
        half = len(captions) // 2
        if not half:
            return {}
        dealt = [*captions[half:], *captions[:half]]
        return replace(self.scoring, fluency=None).score(dealt, references=references).corpus

    def _written(self, sample: Sample) -> Sequence[str]:
        """What people wrote of a clip, empty texts among them."""
        return sample.captions.get(self.scoring.language, ())

    def _references(self, sample: Sample) -> tuple[str, ...]:
        filled = tuple(text for text in self._written(sample) if text.strip())[: self.max_references]
        if not filled:
            raise ValueError(f"clip {sample.key} has no caption in {self.scoring.language}")
        return filled

    def _describe(self, captioner: Describer, clips: Sequence[Sample]) -> tuple[list[str], list[Sample], list[Failure]]:
        """Captions, the samples that they are of, and the samples that have none."""
        captions: list[str] = []
        described: list[Sample] = []
        failures: list[Failure] = []
        waiting: list[tuple[Sample, Waveform]] = []
        rate = captioner.model.sample_rate

        def flush() -> None:
            for sample, said in zip([sample for sample, _ in waiting], self._captions(captioner, waiting)):
                if isinstance(said, ValueError):
                    failures.append(Failure(sample, f"the model refuses it: {said}"))
                else:
                    captions.append(said)
                    described.append(sample)
            waiting.clear()

        for sample in clips:
            try:
                waveform = audio.read(sample.audio.open(), sample_rate=rate)
            except (OSError, ValueError) as error:
                failures.append(Failure(sample, str(error)))
                continue
            if waiting and sum(len(other) for _, other in waiting) + len(waveform) > SECONDS_AT_ONCE * rate:
                flush()
            waiting.append((sample, waveform))
        flush()
        return captions, described, failures

    def _captions(self, captioner: Describer, clips: Sequence[tuple[Sample, Waveform]]) -> list[str | ValueError]:
        """A caption of each clip, or why it has none: one that the model refuses costs its neighbours nothing."""
        if not clips:
            return []
        try:
            said = captioner.caption([wave for _, wave in clips], beam=self.beam, max_tokens=self.max_tokens)
        except ValueError as error:
            if len(clips) == 1:
                return [error]
            return [one for clip in clips for one in self._captions(captioner, [clip])]
        if len(said) != len(clips):
            raise RuntimeError(f"{captioner.model.identity} gave {len(said)} captions for {len(clips)} clips")
        return list(said)

    def _sentence(self, described: Sequence[Sample], counts: Sequence[int], *, num_empty: int, num_lost: int) -> str:
        number = str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        tokens = f"at most {self.max_tokens} tokens" if self.max_tokens else "at most as many tokens as in its training"
        most = f", at most {self.max_references} taken" if self.max_references else ""
        blank = sum(not text.strip() for sample in described for text in self._written(sample))
        lost = f"; {num_lost} unreadable clips are not counted" if num_lost else ""
        lost += f"; {blank} empty references are left out" if blank else ""
        lost += f"; {num_empty} empty captions count as they are" if num_empty else ""
        return (
            f"Captioning of {len(described)} clips with {number} references a clip in {self.scoring.language}{most}; "
            f"a beam of {self.beam}, {tokens}; {self.scoring.sentence()}{lost}."
        )
