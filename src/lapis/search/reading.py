"""Sounds read by threads, ahead of who asks for them and in order, as far as a budget of seconds goes.

A clip is measured before it is read, by its header where that says its length, so that what lies ready is bounded
whatever comes. What cannot be read is a sound with an error: any error, since one file in a million must not stop the
others for good. But what this machine lacks (memory, open files, a network disk that is away) is no fault of a file.
"""

import errno
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial

from av.error import FFmpegError

from lapis import audio
from lapis.data.storage import StorageError
from lapis.search.clips import Clip
from lapis.search.stored import Stored
from lapis.shapes import Waveform

MEASURED_CLIPS = 64
READ_CLIPS = 1024
KEPT_BYTES = 1 << 22
"""Of a sound from a store, between measuring and reading; more is fetched twice, since so many are measured ahead."""
LACKING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT)
"""What a system says where it has no more files to open, or memory, or the disk is away that a file lies on."""


@dataclass(frozen=True, eq=False)
class Sound:
    """A clip, measured and then read; or with the reason why not."""

    clip: Clip
    seconds: float | None = None
    waveform: Waveform | None = None
    error: str | None = None
    withheld: StorageError | None = None
    """Why a store did not give it, which may be no fault of its own (`withheld.py`)."""
    content: bytes | None = None
    """What a store gave for measuring, if it is not much."""


def read_ahead(
    clips: Iterator[Clip], *, sample_rate: int, max_seconds: float, ahead_seconds: float, threads: int
) -> Generator[Sound, None, None]:
    """The clips with their sound, in their order, read by threads meanwhile: the next ones, up to so many seconds.

    The next clip is always read, however long it is, up to `max_seconds`; a longer one has an error in its place.

    Raises:
        StorageError: this machine lacks what it needs to open any file.
        MemoryError: there is too little, for this file or for all that are read at once (`careful.py` finds out).
    """
    measuring: deque[Future[Sound]] = deque()
    reading: deque[tuple[float, Future[Sound]]] = deque()
    reading_seconds = 0.0
    pool = ThreadPoolExecutor(threads, thread_name_prefix="lapis-read")

    def top_up() -> None:
        """Give the threads as much to do as there is room for."""
        nonlocal reading_seconds
        while len(measuring) < MEASURED_CLIPS and (clip := next(clips, None)) is not None:
            measuring.append(pool.submit(_measured, clip, max_seconds=max_seconds))
        while measuring and measuring[0].done() and len(reading) < READ_CLIPS:
            sound = measuring[0].result()
            seconds = 0.0 if sound.seconds is None or sound.error else sound.seconds
            if reading and reading_seconds + seconds > ahead_seconds:
                break
            measuring.popleft()
            read = partial(_read, sound, sample_rate=sample_rate, max_seconds=max_seconds)
            reading.append((seconds, pool.submit(read)))
            reading_seconds += seconds

    try:
        top_up()
        while reading or measuring:
            if not reading:
                wait([measuring[0]])
                top_up()
            seconds, task = reading.popleft()
            reading_seconds -= seconds
            top_up()  # Now, so that even of long files the next is read while this one is with the model.
            yield task.result()
    finally:
        pool.shutdown(cancel_futures=True)


def read_again(sound: Sound, *, sample_rate: int, max_seconds: float) -> Sound:
    """The same clip, measured and read anew."""
    measured = _measured(sound.clip, max_seconds=max_seconds)
    return _read(measured, sample_rate=sample_rate, max_seconds=max_seconds)


def _measured(clip: Clip, *, max_seconds: float) -> Sound:
    """The clip with its length in seconds, if it has one that is to be embedded."""
    if clip.error is not None:
        return Sound(clip, error=clip.error)
    try:
        content = clip.audio.open()
        seconds = audio.info(content).seconds
    except StorageError as error:
        return Sound(clip, error=str(error), withheld=error)
    except Exception as error:
        _raise_if_lacking(error, clip)
        return Sound(clip, error=_reason(error))
    if seconds > max_seconds:
        error = f"it lasts {seconds:.2f} s, and at most {max_seconds:g} s are embedded whole: raise --max-seconds"
        return Sound(clip, seconds, error=error)
    is_stored = isinstance(clip.audio, Stored)
    kept = content if is_stored and isinstance(content, bytes) and len(content) <= KEPT_BYTES else None
    return Sound(clip, seconds, content=kept)


def _read(sound: Sound, *, sample_rate: int, max_seconds: float) -> Sound:
    """The sound with all its samples, or with an error where more come than its header says and the limit allows."""
    if sound.error is not None:
        return sound
    try:
        source = sound.clip.audio.open() if sound.content is None else sound.content
        block = next(audio.blocks(source, sample_rate=sample_rate, block_seconds=max_seconds + 1))
    except StorageError as error:
        return replace(sound, error=str(error), withheld=error)
    except Exception as error:
        _raise_if_lacking(error, sound.clip)
        return replace(sound, error=_reason(error), content=None)
    seconds = len(block.waveform) / sample_rate
    if seconds > max_seconds:
        error = f"it lasts over {max_seconds:g} s, the most that is embedded whole, though its header says less"
        return Sound(sound.clip, error=error)
    return Sound(sound.clip, seconds, block.waveform)


def _raise_if_lacking(error: BaseException, clip: Clip) -> None:
    """Do not take for a fault of a file what is one of the machine."""
    cause: BaseException | None = error
    while cause is not None:
        # FFmpeg says that memory is lacking where a damaged file asks for too much of it.
        if isinstance(cause, MemoryError) and not isinstance(cause, FFmpegError):
            raise cause
        if isinstance(cause, OSError) and cause.errno in LACKING and not isinstance(cause, FFmpegError):
            raise StorageError(f"{clip.path}: {cause.strerror}, so it is not read; run again to go on") from error
        cause = cause.__cause__


def _reason(error: Exception) -> str:
    """What is said of a file; an error that a damaged file is not known to cause is named by its kind too."""
    return str(error) if isinstance(error, OSError | ValueError) else f"{type(error).__name__}: {error}"
