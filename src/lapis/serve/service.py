"""What is behind the addresses: a model, the line before it, an index, and the limits they work within."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from lapis import audio
from lapis.calibration import Calibrated, Calibration
from lapis.captioner import Captioner
from lapis.model import Embedder, check_texts
from lapis.search.filters import Filter
from lapis.search.frame_grid import Listening
from lapis.search.frames import hears_densely
from lapis.search.index import Hit, Index
from lapis.search.localise import Locations, Rule, locate
from lapis.search.place import Place, explained
from lapis.search.query import UNLIKE_WEIGHT
from lapis.serve.batching import Batcher, Turn, in_thread
from lapis.serve.limits import Budget, Limits
from lapis.serve.metrics import Metrics
from lapis.serve.refusal import Refusal
from lapis.serve.sounds import decoded
from lapis.shapes import Vectors, Waveform, Waveforms

DECODERS = 2
R = TypeVar("R")
log = logging.getLogger("lapis.serve")


class Service:
    """A model at work for many at once. To be made where an event loop runs, and closed there."""

    def __init__(
        self,
        embedder: Embedder,
        *,
        name: str,
        index: Path | str | None = None,
        captioner: Captioner | None = None,
        limits: Limits | None = None,
    ) -> None:
        """Open the index, if there is one.

        Args:
            embedder: the model.
            name: what clients call it.
            index: folder or address of an index that it made.
            captioner: what describes sounds, where the model learned it.
            limits: see there.

        Raises:
            ValueError: the index is not there, damaged, or another model's.
        """
        self.embedder, self.name, self.captioner, self.limits = embedder, name, captioner, limits or Limits()
        self.identity = embedder.identity  # a digest of all weights: asked for once
        self.index = None if index is None else _KeptOpen(index, identity=self.identity)
        self.held_bytes = Budget(float(self.limits.held_bytes))
        self.held_seconds = Budget(self.limits.held_seconds)
        self.metrics = Metrics(held_bytes=self.held_bytes, held_seconds=self.held_seconds)
        self.turn = Turn()
        self._others = ThreadPoolExecutor(DECODERS, thread_name_prefix="lapis-decoder")
        self._texts = Batcher[str](
            embedder.embed_text,
            turn=self.turn,
            width=embedder.width,
            most_items=self.limits.batch_texts,
            most_cost=float(self.limits.batch_texts),
            observe=self._observer("text"),
        )
        self._sounds = Batcher[Waveform](
            embedder.embed_audio,
            turn=self.turn,
            width=embedder.width,
            most_items=self.limits.inputs,
            most_cost=self.limits.batch_seconds,
            observe=self._observer("audio"),
        )

    @property
    def calibration(self) -> Calibration | None:
        """Of the model, if it has one of these weights."""
        of = self.embedder.calibration if isinstance(self.embedder, Calibrated) else None
        return of if of is not None and of.identity == self.identity else None

    async def texts(self, texts: Sequence[str], *, name: str = "input") -> Vectors:
        """Vectors of texts.

        Raises:
            Refusal: a text is empty or too long, there are too many, or the model refuses one.
        """
        self.check_number(len(texts), name=name)
        longest = self.limits.text_characters
        for number, text in enumerate(texts):
            if not text.strip():
                raise Refusal(422, f"{name}: text {number} is empty", "text", name)
            if len(text) > longest:
                raise Refusal(413, f"{name}: text {number} is longer than {longest} characters", "text", name)
            if not _is_text(text):
                raise Refusal(422, f"{name}: text {number} is no Unicode text", "text", name)
        check_texts(texts)
        return await _or_refused(self._texts(texts))

    async def decode(self, contents: Sequence[bytes], *, name: str = "input") -> list[Waveform]:
        """The samples of sounds.

        Raises:
            Refusal: one cannot be read, or they are too many or too long.
        """
        self.check_number(len(contents), name=name)
        rate, used = self.embedder.sample_rate, 0.0
        found: list[Waveform] = []
        for content in contents:
            read = partial(
                decoded,
                content,
                sample_rate=rate,
                most_seconds=self.limits.sound_seconds,
                held=self.held_seconds,
                used_seconds=used,
            )
            waveform = await in_thread(self._others, read)
            used += len(waveform) / rate
            self.metrics.sound_seconds.inc(len(waveform) / rate)
            found.append(waveform)
        return found

    async def sounds(self, waveforms: Sequence[Waveform]) -> Vectors:
        """Vectors of decoded sounds."""
        costs = [len(waveform) / self.embedder.sample_rate for waveform in waveforms]
        return await _or_refused(self._sounds(waveforms, costs=costs))

    async def search(
        self,
        *,
        text: str = "",
        waveform: Waveform | None = None,
        unlike: str = "",
        limit: int,
        where: Filter | None = None,
    ) -> list[Hit]:
        """What lies nearest to words, to a sound or to both, and less near to other words: as `Index.search_query`
        has it, with towers that are shared with other requests.

        Raises:
            Refusal: there is no index, it cannot be read now, or a text is none.
        """
        rate, seconds = self.embedder.sample_rate, self._index().table.metadata.window_seconds
        said = await self.texts([text], name="query") if text else None
        if said is not None and waveform is None and not unlike:
            known = _Known(said, self.identity, rate, self.embedder.width, self.calibration)
            return await self.of_index(
                lambda index: index.search_text(text, embedder=known, limit=limit, **_told(where))
            )
        wanted = [] if said is None else [_unit(said[0])]
        if waveform is not None:
            blocks = audio.blocks(waveform, sample_rate=rate, array_rate=rate, block_seconds=seconds)
            heard = await self.sounds([block.waveform for block in blocks])
            wanted.append(_unit(heard.sum(axis=0, dtype=np.float64)))
        vector = _unit(np.mean(wanted, axis=0))
        if unlike:
            vector = vector - UNLIKE_WEIGHT * _unit((await self.texts([unlike], name="unlike"))[0])
        return await self.of_index(lambda index: index.search(vector, limit=limit, **_told(where)))

    async def locate(self, waveform: Waveform, *, texts: Sequence[str], listening: Listening, rule: Rule) -> Locations:
        """When texts are heard in a sound; the model does nothing else meanwhile."""
        await self.texts(texts, name="texts")  # refused before the line
        if listening.hearing == "dense" and not hears_densely(self.embedder):
            raise Refusal(422, "hearing: this model hears in windows alone", "field", "hearing")
        work = partial(
            locate,
            waveform,
            texts=texts,
            embedder=self.embedder,
            listening=listening,
            rule=rule,
            identity=self.identity,
        )
        return await _or_refused(self.turn.alone(work))

    async def caption(self, waveform: Waveform, *, beam: int) -> str:
        """What is heard, in words.

        Raises:
            Refusal: the model has no decoder of captions, or the sound is longer than it describes at once.
        """
        captioner = self.captioner
        if captioner is None:
            raise Refusal(404, "this model has learned no captions", "no_captions")
        longest = captioner.model.config.chunk_seconds
        if longest is not None and len(waveform) / self.embedder.sample_rate > longest:
            raise Refusal(413, f"this model describes at most {longest:g} s at once", "duration", "audio")
        (said,) = await _or_refused(self.turn.alone(partial(captioner.caption, [waveform], beam=beam)))
        return said

    def check_name(self, name: str) -> None:
        """Refuse to answer for another model."""
        if name != self.name:
            raise Refusal(404, f"model: this server has {self.name!r} alone", "model_not_found", "model")

    def check_number(self, number: int, *, name: str) -> None:
        """Refuse nothing, and too much."""
        if not 1 <= number <= self.limits.inputs:
            raise Refusal(422, f"{name}: expected 1 to {self.limits.inputs}, got {number}", "number", name)

    def check_filled(self, template: str, labels: Sequence[str]) -> None:
        """Refuse a template that a label makes too long, before it is made: one of megabytes would fill the memory."""
        longest, gaps = self.limits.text_characters, template.count("{}")
        for number, label in enumerate(labels):
            if len(template) + gaps * (len(label) - 2) > longest:
                raise Refusal(
                    413, f"labels: text {number} in its template is longer than {longest} characters", "text", "labels"
                )

    async def close(self) -> None:
        """Wait for what is begun, and end."""
        await self.turn.close()
        self._others.shutdown(cancel_futures=True)

    def _index(self) -> "_KeptOpen":
        if self.index is None:
            raise Refusal(404, "this server has no index to search in", "no_index")
        return self.index

    def _observer(self, kind: str) -> Callable[[int, float], None]:
        items, seconds = self.metrics.batch_items.labels(kind), self.metrics.tower_seconds.labels(kind)

        def observe(number: int, took: float) -> None:
            items.observe(number)
            seconds.observe(took)

        return observe

    async def of_index(self, work: Callable[[Index], R]) -> R:
        """What a function makes of the index as it is now, in a thread.

        Raises:
            Refusal: there is no index, or it cannot be read now.
        """
        kept = self._index()

        def read() -> R:
            with explained(kept.place, doing="read"):  # the work may ask the table itself
                return work(kept.open())

        try:
            return await in_thread(self._others, read)
        except ValueError:  # it tells of folders
            log.exception("the index cannot be searched")
            raise Refusal(503, "the index cannot be searched now", "index", retry_seconds=10.0) from None


def _unit(vector: Float[np.ndarray, "_width"]) -> Float[np.ndarray, "_width"]:
    return vector / np.linalg.norm(vector.astype(np.float64))


def _told(where: Filter | None) -> dict[str, Any]:
    return {} if where is None else {"where": where}


class _KeptOpen:
    """An index that is opened again where it was made anew."""

    def __init__(self, folder: Path | str, *, identity: str) -> None:
        self.place, self.identity = Place(folder), identity
        self._stamp = self.place.stamp()
        self.table = self._opened()

    def open(self) -> Index:
        """As it is now.

        Raises:
            ValueError: it is not there any more, or another model's.
        """
        stamp = self.place.stamp()
        if stamp != self._stamp:
            self.table = self._opened()
            self._stamp = stamp
        return self.table

    def _opened(self) -> Index:
        return Index.open(self.place.folder, embedder_identity=self.identity)


@dataclass
class _Known:
    """The model as an index wants it for a text whose vector is known, whose weights need no second digest."""

    vectors: Vectors
    identity: str
    sample_rate: int
    width: int
    calibration: Calibration | None

    def embed_text(self, texts: Sequence[str]) -> Vectors:
        """The vector that is known."""
        assert len(texts) == len(self.vectors)
        return self.vectors

    def embed_audio(self, waveforms: Waveforms) -> Vectors:
        """Nobody asks."""
        raise NotImplementedError(f"{len(waveforms)} clips for a text's vector")


async def _or_refused(work: Awaitable[R]) -> R:
    """What the model refuses is the request's fault; its sentence may tell of files here and stays here."""
    try:
        return await work
    except ValueError as error:
        log.error("the model refuses an input: %s", error)  # one line: clients may send many
        raise Refusal(422, "the model refuses this input", "refused") from None


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
