"""Files through a model, window by window, many files' windows at once: memory holds a batch and the file in hand."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lapis import audio
from lapis.model import Embedder
from lapis.search.columns import File
from lapis.shapes import Waveform


@dataclass(frozen=True)
class FileHearing:
    """A model, and how files are cut for it."""

    embedder: Embedder
    width: int
    window_seconds: float
    hop_seconds: float
    batch_seconds: float
    """Of sound the model gets at once."""

    def vectors_of(self, files: Iterable[File]) -> Iterator[File | tuple[File, str]]:
        """Each file once, with all its vectors, or with the reason why it cannot be read; in about their order."""
        waiting: list[tuple[File, Waveform]] = []
        complete: list[File] = []

        def flush() -> list[File]:
            """Embed all that waits; the files that have all their vectors now."""
            if waiting:
                vectors = self.embedder.embed_audio([waveform for _, waveform in waiting])
                expected = (len(waiting), self.width)
                if vectors.shape != expected or not np.isfinite(vectors).all():
                    raise ValueError(
                        f"{self.embedder.identity} gave {vectors.shape}, not finite vectors of shape {expected}"
                    )
                for (file, _), vector in zip(waiting, vectors):
                    file.vectors.append(vector[None])
                waiting.clear()
            finished = complete.copy()
            complete.clear()
            return finished

        for file in files:
            reason = None
            for block in self._blocks_or_reason(file.path):
                if isinstance(block, str):
                    reason = block
                    break
                file.spans.append((block.start_seconds, block.end_seconds))
                waiting.append((file, block.waveform))
                if sum(len(waveform) for _, waveform in waiting) >= self.batch_seconds * self.embedder.sample_rate:
                    yield from flush()
            if reason is None:
                complete.append(file)
            else:
                waiting[:] = [item for item in waiting if item[0] is not file]
                yield file, reason
        yield from flush()

    def _blocks_or_reason(self, path: Path) -> "Iterator[audio.Block | str]":
        """The windows of a file; last the reason, if reading it fails. Nothing else's errors pass through here."""
        try:
            yield from audio.blocks(
                path,
                sample_rate=self.embedder.sample_rate,
                block_seconds=self.window_seconds,
                hop_seconds=self.hop_seconds,
            )
        except (OSError, ValueError) as error:
            yield str(error)
