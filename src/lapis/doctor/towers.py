"""A tower as the doctor sees it: something to ask, what to ask it, and what an answer has to be."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from lapis import probes
from lapis.doctor.finding import Finding
from lapis.model import Embedder
from lapis.shapes import Vectors

UNREACHED = "text unreached"
"""The check that says so where a text tower cannot be asked at all."""

MIXED_SECONDS = (0.2, 0.5, 1.0, 3.0, 12.0)
# Half precision normalises to within 1 %; what is further from unit length was not normalised at all.
LENGTH_TOLERANCE = 0.01


@dataclass(frozen=True)
class Tower:
    """One side of a model. `probes` are the built-in ones, `mixed` of very different lengths, `fresh` to be timed."""

    name: Literal["audio", "text"]
    kind: Literal["sounds", "sentences"]
    embed: Callable[[Any], Any]
    width: int
    probes: Sequence[Any]
    mixed: Sequence[Any]
    fresh: Sequence[Any]

    def ask(self, items: Sequence[Any]) -> Vectors | Finding:
        """The answers to some items, or what is wrong with them.

        Whatever the tower raises becomes a finding: a failure, or a warning where a text tower says with a ValueError
        or an OSError that it cannot be reached (its files are elsewhere, its extra is not installed, there is none).
        """
        try:
            answer = self.embed(items)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            if self.name == "text" and isinstance(error, (ValueError, OSError)):
                return Finding(UNREACHED, "warning", f"not asked any sentences: it cannot be reached here ({reason})")
            return Finding(f"{self.name} answers", "failure", f"no answer to {len(items)} {self.kind} ({reason})")
        return self._wrong(answer, len(items)) or answer

    def _wrong(self, answer: Any, num_items: int) -> Finding | None:
        check = f"{self.name} answers"
        came = f"{answer.dtype} of shape {answer.shape}" if isinstance(answer, np.ndarray) else type(answer).__name__
        expected = f"float32 of shape {(num_items, self.width)}"
        if came != expected:
            return Finding(check, "failure", f"expected {expected}, got {came}")
        broken = int((~np.isfinite(answer).all(1)).sum())
        if broken:
            figures = {"items": float(num_items), "broken": float(broken)}
            sentence = f"NaN or infinity in the answers to {broken} of {num_items} {self.kind}"
            return Finding(check, "failure", sentence, figures)
        lengths = np.linalg.norm(answer, axis=1)
        length = float(lengths[np.abs(lengths - 1).argmax()])
        if abs(length - 1) > LENGTH_TOLERANCE:
            return Finding(
                check, "failure", f"expected unit vectors, got one of length {length:.3g}", {"length": length}
            )
        return None


def towers(embedder: Embedder) -> tuple[Tower, Tower]:
    """Both sides of a model."""
    sounds = probes.sounds(sample_rate=embedder.sample_rate)
    # Repeated where longer than the probe is.
    clips = [np.resize(sound, round(seconds * embedder.sample_rate)) for sound, seconds in zip(sounds, MIXED_SECONDS)]
    sentences = probes.sentences()
    texts = ["rain", *sentences[:3], " ".join(sentences)]
    # A text tower may remember what it was asked before.
    others = [f"{sentence} Far away, a bell rings." for sentence in sentences]
    return (
        Tower("audio", "sounds", embedder.embed_audio, embedder.width, sounds, clips, fresh=sounds),
        Tower("text", "sentences", embedder.embed_text, embedder.width, sentences, texts, fresh=others),
    )


def precision(embedder: Embedder) -> torch.dtype:
    """The coarsest type of number among a model's weights; float32 where it has none to look at."""
    if not isinstance(embedder, nn.Module):
        return torch.float32
    kinds = {parameter.dtype for parameter in embedder.parameters()}
    return next((kind for kind in (torch.bfloat16, torch.float16) if kind in kinds), torch.float32)
