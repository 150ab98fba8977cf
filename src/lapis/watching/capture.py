"""Sound that comes by itself: from a microphone, a pipe or a file that grows, into a buffer that is bounded.

A thread fills the buffer and the model empties it. Where the model is too slow, the oldest sound is let go of and
counted, so that what is told stays near to now; or, of a recording, whoever fills waits.
"""

import io
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from lapis.shapes import Waveform
from lapis.values import check_choice

PIECE_SECONDS = 0.05
"""Of sound that goes into the buffer at once."""
POLL_SECONDS = 0.05
"""Between two looks at a file that grows."""

Encoding = Literal["s16", "s32", "f32"]
DTYPES: dict[str, DTypeLike] = {"s16": "<i2", "s32": "<i4", "f32": "<f4"}


@dataclass(frozen=True)
class Pcm:
    """Samples without a header, little-endian, the channels side by side.

    Raises:
        ValueError: a number is out of its range.
    """

    sample_rate: int = 16_000
    channels: int = 1
    encoding: Encoding = "s16"

    def __post_init__(self) -> None:
        check_choice(self.encoding, Encoding, name="encoding")
        if self.sample_rate < 1 or self.channels < 1:
            raise ValueError(f"expected a sample rate and channels above 0, got {self.sample_rate} and {self.channels}")

    @property
    def frame_bytes(self) -> int:
        """Of one sample of all channels."""
        return self.channels * np.dtype(DTYPES[self.encoding]).itemsize

    @property
    def piece_bytes(self) -> int:
        """Of what is read at once."""
        return max(1, round(PIECE_SECONDS * self.sample_rate)) * self.frame_bytes

    def decoded(self, content: bytes) -> Waveform:
        """The mean of the channels, of whole frames; a sample that is no number is silence."""
        samples = np.frombuffer(content, DTYPES[self.encoding]).reshape(-1, self.channels)
        if self.encoding == "f32":
            return np.nan_to_num(samples, posinf=0.0, neginf=0.0).clip(-1, 1).mean(axis=1, dtype=np.float32)
        return (samples / np.float32(np.iinfo(samples.dtype).max + 1)).mean(axis=1, dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Piece:
    """Sound of the stream, and what was let go of before it."""

    waveform: Waveform
    lost_samples: int
    arrived: float
    """When its last sample did, of `time.monotonic`."""


class Buffer:
    """Between a thread that fills it and another that empties it."""

    def __init__(self, most_samples: int, *, waits: bool = False) -> None:
        """`waits`: who fills waits where there is no room, in place of letting go of the oldest."""
        self.most_samples, self.waits = most_samples, waits
        self._pieces: deque[tuple[Waveform, float]] = deque()
        self._held = self._lost = 0
        self._closed = False
        self._error: Exception | None = None
        self._changed = threading.Condition()

    @property
    def closed(self) -> bool:
        """Whether nobody listens any more, or nothing more comes."""
        with self._changed:
            return self._closed

    def put(self, waveform: Waveform, *, lost_samples: int = 0) -> bool:
        """Add sound, `lost_samples` of which were lost before; False where nobody listens any more."""
        with self._changed:
            while self.waits and self._held and self._held + len(waveform) > self.most_samples and not self._closed:
                self._changed.wait()
            self._lost += lost_samples
            self._pieces.append((waveform, time.monotonic()))
            self._held += len(waveform)
            while self._held > self.most_samples and len(self._pieces) > 1:
                gone, _ = self._pieces.popleft()
                self._held -= len(gone)
                self._lost += len(gone)
            self._changed.notify_all()
            return not self._closed

    def take(self, *, seconds: float) -> Piece | None:
        """All that is there, waiting for something so many seconds; None where nothing came.

        Raises:
            EOFError: the stream is over, and all of it taken.
            Exception: what broke the stream off.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._pieces or self._closed, timeout=seconds)
            if not self._pieces:
                if self._error is not None:
                    raise self._error
                if self._closed:
                    raise EOFError
                return None
            piece = Piece(np.concatenate([of for of, _ in self._pieces]), self._lost, self._pieces[-1][1])
            self._pieces.clear()
            self._held = self._lost = 0
            self._changed.notify_all()
            return piece

    def close(self, error: Exception | None = None) -> None:
        """No more comes, or is wanted."""
        with self._changed:
            self._closed, self._error = True, self._error or error
            self._changed.notify_all()


def from_file(file: io.BufferedIOBase, *, pcm: Pcm, grows: bool = False) -> Callable[[Buffer], None]:
    """What fills a buffer with a pipe until that ends; or with a file that goes on where it ends, until stopped."""

    def fill(buffer: Buffer) -> None:
        rest = b""
        for content in _contents(file, pcm=pcm, grows=grows):
            if buffer.closed:
                return
            rest += content
            whole = len(rest) - len(rest) % pcm.frame_bytes
            ready, rest = rest[:whole], rest[whole:]
            if ready and not buffer.put(pcm.decoded(ready)):
                return

    return fill


def _contents(file: Any, *, pcm: Pcm, grows: bool) -> Iterator[bytes]:
    # Of a pipe what is there, not what fills a buffer: the rest may come later.
    read = getattr(file, "read1", file.read)
    while True:
        content = read(pcm.piece_bytes)
        if content:
            yield content
        elif not grows:
            return
        elif os.fstat(file.fileno()).st_size < file.tell():
            raise ValueError(f"{file.name} has become shorter: whoever writes it has begun anew, and so must this")
        else:
            yield b""
            time.sleep(POLL_SECONDS)


def from_microphone(device: str, *, pcm: Pcm) -> Callable[[Buffer], None]:
    """What fills a buffer with what a device hears, `default` or a name or number, until it is closed.

    Raises:
        ValueError: `sounddevice` or its library is not there, or no device of this name.
    """
    try:
        sounddevice: Any = import_module("sounddevice")
    except (ImportError, OSError) as error:
        raise ValueError(
            f"a microphone needs sounddevice and PortAudio ({error}): pip install 'lapis-audio[watch]'"
        ) from error
    which = None if device == "default" else int(device) if device.isdecimal() else device
    try:
        sounddevice.check_input_settings(
            device=which, channels=pcm.channels, dtype="float32", samplerate=pcm.sample_rate
        )
    except (ValueError, sounddevice.PortAudioError) as error:
        names = [of["name"] for of in sounddevice.query_devices() if of["max_input_channels"] > 0]
        there = ", ".join(map(repr, names)) or "none"
        raise ValueError(f"the microphone {device!r} cannot be heard ({error}); there is {there}") from error

    def fill(buffer: Buffer) -> None:
        size = max(1, round(PIECE_SECONDS * pcm.sample_rate))
        with sounddevice.InputStream(
            device=which, channels=pcm.channels, dtype="float32", samplerate=pcm.sample_rate, blocksize=size
        ) as stream:
            while True:
                samples, overflowed = stream.read(size)
                # PortAudio tells that sound was lost, not how much: a piece at least.
                if not buffer.put(samples.mean(axis=1, dtype=np.float32), lost_samples=size if overflowed else 0):
                    return

    return fill


def start(fill: Callable[[Buffer], None], *, into: Buffer) -> threading.Thread:
    """Fill a buffer from a thread of its own, which does not keep the process from ending."""

    def run() -> None:
        try:
            fill(into)
        except Exception as error:
            into.close(error)
        else:
            into.close()

    thread = threading.Thread(target=run, name="lapis-capture", daemon=True)
    thread.start()
    return thread


def open_growing(path: Path, *, pcm: Pcm, from_beginning: bool) -> io.BufferedIOBase:
    """A file that is being written, from its beginning, or from the last whole frame that it has now.

    Raises:
        ValueError: it cannot be opened.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise ValueError(f"{path}: expected a file of samples: {error.strerror}") from error
    if not from_beginning:
        file.seek(path.stat().st_size // pcm.frame_bytes * pcm.frame_bytes)
    return file
