"""What a browser can play of an indexed file: its own bytes, or a WAV made of the piece that is asked for."""

import io
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from lapis import audio
from lapis.serve.catalogue import Recording

HEAD_BYTES = 64
WAV_HEAD_BYTES = 1 << 16
"""Field recorders write pages about the take before the coding."""
WAV_HEADER_BYTES = 44
MOST_WAV_BYTES = 0xFFFF_FFFF - WAV_HEADER_BYTES
WAV_CODINGS = (1, 3, 6, 7, 0xFFFE)
"""PCM, floats, A-law, mu-law, and the header that says which of them in another place."""


class Changed(Exception):  # noqa: N818
    """The file is not there any more, or not what was indexed."""


@runtime_checkable
class Playable(Protocol):
    """Bytes that need not lie anywhere."""

    @property
    def kind(self) -> str:
        """For a browser: audio/wav."""
        ...

    @property
    def size(self) -> int:
        """In bytes."""
        ...

    def read(self, begin: int, end: int) -> bytes:
        """From one byte up to another."""
        ...


def playable(recording: Recording) -> Playable:
    """The file itself where browsers know its coding, else the same as a WAV.

    Raises:
        Changed: the file is not there any more, or not what was indexed.
        AudioError: it cannot be read as sound.
    """
    if not recording.is_unchanged:
        raise Changed
    with recording.path.open("rb") as file:
        head = file.read(WAV_HEAD_BYTES)
    kind = kind_of(head)
    if kind == "audio/mp4" and audio.info(recording.path).format.partition("/")[2] not in ("aac", "mp3", "opus"):
        kind = None
    return AsWav(recording) if kind is None else Original(recording, kind)


def kind_of(head: bytes) -> str | None:
    """What a browser calls a file that begins so; None where not every browser plays it."""
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        coding = re.search(rb"fmt [\x10\x12\x28]\0\0\0(..)", head, re.DOTALL)
        return "audio/wav" if coding and int.from_bytes(coding[1], "little") in WAV_CODINGS else None
    head = head[:HEAD_BYTES]
    if head[:4] == b"fLaC":
        return "audio/flac"
    if head[:4] == b"OggS":
        return "audio/ogg" if any(name in head for name in (b"OpusHead", b"\x01vorbis", b"\x7fFLAC")) else None
    if head[4:8] == b"ftyp":
        return "audio/mp4"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "audio/webm" if b"webm" in head else None
    # A frame of layer III: eleven bits that are set, any version, layer 01.
    is_mp3 = head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2)
    return "audio/mpeg" if is_mp3 else None


@dataclass(frozen=True)
class Original:
    """The file as it lies there."""

    recording: Recording
    kind: str

    @property
    def size(self) -> int:
        """In bytes."""
        return self.recording.size

    def read(self, begin: int, end: int) -> bytes:
        """From one byte up to another.

        Raises:
            Changed: the file is not there any more, or not what was indexed.
        """
        try:
            with self.recording.path.open("rb") as file:
                file.seek(begin)
                content = file.read(end - begin)
        except OSError:
            raise Changed from None
        if len(content) != end - begin or not self.recording.is_unchanged:
            raise Changed
        return content


class AsWav:
    """The mean of the channels in 16 bits at the file's own rate; only the seconds that are asked for are decoded."""

    kind = "audio/wav"

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.sample_rate, _ = audio.form(recording.path)
        samples = max(1, round(recording.seconds * self.sample_rate))
        self.num_samples = min(samples, MOST_WAV_BYTES // 2)
        self.size = WAV_HEADER_BYTES + 2 * self.num_samples

    def read(self, begin: int, end: int) -> bytes:
        """From one byte up to another.

        Raises:
            Changed: the file is not there any more, or not what was indexed.
            AudioError: it cannot be read as sound there.
        """
        header = self._header()
        if end <= len(header):
            return header[begin:end]
        first = max(0, begin - len(header)) // 2
        last = -(-(end - len(header)) // 2)
        content = self._samples(self.recording.path, first, last)
        if not self.recording.is_unchanged:
            raise Changed
        out = io.BytesIO()
        out.write(header[begin:])
        skipped = max(0, begin - len(header)) - 2 * first
        out.write(content[skipped : end - len(header) - 2 * first])
        return out.getvalue()

    def _samples(self, path: Path, first: int, last: int) -> bytes:
        rate = self.sample_rate
        waveform = audio.read(path, start_seconds=first / rate, seconds=(last - first) / rate)
        whole = np.zeros(last - first, "<i2")  # the last window may end a little after the sound
        whole[: len(waveform)] = np.round(np.clip(waveform, -1, 1) * 32767)[: len(whole)]
        return whole.tobytes()

    def _header(self) -> bytes:
        size, rate = 2 * self.num_samples, self.sample_rate
        form = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
        return b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + form + b"data" + struct.pack("<I", size)
