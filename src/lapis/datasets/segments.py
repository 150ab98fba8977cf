"""Clips that lie within longer recordings, which are opened one part at a time."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile

from lapis import audio
from lapis.datasets import youtube
from lapis.datasets.objects import objects
from lapis.datasets.reading import number


@dataclass(frozen=True)
class Segment:
    """A part of a sound file. It is decoded when it is asked for, and nothing of the rest is."""

    path: Path
    start_seconds: float
    seconds: float

    def open(self) -> bytes:
        """The part as a wav file of floats, in the recording's own sample rate and in one channel.

        Raises:
            AudioError: the recording cannot be read as sound, or ends before the segment.
        """
        sample_rate = audio.info(self.path).sample_rate
        waveform = audio.read(self.path, start_seconds=self.start_seconds, seconds=self.seconds)
        buffer = io.BytesIO()
        soundfile.write(buffer, waveform, sample_rate, format="WAV", subtype="FLOAT")
        return buffer.getvalue()

    def __str__(self) -> str:
        return f"{self.path}#t={self.start_seconds:g},{self.start_seconds + self.seconds:g}"


@dataclass(frozen=True)
class Utterance:
    """A line of a transcript: which part of which recording, and what is said there."""

    key: str
    path: str
    """Of the recording, within the corpus."""
    start_seconds: float
    seconds: float
    text: str
    source: str


def utterances(table: Path, *, subset: str, text: str) -> Iterator[Utterance]:
    """The segments of one subset in a table of the form that GigaSpeech began.

    That form is an object with a list `audios`; each of them has `aid`, `path`, `url` and `segments` with `sid`,
    `begin_time`, `end_time`, `subsets` and the text. The table may be larger than the memory.

    Args:
        table: the JSON file.
        subset: which segments, as `subsets` writes it.
        text: the field with the words.

    Raises:
        ValueError: there is no such file, it is another, or a segment lacks a field or ends before it begins.
    """
    for recording in objects(table, "audios"):
        where = f"{table}, recording {recording.get('aid')}"
        _need(recording, ("aid", "path", "segments"), where)
        video = youtube.video_in(str(recording.get("url", "")))
        source = f"youtube:{video}" if video else str(recording["aid"])
        for segment in recording["segments"]:
            _need(segment, ("sid", "begin_time", "end_time", "subsets", text), where)
            if subset not in segment["subsets"]:
                continue
            name = f"{where}, segment {segment['sid']}"
            start, end = (number(segment[time], where=name) for time in ("begin_time", "end_time"))
            if not 0 <= start < end:
                raise ValueError(f"{name}: expected an end after the beginning, got {start} to {end} s")
            yield Utterance(segment["sid"], recording["path"], start, end - start, segment[text], source)


def _need(values: Mapping[str, Any], names: tuple[str, ...], where: str) -> None:
    for name in names:
        if name not in values:
            raise ValueError(f"{where}: no {name!r}; it has {sorted(values)}")
