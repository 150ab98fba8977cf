"""Does an export answer as its model does? Cosines of the same sounds and texts through both, the least of each kind.

Sounds are the doctor's probes, joined to a string as long as asked, and seeded noise that comes and goes. Each goes
through both forms alone; in one more row, clips of all lengths go through the graph in one batch, completed to the
longest.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from lapis import __version__, probes
from lapis.model import JointModel
from lapis.onnx.folder import Precision
from lapis.onnx.runtime import OnnxEmbedder
from lapis.shapes import Vectors, Waveform
from lapis.text_encoders.sentence import Sentence

SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 10.5, 20.0, 30.0, 60.0)
TOGETHER_SECONDS = 12.0
"""Up to which clips go into one batch."""
LEAST_COSINE: dict[Precision, float] = {"float32": 0.9999, "float16": 0.999, "int8": 0.999}

TEXTS = (
    "rain",
    "A dog barks.",
    "雨がトタン屋根に降っている",
    "Kinder lachen auf einem Spielplatz, während in der Ferne ein Zug vorbeifährt.",
    "A long recording of a harbour in the early morning: gulls cry, water laps against the hulls of boats, a rope "
    "creaks, an engine is started and dies again, somebody shouts, and at last a ship's horn sounds from far away. "
    * 3,
)


@dataclass(frozen=True)
class Row:
    """The least cosine of some items of one kind."""

    what: str
    items: int
    cosine: float


@dataclass(frozen=True)
class Parity:
    """How near an export is to its model."""

    precision: Precision
    least: float
    """The cosine below which it does not count as the same model."""
    rows: tuple[Row, ...]

    @property
    def cosine(self) -> float:
        """The least of all; not a number where one is none."""
        return float(np.min([row.cosine for row in self.rows]))

    @property
    def holds(self) -> bool:
        """Whether no row is below the limit."""
        return self.cosine >= self.least

    def to_values(self) -> dict[str, Any]:
        """As JSON has it."""
        told = {"lapis_version": __version__, "onnxruntime_version": _runtime_version()}
        return told | asdict(self) | {"cosine": self.cosine, "holds": self.holds}

    def table(self) -> str:
        """As lines of text."""
        lines = [
            f"{row.what:28} {row.items:3}  {row.cosine:.7f}{'' if row.cosine >= self.least else '  TOO LOW'}"
            for row in self.rows
        ]
        verdict = "holds" if self.holds else "DOES NOT HOLD"
        lines.append(f"{self.precision}: cosine at least {self.cosine:.7f}, limit {self.least}: {verdict}")
        return "\n".join(lines)


def measure(
    model: JointModel,
    exported: OnnxEmbedder,
    *,
    precision: Precision,
    texts: bool,
    seconds: Sequence[float] = SECONDS,
) -> Parity:
    """Compare an export with its model.

    Args:
        model: in float32.
        exported: made from it.
        precision: of the export.
        texts: whether its text tower was exported.
        seconds: how long the sounds are.
    """
    rows, together, longest = [], [], 0.0
    # A longer clip goes in pieces, which the graph knows nothing of.
    most = min(TOGETHER_SECONDS, model.config.chunk_seconds or TOGETHER_SECONDS)
    for length in seconds:
        clips = sounds(length, sample_rate=model.sample_rate)
        theirs = np.concatenate([model.embed_audio([clip]) for clip in clips])
        ours = np.concatenate([exported.embed_audio([clip]) for clip in clips])
        rows.append(Row(f"sound of {length:g} s", len(clips), least_cosine(theirs, ours)))
        if length <= most:
            together += zip(clips, theirs, strict=True)
            longest = max(longest, length)
    batch = exported.embed_together([clip for clip, _ in together])
    rows.append(
        Row(
            f"up to {longest:g} s in one batch",
            len(together),
            least_cosine(np.stack([vector for _, vector in together]), batch),
        )
    )
    if texts:
        theirs, ours = _texts(model, exported)
        rows.append(Row("texts", len(theirs), least_cosine(theirs, ours)))
    return Parity(precision, LEAST_COSINE[precision], tuple(rows))


def sounds(seconds: float, *, sample_rate: int) -> list[Waveform]:
    """Three clips as long as asked: two of real sounds, one of noise."""
    length = round(seconds * sample_rate)
    real = probes.sounds(sample_rate=sample_rate)
    strings = [np.resize(np.concatenate(real[first:] + real[:first]), length) for first in (0, 3)]
    random = np.random.default_rng(length)
    level = np.interp(np.arange(length), np.linspace(0, length, 9), random.uniform(0, 0.3, 9))
    return [*strings, (random.standard_normal(length) * level).astype(np.float32)]


def least_cosine(one: Vectors, other: Vectors) -> float:
    """Of rows of unit length that belong together; not a number where one is not finite."""
    exact = one.astype(np.float64), other.astype(np.float64)
    lengths = np.prod([np.linalg.norm(vectors, axis=1) for vectors in exact], axis=0)
    return float(((exact[0] * exact[1]).sum(1) / np.maximum(lengths, 1e-12)).min())


def _texts(model: JointModel, exported: OnnxEmbedder) -> tuple[Vectors, Vectors]:
    if isinstance(model.text_encoder, Sentence):
        # The frozen model is one and the same, and need not be here: the graph holds what comes after it.
        vectors = np.random.default_rng(0).standard_normal((16, model.text_encoder.width)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        with torch.inference_mode():
            place = torch.from_numpy(vectors).to(model.device)
            projected = F.normalize(model.text_projection(place).float(), dim=-1).cpu().numpy()
        return projected, exported.embed_sentences(vectors)
    texts = [*TEXTS, *probes.sentences()]
    return np.concatenate([model.embed_text([text]) for text in texts]), exported.embed_text(texts)


def _runtime_version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)
