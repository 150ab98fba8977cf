"""Clips become rows: their sounds are read ahead of the model, which gets as many at once as fit into a batch.

The one place where that is done, for a single process, for a shard and for the workers of a cluster.
"""

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Float32

from lapis.data.storage import Patience, StorageError
from lapis.model import Embedder
from lapis.search.clips import Clip
from lapis.search.reading import Sound, read_again, read_ahead
from lapis.search.rows import Row
from lapis.search.withheld import given_back
from lapis.shapes import Waveforms

# So many clips at once, whatever their seconds: a million clips of nothing are not one batch.
MOST_CLIPS = 1024


@dataclass(frozen=True)
class Embedding:
    """How sounds become rows."""

    embedder: Embedder
    max_seconds: float
    batch_seconds: float
    threads: int
    patience: Patience | None = None

    def rows(
        self, clips: Iterator[Clip], *, others: Iterable[Clip] = (), threads: int | None = None
    ) -> Generator[Row, None, None]:
        """Of clips, in their order; `others` are clips in stores that tell whether these are away (`withheld.py`)."""
        options = {"sample_rate": self.embedder.sample_rate, "max_seconds": self.max_seconds}
        ahead_seconds = 2 * self.batch_seconds
        named = map(_named, clips)
        sounds = read_ahead(named, ahead_seconds=ahead_seconds, threads=threads or self.threads, **options)
        with closing(sounds):
            given = given_back(sounds, again=partial(read_again, **options), others=others)
            yield from _embed(given, embedder=self.embedder, batch_seconds=self.batch_seconds)

    def careful_row(self, clip: Clip, *, others: Iterable[Clip] = ()) -> Row:
        """Of a clip by itself; if the model fails on it, and on nothing else, the row says so."""
        try:
            (row,) = self.rows(iter([clip]), others=others, threads=1)
        except StorageError:
            raise
        except Exception as error:
            # A model that fails on anything is no fault of a sound: then this raises too.
            self.embedder.embed_audio([np.sin(np.arange(self.embedder.sample_rate, dtype=np.float32) / 8)])
            what = "memory does not suffice for it" if isinstance(error, MemoryError) else "the model fails on it"
            return Row(clip, None, None, f"{what}: {type(error).__name__}: {error}")
        return row


def _named(clip: Clip) -> Clip:
    """The clip, with an error where the table cannot hold its name."""
    try:
        clip.path.encode()
    except UnicodeEncodeError:
        return replace(clip, error=clip.error or "its name is not UTF-8, and the table can hold no other: rename it")
    return clip


def _embed(sounds: Iterable[Sound], *, embedder: Embedder, batch_seconds: float) -> Iterator[Row]:
    """The row of each sound, in their order; the model gets as many at once as fit into so many seconds."""
    waiting: list[Sound] = []
    waiting_seconds = 0.0

    def flush() -> Iterator[Row]:
        waveforms = [sound.waveform for sound in waiting if sound.waveform is not None]
        answers = iter(_answers(waveforms, embedder=embedder) if waveforms else ())
        for sound in waiting:
            answer = sound.error if sound.waveform is None else next(answers)
            if isinstance(answer, np.ndarray):
                yield Row(sound.clip, answer, sound.seconds)
            else:
                yield Row(sound.clip, None, sound.seconds, answer)
        waiting.clear()

    try:
        for sound in sounds:
            seconds = 0.0 if sound.waveform is None else len(sound.waveform) / embedder.sample_rate
            if waiting and waiting_seconds + seconds > batch_seconds:
                yield from flush()
                waiting_seconds = 0.0
            waiting.append(sound)
            waiting_seconds += seconds
            del sound  # An hour of sound is not to be kept by its name when its batch is done.
            if waiting_seconds >= batch_seconds or len(waiting) == MOST_CLIPS:
                yield from flush()
                waiting_seconds = 0.0
    except StorageError:  # What came before it is not read again.
        yield from flush()
        raise
    yield from flush()


def _answers(waveforms: Waveforms, *, embedder: Embedder) -> list[Float32[np.ndarray, "_width"] | str]:
    """The vector of each clip, or why it has none; a clip that the model refuses costs its neighbours nothing."""
    try:
        vectors = embedder.embed_audio(waveforms)
    except ValueError as error:
        if len(waveforms) == 1:
            return [f"the model refuses it: {error}"]
        return [answer for waveform in waveforms for answer in _answers([waveform], embedder=embedder)]
    if vectors.shape != (len(waveforms), embedder.width):
        expected = (len(waveforms), embedder.width)
        raise ValueError(f"expected vectors of shape {expected} from {embedder.identity}, got {vectors.shape}")
    finite = np.all(np.isfinite(vectors), axis=1)
    return [vector if good else "the model gives no finite vector for it" for vector, good in zip(vectors, finite)]
