"""Samples and texts to vectors, the first half of every protocol.

A clip that cannot be read is reported beside the vectors, never dropped silently.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from lapis import audio
from lapis.data.sample import Sample
from lapis.model import Embedder
from lapis.shapes import Vectors, Waveform, Waveforms

TEXTS_AT_ONCE = 256
FROM_UNIT = 1e-3
"""So much longer or shorter than one may a vector be that is called a unit vector."""


@runtime_checkable
class Listener(Protocol):
    """The half of an `Embedder` that hears; its vectors may be other ones, see `Features`."""

    @property
    def identity(self) -> str: ...  # noqa: D102

    @property
    def sample_rate(self) -> int: ...  # noqa: D102

    @property
    def width(self) -> int: ...  # noqa: D102

    def embed_audio(self, waveforms: Waveforms) -> Vectors: ...  # noqa: D102


class NotFiniteError(ValueError):
    """A model gave a vector or an answer that is not finite numbers: whatever else it gives is not worth a figure."""


@dataclass(frozen=True)
class Failure:
    """A sample whose sound could not be read, and why."""

    sample: Sample
    reason: str

    def __str__(self) -> str:
        return f"{self.sample.key}: {self.reason}"


@dataclass(frozen=True)
class AudioEmbeddings:
    """One vector for each sample that could be read, in the order they came, and the samples that could not."""

    vectors: Vectors
    samples: tuple[Sample, ...]
    failures: tuple[Failure, ...] = ()


def embed_samples(
    embedder: Listener,
    *,
    samples: Sequence[Sample],
    batch_seconds: float = 60.0,
    progress: Callable[[int, int], None] | None = None,
    keep: Callable[[Sequence[Sample], Vectors], None] | None = None,
) -> AudioEmbeddings:
    """Read and embed samples, at most about `batch_seconds` of sound in memory at once (a longer clip goes alone).

    Args:
        embedder: the model to measure.
        samples: the clips.
        batch_seconds: a batch closes when it holds this much sound.
        progress: called with the number of samples done and their total.
        keep: called with each batch as soon as it is embedded.

    Raises:
        ValueError: the embedder gave vectors of another shape.
    """
    batches: list[Vectors] = []
    waiting: list[Waveform] = []
    readable: list[Sample] = []
    failures: list[Failure] = []

    def flush() -> None:
        vectors = embedder.embed_audio(waiting)
        if vectors.shape != (len(waiting), embedder.width):
            raise ValueError(f"{embedder.identity} gave vectors {vectors.shape} for {len(waiting)} clips")
        if keep:
            keep(readable[-len(waiting) :], vectors)
        batches.append(vectors)
        waiting.clear()

    for done, sample in enumerate(samples, start=1):
        try:
            waveform = audio.read(sample.audio.open(), sample_rate=embedder.sample_rate)
        except (OSError, ValueError) as error:
            failures.append(Failure(sample, str(error)))
        else:
            if waiting and sum(map(len, waiting)) + len(waveform) > batch_seconds * embedder.sample_rate:
                flush()
            waiting.append(waveform)
            readable.append(sample)
        if progress:
            progress(done, len(samples))
    if waiting:
        flush()
    vectors = np.concatenate(batches) if batches else np.zeros((0, embedder.width), np.float32)
    return AudioEmbeddings(vectors, tuple(readable), tuple(failures))


def embed_texts(embedder: Embedder, *, texts: Sequence[str]) -> Vectors:
    """Embed texts, each distinct one once: equal texts get equal vectors, and memory stays bounded.

    Raises:
        ValueError: a vector is not of unit length.
    """
    distinct = list(dict.fromkeys(texts))
    batches = [
        embedder.embed_text(distinct[begin : begin + TEXTS_AT_ONCE]) for begin in range(0, len(distinct), TEXTS_AT_ONCE)
    ]
    vectors = np.concatenate(batches) if batches else np.zeros((0, embedder.width), np.float32)
    check_unit(vectors, model=embedder, of=distinct)
    row_of = {text: row for row, text in enumerate(distinct)}
    return vectors[[row_of[text] for text in texts]]


def check_unit(vectors: Vectors, *, model: Listener, of: Sequence[object]) -> None:
    """See that the product of two vectors is their cosine. What is not finite is for others to refuse.

    Args:
        vectors: of a model.
        model: that gave them, for messages.
        of: what the vectors are of, for messages.

    Raises:
        ValueError: a vector is not of unit length.
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    if (off := np.isfinite(lengths) & (np.abs(lengths - 1) > FROM_UNIT)).any():
        first = int(np.argmax(off))
        raise ValueError(
            f"{model.identity} gave {of[first]!r} a vector of length {lengths[first]:.4g}, and {int(off.sum())} of "
            f"{len(vectors)} are not of length 1: cosines are compared, so an embedder has to give unit vectors"
        )


def as_embeddings(
    embedder: Listener, *, clips: AudioEmbeddings | Sequence[Sample], unit: bool = True
) -> AudioEmbeddings:
    """What a protocol was given, embedded if it is not yet, and at least one clip of it readable.

    Args:
        embedder: what hears.
        clips: or their embeddings.
        unit: whether the vectors are to be of unit length, as they are where cosines are compared.

    Raises:
        ValueError: no clip could be read, or a vector is not of unit length where it has to be.
    """
    embeddings = clips if isinstance(clips, AudioEmbeddings) else embed_samples(embedder, samples=clips)
    if not embeddings.samples:
        reasons = "; ".join(str(failure) for failure in embeddings.failures[:3]) or "none was given"
        raise ValueError(f"no clip to evaluate: {reasons}")
    if unit:
        keys = [sample.key for sample in embeddings.samples]
        check_unit(embeddings.vectors, model=embedder, of=keys)
    return embeddings
