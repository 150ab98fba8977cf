"""Embeddings that are kept: each clip is embedded once for all benchmarks, and not again in the next run.

What a vector is kept under is the listener's identity (its weights) and the digest of the clip's bytes. Names play no
part, so a corpus that is moved or filed otherwise is known again. A vector that is not finite is refused, not kept.
A model whose weights change in memory is another one from then on.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from lapis import __version__, weights
from lapis.data.sample import Sample
from lapis.evaluation.embeddings import AudioEmbeddings, Failure, Listener, NotFiniteError, embed_samples
from lapis.files import sha256_of
from lapis.shapes import Vectors

Row = Float32[np.ndarray, "_width"]
State = tuple[tuple[int, int], ...]

FORMAT = 1
"""Part of what vectors are kept under: one more where sound is read, resampled or embedded otherwise than before and
the package's version stays, or vectors kept before would be taken for those of now."""
CLIPS_A_PART = 1000
"""Written together: what a killed run may lose. One that is interrupted writes what it has."""


class EmbeddingCache:
    """Vectors by listener and clip, in memory and, where there is a folder, on disk."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.embedded = 0
        """Clips that a model was asked for."""
        self._digests: dict[str, bytes] = {}
        self._identities: dict[int, tuple[Listener, State, str]] = {}
        self._tables: dict[str, dict[bytes, Row]] = {}

    def __call__(self, listener: Listener, samples: Sequence[Sample]) -> AudioEmbeddings:
        """The vectors of clips, of which only those are embedded that are not known yet.

        Raises:
            ValueError: no clip can be read, or a kept file is damaged.
            NotFiniteError: a vector is not finite.
        """
        table, place = self._table(listener)
        failures: list[Failure] = []
        digests: list[tuple[Sample, bytes]] = []
        for sample in samples:
            try:
                digests.append((sample, self._digest(sample)))
            except (OSError, ValueError) as error:
                failures.append(Failure(sample, str(error)))
        missing = {digest: sample for sample, digest in reversed(digests) if digest not in table}
        unread = {}
        wanted = list(reversed(missing.items()))
        for begin in range(0, len(wanted), CLIPS_A_PART):
            part = dict(wanted[begin : begin + CLIPS_A_PART])
            unread |= self._embed(listener, part, table=table, place=place)
        failures += [Failure(sample, unread[digest]) for sample, digest in digests if digest in unread]
        read = [(sample, digest) for sample, digest in digests if digest not in unread]
        if not read:
            reasons = "; ".join(str(failure) for failure in failures[:3]) or "none was given"
            raise ValueError(f"no clip to evaluate: {reasons}")
        vectors = np.stack([table[digest] for _, digest in read])
        return AudioEmbeddings(vectors, tuple(sample for sample, _ in read), tuple(failures))

    def _embed(
        self, listener: Listener, part: dict[bytes, Sample], *, table: dict[bytes, Row], place: Path | None
    ) -> dict[bytes, str]:
        """Embed clips by their digests; gives why some cannot be read. What is done is kept, however it ends."""
        of = {id(sample): digest for digest, sample in part.items()}
        fresh: dict[bytes, Row] = {}

        def keep(samples: Sequence[Sample], vectors: Vectors) -> None:
            self.embedded += len(samples)
            for sample, vector in zip(samples, vectors):
                if not np.isfinite(vector).all():
                    raise NotFiniteError(f"{listener.identity} gave clip {sample.key} a vector that is not finite")
                fresh[of[id(sample)]] = vector

        try:
            found = embed_samples(listener, samples=list(part.values()), keep=keep)
        finally:
            table.update(fresh)
            if place is not None and fresh:
                _write(place, fresh)
        return {of[id(failure.sample)]: failure.reason for failure in found.failures}

    def _table(self, listener: Listener) -> tuple[dict[bytes, Row], Path | None]:
        # A model's identity is a digest of all its weights: it is asked for again when one of them has been written to,
        # and the model held on to meanwhile. What has no weights that can be looked at is asked every time.
        state = tuple(_state(listener))
        if id(listener) not in self._identities or not state or self._identities[id(listener)][1] != state:
            told = f"{listener.identity}\0{listener.sample_rate}\0{listener.width}\0{__version__}\0{FORMAT}"
            self._identities[id(listener)] = (listener, state, hashlib.sha256(told.encode()).hexdigest())
        identity = self._identities[id(listener)][2]
        place = self.folder / identity if self.folder is not None else None
        if identity not in self._tables:
            self._tables[identity] = _read(place, width=listener.width) if place is not None else {}
        return self._tables[identity], place

    def _digest(self, sample: Sample) -> bytes:
        where = str(sample.audio)
        if where not in self._digests:
            self._digests[where] = content_digest(sample)
        return self._digests[where]


def _state(part: object) -> Iterator[tuple[int, int]]:
    """Where each weight lies and how often it was written to, of a model or of what listens by one."""
    if isinstance(part, torch.nn.Module):
        for tensor in (*part.parameters(), *part.buffers()):
            yield tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version
    else:
        for inner in getattr(part, "__dict__", {}).values():
            if isinstance(inner, torch.nn.Module) or hasattr(type(inner), "embed_audio"):
                yield from _state(inner)


def content_digest(sample: Sample) -> bytes:
    """The SHA-256 of the bytes of a clip's sound, whatever it is called and wherever it lies.

    Raises:
        ValueError, OSError: they cannot be had.
    """
    content = sample.audio.open()
    return hashlib.sha256(content).digest() if isinstance(content, bytes) else bytes.fromhex(sha256_of(content))


def _write(folder: Path, vectors: dict[bytes, Row]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    digests = b"".join(vectors)
    tensors = {
        "digests": torch.from_numpy(np.frombuffer(digests, np.uint8).reshape(-1, 32).copy()),
        "vectors": torch.from_numpy(np.stack(list(vectors.values()))),
    }
    weights.write(folder / f"{hashlib.sha256(digests).hexdigest()}.safetensors", tensors)


def _read(folder: Path, *, width: int) -> dict[bytes, Row]:
    table: dict[bytes, Row] = {}
    for path in sorted(folder.glob("*.safetensors")) if folder.is_dir() else ():
        tensors = weights.read(path)
        digests, vectors = (
            tensors[name].numpy() if name in tensors else np.zeros((0, 0)) for name in ("digests", "vectors")
        )
        whole = digests.shape == (len(vectors), 32) and vectors.shape[1:] == (width,) and len(vectors) > 0
        if not whole or not np.isfinite(vectors).all():
            raise ValueError(f"{path} holds no embeddings of width {width}: delete it, and they are made anew")
        table.update((digest.tobytes(), vector) for digest, vector in zip(digests, vectors))
    return table
