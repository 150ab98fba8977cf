"""Sounds to sentences: a model and the decoder that learned, beside it, to say what it hears.

`lapis.load_captioner` opens the two from the folder of a run whose recipe had the objective `Caption`.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lapis import audio, weights
from lapis.model import JointModel, check_waveforms
from lapis.objectives.caption import Caption
from lapis.objectives.decoder import Decoder
from lapis.objectives.generation import beam_search
from lapis.objectives.vocabulary import vocabulary_of
from lapis.ragged import Ragged
from lapis.search.clips import Clip, find_clips
from lapis.search.reading import Sound, read_ahead
from lapis.shapes import Waveforms

CLIPS_AT_ONCE = 16
SECONDS_AT_ONCE = 120.0
"""Of sound that is read and described together where files are."""


class Captioner:
    """Writes captions with a model, which hears, and its decoder, which says."""

    def __init__(self, model: JointModel, *, config: Caption.Config, decoder: Decoder) -> None:
        """The decoder is one that `config` built for this model."""
        self.model, self.config, self.decoder = model, config, decoder

    @classmethod
    def from_tensors(
        cls, model: JointModel, *, config: Caption.Config, tensors: Mapping[str, Tensor], source: str
    ) -> "Captioner":
        """The captioner whose decoder has these weights, which are taken as they are.

        Raises:
            ValueError: they do not fit the model's vocabulary and tokens, or the config; `source` says where from.
        """
        with torch.device("meta"):
            decoder = config.build_decoder(model)
        weights.load_strictly(decoder, tensors, source=source)
        return cls(model, config=config, decoder=decoder.requires_grad_(False))

    @torch.inference_mode()
    def caption(
        self,
        waveforms: Waveforms,
        *,
        beam: int = 3,
        max_tokens: int | None = None,
        at_once: int = CLIPS_AT_ONCE,
    ) -> list[str]:
        """A caption of each mono clip at the model's sample rate; the same whatever stands beside the clip.

        Args:
            waveforms: clips of any durations up to the model's `chunk_seconds`.
            beam: how many unfinished captions are followed; 1 takes the likeliest token each time.
            max_tokens: where a caption is cut; where it was in training unless told.
            at_once: clips that are heard and described together.

        Raises:
            ValueError: a clip is none that the model takes, or is too long; or a number is below one.
        """
        max_tokens = self.config.max_tokens if max_tokens is None else max_tokens
        if min(beam, max_tokens, at_once) < 1:
            raise ValueError(f"expected numbers of at least 1, got beam {beam}, max_tokens {max_tokens}, {at_once=}")
        check_waveforms(waveforms)
        self._check_lengths(waveforms)
        modes = {module: module.training for owner in (self.model, self.decoder) for module in owner.modules()}
        self.model.eval(), self.decoder.eval()
        try:
            texts = []
            for begin in range(0, len(waveforms), at_once):
                texts += self._texts(waveforms[begin : begin + at_once], beam=beam, max_tokens=max_tokens)
            return texts
        finally:
            for module, training in modes.items():
                module.training = training

    def _check_lengths(self, waveforms: Waveforms) -> None:
        # `embed_audio` takes the mean over pieces of such a clip; sentences have no mean.
        longest = self.model.config.chunk_seconds
        for number, waveform in enumerate(waveforms):
            seconds = len(waveform) / self.model.sample_rate
            if longest is not None and seconds > longest:
                raise ValueError(
                    f"clip {number} lasts {seconds:.2f} s, and this model describes at most {longest:g} s at once: "
                    f"cut it into pieces"
                )

    def _texts(self, waveforms: Waveforms, *, beam: int, max_tokens: int) -> list[str]:
        clips = [torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32)) for waveform in waveforms]
        vocabulary = vocabulary_of(self.model)
        texts = beam_search(
            self.decoder,
            memory=self.model.audio_tokens(Ragged.pack(clips).to(self.model.device)),
            beam=beam,
            start=vocabulary.start,
            end=vocabulary.end,
            max_tokens=max_tokens,
        )
        return [vocabulary.decode(text) for text in texts]


@dataclass(frozen=True)
class Described:
    """A sound file, or a part of one, with its caption, or with the reason why it has none."""

    path: str
    seconds: float | None
    caption: str | None
    error: str | None = None
    begin_seconds: float | None = None
    """Of the part, where a sound is described part by part."""


def caption_files(
    sources: Sequence[Path | str],
    *,
    captioner: Captioner,
    beam: int = 3,
    max_seconds: float = SECONDS_AT_ONCE,
    every_seconds: float | None = None,
    threads: int | None = None,
) -> Iterator[Described]:
    """Describe the sounds of files, folders, tables and tars (`search/clips.py`), in their order, as they are ready.

    Args:
        sources: paths of files and folders.
        captioner: what describes them.
        beam: how many unfinished captions are followed.
        max_seconds: a longer sound is not described, unless it is in parts.
        every_seconds: a caption for each so many seconds of a sound, of any length; one for the whole unless told.
        threads: that read sound ahead; as many as there are processors unless told, eight at most.

    Raises:
        ValueError: a source is not there or damaged, or a number is not above zero. A sound that cannot be read or
            described is no error here: it says so itself.
    """
    threads = min(8, os.cpu_count() or 1) if threads is None else threads
    if threads < 1 or beam < 1 or not 0 < max_seconds < math.inf:
        raise ValueError(f"threads, beam and max_seconds must be above zero, got {threads}, {beam}, {max_seconds}")
    if absent := [source for source in map(Path, sources) if not source.exists()]:  # before the first is described
        raise ValueError(f"{absent[0]}: expected a sound file, a folder, a table or a tar, but there is none")
    if every_seconds is not None:
        if not 0 < every_seconds <= (captioner.model.config.chunk_seconds or math.inf):
            longest = captioner.model.config.chunk_seconds
            most = "" if longest is None else f", and no longer than the {longest:g} s that the model takes at once"
            raise ValueError(f"a part must be longer than 0 s{most}, got {every_seconds}")
        yield from _in_parts(find_clips(sources), captioner=captioner, beam=beam, seconds=every_seconds)
        return
    sounds = read_ahead(
        find_clips(sources),
        sample_rate=captioner.model.sample_rate,
        max_seconds=max_seconds,
        ahead_seconds=2 * SECONDS_AT_ONCE,
        threads=threads,
    )
    with closing(sounds):
        waiting: list[Sound] = []
        for sound in sounds:
            if (waiting and _seconds([*waiting, sound]) > SECONDS_AT_ONCE) or len(waiting) == CLIPS_AT_ONCE:
                yield from _described(waiting, captioner=captioner, beam=beam)
                waiting = []
            waiting.append(sound)
        yield from _described(waiting, captioner=captioner, beam=beam)


def _in_parts(clips: Iterator[Clip], *, captioner: Captioner, beam: int, seconds: float) -> Iterator[Described]:
    """Each part of each sound, read as they come: a sound of any length in little memory."""
    at_once = max(1, min(CLIPS_AT_ONCE, int(SECONDS_AT_ONCE / seconds)))
    waiting: list[tuple[float | None, Sound]] = []

    def flush() -> Iterator[Described]:
        described = _described([sound for _, sound in waiting], captioner=captioner, beam=beam)
        for (begin, _), one in zip(waiting, described):
            yield replace(one, begin_seconds=begin)
        waiting.clear()

    for clip in clips:
        for part in _parts(clip, sample_rate=captioner.model.sample_rate, seconds=seconds):
            waiting.append(part)
            if len(waiting) == at_once:
                yield from flush()
    yield from flush()


def _parts(clip: Clip, *, sample_rate: int, seconds: float) -> Iterator[tuple[float | None, Sound]]:
    """Where each part begins, and its sound; last the reason, if it cannot be read to its end."""
    if clip.error is not None:
        yield None, Sound(clip, error=clip.error)
        return
    try:
        for block in audio.blocks(clip.audio.open(), sample_rate=sample_rate, block_seconds=seconds):
            yield block.start_seconds, Sound(clip, block.end_seconds - block.start_seconds, block.waveform)
    except (OSError, ValueError) as error:
        yield None, Sound(clip, error=str(error))


def _seconds(sounds: Sequence[Sound]) -> float:
    return sum(sound.seconds or 0.0 for sound in sounds if sound.waveform is not None)


def _described(sounds: Sequence[Sound], *, captioner: Captioner, beam: int) -> list[Described]:
    """Each sound with its caption; one that the model refuses costs its neighbours nothing."""
    waveforms = [sound.waveform for sound in sounds if sound.waveform is not None]
    try:
        captions = iter(captioner.caption(waveforms, beam=beam))
    except ValueError as error:
        if len(sounds) == 1:
            return [_of(sounds[0], error=f"the model refuses it: {error}")]
        return [one for sound in sounds for one in _described([sound], captioner=captioner, beam=beam)]
    return [_of(sound, caption=None if sound.waveform is None else next(captions)) for sound in sounds]


def _of(sound: Sound, *, caption: str | None = None, error: str | None = None) -> Described:
    return Described(sound.clip.path, sound.seconds, caption, sound.error or error)
