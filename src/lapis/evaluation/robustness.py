"""How far a clip's vector moves when the sound is shifted, cropped, made softer, coded or drowned in noise, and what a
task loses by it.

A vector that stays where it is may still be useless, and one that moves may keep its neighbours: so both are told.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np
from jaxtyping import Float64, Int

from lapis.data.sample import Sample
from lapis.evaluation.bootstrap import interval, mean_of
from lapis.evaluation.classifiers import Embed, plainly
from lapis.evaluation.disturbances import COMMON, Disturbance
from lapis.evaluation.embeddings import AudioEmbeddings, Listener, NotFiniteError, check_unit
from lapis.evaluation.figure import Figure, Result, Unit
from lapis.evaluation.retrieval import Retrieval
from lapis.evaluation.subject import Made, Needs
from lapis.evaluation.zeroshot import ZeroShot
from lapis.model import Embedder
from lapis.shapes import Vectors, Waveforms

LOST: Mapping[Unit, Unit] = {"share": "lost share", "score": "error"}
"""The units of what is lost, which is low where all is well."""


class Disturbed:
    """Hears every clip after a disturbance: a `Listener` of its own, whose vectors are kept apart."""

    def __init__(self, listener: Listener, disturbance: Disturbance) -> None:
        """The listener that hears what the disturbance leaves."""
        self._listener, self._disturbance = listener, disturbance
        self.sample_rate, self.width = listener.sample_rate, listener.width

    @property
    def identity(self) -> str:
        """Names the weights and the disturbance."""
        return f"{self._listener.identity}, {self._disturbance!r}"

    def embed_audio(self, waveforms: Waveforms) -> Vectors:
        """The vectors of the disturbed clips."""
        return self._listener.embed_audio(
            [self._disturbance(waveform, sample_rate=self.sample_rate) for waveform in waveforms]
        )


@dataclass(frozen=True, eq=False)
class RobustnessResult:
    """Cosines of each clip with itself by disturbance, and the task's results without and with each."""

    cosines: Mapping[str, Float64[np.ndarray, "_clips"]]
    unlike: float
    """The mean cosine of two different clips, undisturbed: what moving to anywhere would give."""
    plain: Result | None
    disturbed: Mapping[str, Result]
    metrics: tuple[str, ...]
    """Of the task, that are followed."""
    protocol: str
    unreadable: tuple[str, ...] = ()

    @cached_property
    def items(self) -> dict[str, Float64[np.ndarray, "_items"]]:
        """Of each clip its cosine; of each clip or query what the task lost, where a metric is a mean over them."""
        items = {f"cosine after {name}": values for name, values in self.cosines.items()}
        for metric in self.metrics:
            for name, result in self.disturbed.items():
                if self.plain is not None and metric in self.plain.items:
                    lost = np.asarray(self.plain.items[metric], np.float64) - result.items[metric]
                    items[f"{metric} lost by {name}"] = self._worse(metric) * lost
        return items

    @property
    def groups(self) -> dict[str, Int[np.ndarray, "_items"]]:
        """The clip or label that a query of the task belongs to, where several belong to one."""
        groups = getattr(self.plain, "groups", {})
        names = {f"{metric} lost by {name}": metric for metric in self.metrics for name in self.disturbed}
        return {name: groups[metric] for name, metric in names.items() if metric in groups}

    @cached_property
    def figures(self) -> dict[str, Figure]:
        """Cosines, whose `chance` is that of different clips, and what is lost of each metric (negative: gained).

        Intervals are of 95 % over clips, those of what is lost of the paired differences.
        """
        found = {}
        for name, values in self.cosines.items():
            within = interval(mean_of(values), clusters=np.arange(len(values)))
            found[f"cosine after {name}"] = Figure(float(values.mean()), self.unlike, within, "score")
        if self.plain is None:
            return found
        for metric in self.metrics:
            before = self.plain.figures[metric]
            found[metric] = before
            for name, result in self.disturbed.items():
                lost = f"{metric} lost by {name}"
                within = None
                if (items := self.items.get(lost)) is not None:
                    clusters = (getattr(self.plain, "groups", None) or {}).get(metric, np.arange(len(items)))
                    within = interval(mean_of(items), clusters=clusters)
                worse = self._worse(metric) * (before.value - result.figures[metric].value)
                found[lost] = Figure(worse, None, within, LOST.get(before.unit, before.unit))
        return found

    def _worse(self, metric: str) -> float:
        """By what a fall of a metric is multiplied so that a loss is above zero: a rank that falls is a gain."""
        assert self.plain is not None
        return -1.0 if self.plain.figures[metric].unit == "rank" else 1.0

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        return {
            "cosines": {
                name: {
                    "mean": float(values.mean()),
                    "tenth": float(np.quantile(values, 0.1)),
                    "least": float(values.min()),
                }
                for name, values in self.cosines.items()
            },
            "unlike": self.unlike,
            "task": None if self.plain is None else self.plain.protocol,
            "prompts": {name: list(texts) for name, texts in (getattr(self.plain, "prompts", None) or {}).items()}
            or None,
            "protocol": self.protocol,
            "unreadable": list(self.unreadable),
            "figures": {name: asdict(figure) for name, figure in self.figures.items()},
        }


@dataclass(frozen=True)
class Robustness:
    """Embeds each clip as it is and after each disturbance.

    Args:
        disturbances: what is done to the clips.
        task: what is measured without and with each, or what makes that of the clips; None to look at vectors only.
        metrics: of the task, that are followed.
    """

    needs: ClassVar[Needs] = "clips and embed"
    disturbances: tuple[Disturbance, ...] = COMMON
    task: Retrieval | ZeroShot | Made | None = None
    metrics: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [str(of) for of in self.disturbances]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"expected disturbances, each another one, got {names}")
        if (self.task is None) == bool(self.metrics):
            raise ValueError(f"expected a task with the metrics to follow, or neither, got {self.metrics}")

    def run(self, embedder: Embedder, *, clips: Sequence[Sample], embed: Embed = plainly) -> RobustnessResult:
        """Measure an embedder.

        Raises:
            ValueError: fewer than two clips can be read, a vector is not finite, or the task has no such metric.
        """
        if len(clips) < 2:
            raise ValueError(f"expected two clips or more, got {len(clips)}")
        whole = embed(embedder, clips)
        samples, failures = whole.samples, whole.failures
        if len(samples) < 2:
            raise ValueError(f"expected two clips or more that can be read: {'; '.join(map(str, failures[:3]))}")
        listeners = {str(of): Disturbed(embedder, of) for of in self.disturbances}
        moved = {name: embed(listener, samples).vectors for name, listener in listeners.items()}
        _check({"as they are": whole.vectors} | moved, samples, model=embedder)
        plain = whole.vectors
        cosines = {name: np.einsum("cw,cw->c", plain, of, dtype=np.float64) for name, of in moved.items()}
        results: list[Result] = []
        if self.task is not None:
            task: Any = self.task if hasattr(self.task, "run") else cast(Made, self.task)(samples)
            results = [
                task.run(embedder, clips=AudioEmbeddings(of, samples, failures)) for of in (plain, *moved.values())
            ]
        for metric in self.metrics:
            if metric not in results[0].figures:
                raise ValueError(f"the task has no metric {metric!r}, it has {', '.join(results[0].figures)}")
        total = plain.astype(np.float64).sum(axis=0)
        own = float(np.square(plain, dtype=np.float64).sum())
        lost = f"; {len(failures)} unreadable clips are not counted" if failures else ""
        also = f", and what is lost of {', '.join(self.metrics)} when only the sounds are disturbed" if results else ""
        return RobustnessResult(
            cosines=cosines,
            unlike=float((total @ total - own) / (len(samples) * (len(samples) - 1))),
            plain=results[0] if results else None,
            disturbed=dict(zip(moved, results[1:])),
            metrics=self.metrics,
            protocol=(
                f"Vectors of {len(samples)} clips after {', '.join(moved)}, by their cosine with the vector of the "
                f"clip as it is{also}{lost}."
            ),
            unreadable=tuple(str(failure) for failure in failures),
        )


def _check(vectors: Mapping[str, Vectors], samples: Sequence[Sample], *, model: Listener) -> None:
    for name, of in vectors.items():
        check_unit(of, model=model, of=[f"{sample.key} ({name})" for sample in samples])
        if not (finite := np.isfinite(of).all(axis=1)).all():
            raise NotFiniteError(f"the vector of clip {samples[int(np.argmin(finite))].key} is not finite ({name})")
