"""A model as a suite measures it, and the one place where a protocol is given what it asks for."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol, cast, runtime_checkable

from lapis.calibration import Calibrated, Calibration
from lapis.data.sample import Sample
from lapis.evaluation.cache import EmbeddingCache
from lapis.evaluation.embeddings import Listener
from lapis.evaluation.figure import Result
from lapis.model import Embedder
from lapis.shapes import Waveforms

Needs = Literal["vectors", "clips and embed", "clips", "calibration", "captioner"]
"""What the method `run` of a protocol is given:

- "vectors": the embedder, and as `clips` their vectors, which all benchmarks share;
- "clips and embed": the embedder, the clips, and as `embed` what gives the vectors of any listener, and keeps them;
- "clips": the embedder and the clips;
- "calibration": as "vectors", and the model's calibration in the protocol's field of this name;
- "captioner": what writes captions in place of the embedder, and the clips.
"""


@runtime_checkable
class Describer(Protocol):
    """What writes captions; `lapis.load_captioner` opens one."""

    @property
    def model(self) -> Listener: ...  # noqa: D102

    def caption(self, waveforms: Waveforms, *, beam: int, max_tokens: int | None) -> list[str]: ...  # noqa: D102


@runtime_checkable
class Measuring(Protocol):
    """A protocol: a frozen value that says what it needs.

    It may have a method `check(embedder)`, which raises a ValueError where a model cannot be measured by it.
    """

    needs: ClassVar[Needs]

    def run(self, *given: Any, **named: Any) -> Any: ...  # noqa: D102


@runtime_checkable
class Made(Protocol):
    """A protocol that depends on the clips: their labels are the classes, or their captions the prompts."""

    def __call__(self, samples: Sequence[Sample]) -> Measuring:
        """The protocol for clips, one that needs their vectors."""
        ...


@dataclass(frozen=True, eq=False)
class Subject:
    """What embeds, and what may lie beside its weights."""

    embedder: Embedder
    cache: EmbeddingCache = field(default_factory=EmbeddingCache)
    captioner: Describer | None = None

    @property
    def calibration(self) -> Calibration | None:
        """That of the model as it is, see `lapis calibrate`."""
        found = self.embedder.calibration if isinstance(self.embedder, Calibrated) else None
        return found if found is not None and found.identity == self.embedder.identity else None

    def lacks(self, protocol: Measuring | Made) -> str:
        """Why it cannot be measured by a protocol; empty where it can."""
        needs = getattr(protocol, "needs", "vectors")
        if needs == "captioner" and self.captioner is None:
            return "not for this model: no decoder of captions lies beside it (the objective Caption makes one)"
        if needs == "calibration" and self.calibration is None:
            return "not for this model: its scores have no calibration (lapis calibrate)"
        try:
            if check := getattr(protocol, "check", None):
                check(self.embedder)
        except ValueError as error:
            return f"not for this model: {error}"
        return ""

    def measure(self, protocol: Measuring | Made, *, clips: Sequence[Sample]) -> Result:
        """Run a protocol.

        Raises:
            ValueError: what the clips or the model give cannot be measured.
        """
        if not isinstance(protocol, Measuring):
            vectors = self.cache(self.embedder, clips)
            return protocol(vectors.samples).run(self.embedder, clips=vectors)
        match protocol.needs:
            case "vectors":
                return protocol.run(self.embedder, clips=self.cache(self.embedder, clips))
            case "clips and embed":
                return protocol.run(self.embedder, clips=clips, embed=self.cache)
            case "clips":
                return protocol.run(self.embedder, clips=clips)
            case "calibration":
                given = replace(cast(Any, protocol), calibration=self.calibration)
                return given.run(self.embedder, clips=self.cache(self.embedder, clips))
            case "captioner":
                return protocol.run(self.captioner, clips=clips)
