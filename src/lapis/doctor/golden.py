"""Golden answers: what a model said to the probes when it was saved. It has to say the same when it is loaded.

Nothing else finds tensors of equal shape in each other's place, or a front end that computes something new.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lapis import probes
from lapis.doctor.finding import Finding
from lapis.model import Embedder
from lapis.shapes import Vectors

# Rounding on another machine moves a cosine by 1e-6 at most; two norms of the pocket model, exchanged, by 2e-5.
LEAST_COSINE = 0.999
LEAST_COSINE_WITHOUT_WARNING = 0.99999
LEAST_COSINE_OF_HALF_PRECISION = 0.99


@dataclass(frozen=True)
class Golden:
    """A model's answers to the probe sounds and to the probe sentences, one row a probe."""

    audio: Vectors
    text: Vectors | None
    """None for a model that hears only."""
    probes: bytes = field(default_factory=probes.digest)
    """Says which probes were asked."""

    def to_tensors(self) -> dict[str, Tensor]:
        """As tensors that a weights file can hold: `audio`, `text` and `probes`."""
        texts = {} if self.text is None else {"text": torch.tensor(self.text)}
        probes_asked = torch.tensor(list(self.probes), dtype=torch.uint8)
        return {"audio": torch.tensor(self.audio), **texts, "probes": probes_asked}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray | Tensor]) -> "Golden":
        """From what `to_tensors` gave.

        Raises:
            ValueError: a tensor is missing, or it has another shape or type.
        """
        arrays: dict[str, np.ndarray] = {}
        for name, dimensions, kind in (("audio", 2, "float32"), ("text", 2, "float32"), ("probes", 1, "uint8")):
            if name == "text" and name not in tensors:
                continue
            if name not in tensors:
                raise ValueError(f"golden answers: expected the tensors audio, text and probes, got {sorted(tensors)}")
            arrays[name] = np.asarray(tensors[name])
            if arrays[name].ndim != dimensions or arrays[name].dtype != kind:
                came = f"{arrays[name].dtype} of shape {arrays[name].shape}"
                raise ValueError(f"golden answers: expected {name} as {kind} of {dimensions} dimensions, got {came}")
        return cls(arrays["audio"], arrays.get("text"), arrays["probes"].tobytes())


def record(embedder: Embedder, *, hears_only: bool = False) -> Golden:
    """The answers of a model as it is now; to the sounds alone where it `hears_only`."""
    sounds = probes.sounds(sample_rate=embedder.sample_rate)
    texts = None if hears_only else embedder.embed_text(probes.sentences())
    return Golden(embedder.embed_audio(sounds), texts)


def compare(
    golden: Golden, answers: Vectors, *, tower: Literal["audio", "text"], half_precision: bool = False
) -> Finding:
    """Whether a tower answers the probes as it did when the golden answers were recorded."""
    check = f"{tower} golden"
    recorded = golden.audio if tower == "audio" else golden.text
    if golden.probes != probes.digest() or recorded is None:
        why = "the golden answers are to other probes than this version of Lapis has; save it again"
        if recorded is None:
            why = "sentences could not be asked when it was saved"
        return Finding(check, "warning", f"not compared: {why}")
    if recorded.shape != answers.shape:
        sentence = f"answers of shape {answers.shape}, and {recorded.shape} when it was saved: this is another model"
        return Finding(check, "failure", sentence)
    if not np.isfinite(recorded).all():
        return Finding(check, "failure", "the golden answers are not finite: the model was not well when it was saved")
    one, other = recorded.astype(np.float64), answers.astype(np.float64)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosine = float(((one * other).sum(1) / np.maximum(lengths, 1e-12)).min())
    least = LEAST_COSINE_OF_HALF_PRECISION if half_precision else LEAST_COSINE
    figures = {"cosine": cosine, "least": least}
    why = "tensors may be mixed up, or the front end has changed"
    if cosine < least:
        sentence = f"answers differently from when it was saved: cosine down to {cosine:.3f}, expected {least}; {why}"
        return Finding(check, "failure", sentence, figures)
    if cosine < LEAST_COSINE_WITHOUT_WARNING and not half_precision:
        sentence = f"answers a little differently from when it was saved: cosine down to {cosine:.6f}, which is more "
        return Finding(check, "warning", f"{sentence}than rounding; unless saved in another precision, {why}", figures)
    return Finding(check, "fine", f"answers as when it was saved: cosine at least {cosine:.6f}", figures)
