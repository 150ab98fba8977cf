"""Sound out of files, bytes and arrays: mono float32 at the rate asked for, whole, in segments, or window by window.

libsndfile reads what it can seek in exactly (wav, flac, aiff, opus, mp3); FFmpeg, through PyAV, reads the rest. Two
kinds that libsndfile opens are left to FFmpeg as well: Vorbis, where its seeks miss by up to a block (libsndfile issue
885), and mp3 without a length header, which it takes to end where it guesses. What cannot be read as sound is an
`AudioError` that names it.
"""

import contextlib
import io
import math
import multiprocessing
import os
import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
import soxr
from av.container import InputContainer
from av.error import FFmpegError

from lapis.clock import timed
from lapis.shapes import Waveform

File = str | Path | bytes
"""A path, or the content of a file."""

Source = File | np.ndarray
"""Or samples: (samples,) or (samples, channels), floats in [-1, 1] or integers over the range of their type."""

Seconds = float | int
"""A checker at run time takes `float` at its word, and nobody writes `seconds=10.0`."""

SUFFIXES = frozenset({
    ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".caf", ".flac", ".m4a", ".m4b", ".mka", ".mkv",
    ".mov", ".mp3", ".mp4", ".oga", ".ogg", ".opus", ".rf64", ".w64", ".wav", ".webm", ".wma", ".wv",
})  # fmt: skip
"""Suffixes of files that may hold sound, in lower case. Reading looks at the content, never at the name."""

MINIMUM_SECONDS = 0.1
"""A last window shorter than this is dropped; so is silence about a length that is wrong by less than this."""

CHUNK_SAMPLES = 1 << 14
# Decoded in one call, which no Ctrl-C ends: a third of a second of Opus.
STRETCH_SAMPLES = 1 << 20
EXPECTED_SAMPLES = 1 << 24
# 128 samples at the lower of the two rates bring a resampled segment within 1e-6 of the resampled whole.
MARGIN_SAMPLES = 256
# What a decoder needs to forget that it began in the middle; the longest known, of AAC with band replication, is 0.2 s.
PREROLL_SECONDS = 0.5
# Containers read by FFmpeg. A list, because its playlists and concatenations open other files and addresses.
CONTAINERS = "aac,ac3,amr,ape,asf,avi,caf,flac,matroska,mov,mp3,mpegts,ogg,wav,wv"
# Those that say where each sample is. Matroska and ASF count milliseconds, and the raw streams count nothing.
CONTAINERS_WITH_EXACT_TIMES = ("mov", "ogg")
CONTAINERS_WITHOUT_LENGTH = ("aac", "ac3", "amr", "mp3", "mpegts")
# A wav of which more than this is claimed was written to a pipe, by a program that could not know the length.
UNKNOWN_BYTES = 0x7F00_0000
CUT = re.compile(r"^\s*(?:data|SSND) : (\d+) \(should be (\d+)\)", re.MULTILINE)
KINDS_WITHOUT_NOTES = ("FLAC", "OGG", "MP3")


class AudioError(ValueError):
    """Sound that cannot be read: the message names the file, what was expected and what came."""


class AudioWarning(UserWarning):
    """Sound that was read, but is not all that its file promised."""


@dataclass(frozen=True)
class AudioInfo:
    """What a header says: length, own sample rate, and container/coding (`wav/pcm_16`, `ogg/opus`, `mov/aac`)."""

    seconds: float
    sample_rate: int
    channels: int
    format: str


@dataclass(frozen=True)
class Block:
    """A window of a longer sound."""

    start_seconds: float
    end_seconds: float
    waveform: Waveform


def info(source: Source, *, array_rate: int | None = None) -> AudioInfo:
    """Length, rate and format from the header, without decoding.

    Exact for what libsndfile reads, and to a coding frame (some 50 ms) for containers. Raw streams (aac, ac3, mp3
    without a length header) and matroska with several tracks state no length of the sound: those are decoded to count.

    Raises:
        AudioError: the source cannot be opened as sound, or holds no samples.
    """
    with _open(source, array_rate) as sound:
        num_samples = sound.num_samples
        if num_samples is None:
            num_samples = sum(len(chunk) for chunk in _samples(sound))
        if num_samples == 0:
            raise AudioError(f"{sound.name}: expected sound, but this {sound.format} holds no samples")
        return AudioInfo(num_samples / sound.sample_rate, sound.sample_rate, sound.channels, sound.format)


def form(source: Source, *, array_rate: int | None = None) -> tuple[int, int]:
    """The sample rate in hertz and the number of channels, from the header: unlike `info` this never decodes.

    Raises:
        AudioError: the source cannot be opened as sound.
    """
    with _open(source, array_rate) as sound:
        return sound.sample_rate, sound.channels


def read(
    source: Source,
    *,
    sample_rate: int | None = None,
    start_seconds: Seconds = 0.0,
    seconds: Seconds | None = None,
    array_rate: int | None = None,
    place: Waveform | None = None,
) -> Waveform:
    """The mean of the channels at `sample_rate`, or at the source's own rate.

    A segment is a slice of the whole, from sample round(start_seconds * rate) up to, not including, sample
    round((start_seconds + seconds) * rate) at the rate returned: the same samples where nothing is resampled, within
    1e-4 where it is, since a margin on both sides is read and resampled with it. A segment that runs over the end is
    shorter. FFmpeg seeks in mp4 and ogg; other containers do not say exactly where a sample is, and are decoded from
    their start. One coding has no exact segments: AAC may leave noise to the decoder, which draws it anew each time.

    A file that is cut or damaged gives what comes before that, with an `AudioWarning`. Nothing tells that an ogg or a
    raw stream was cut between two pages.

    Args:
        source: path, content, or array.
        sample_rate: in hertz.
        start_seconds: where to begin.
        seconds: how much to read; to the end unless told.
        array_rate: the rate of an array, which a file knows itself.
        place: an array whose beginning is used where that saves a copy: the sound may come as a view of it.

    Raises:
        AudioError: the source cannot be read as sound, holds no samples or a value that is no number, or ends before
            the segment.
    """
    if isinstance(source, np.ndarray) and (sample_rate, start_seconds, seconds, array_rate) == (None, 0.0, None, None):
        array_rate = 1  # Nothing here depends on it.
    with _open(source, array_rate) as sound:
        rate = _positive_rate(sound.sample_rate if sample_rate is None else sample_rate, sound.name)
        if not (math.isfinite(start_seconds) and start_seconds >= 0):
            raise AudioError(f"{sound.name}: expected start_seconds of 0 or more, got {start_seconds}")
        begin = round(start_seconds * rate)
        end = None if seconds is None else round((start_seconds + seconds) * rate)
        if end is not None and end <= begin:
            raise AudioError(f"{sound.name}: expected seconds to span at least one sample at {rate} Hz, got {seconds}")

        # In one period, both rates count whole samples: resampling that begins there lands on the whole's own samples.
        common = math.gcd(rate, sound.sample_rate)
        period, source_period = rate // common, sound.sample_rate // common
        margin = 0 if rate == sound.sample_rate else MARGIN_SAMPLES * math.ceil(rate / min(rate, sound.sample_rate))
        num_periods_before = max(0, begin - margin) // period
        first = num_periods_before * source_period
        last = None if end is None else -(-(end + margin) * source_period // period)

        waveform = _whole(sound, first, last, place=place)
        with timed("resample"):
            waveform = resample(waveform, from_rate=sound.sample_rate, to_rate=rate)
        origin = num_periods_before * period
        waveform = waveform[begin - origin : None if end is None else end - origin]
        if not len(waveform):
            raise AudioError(
                f"{sound.name}: expected sound from {start_seconds} s on, but at {rate} Hz no sample is left"
            )
        return waveform


def blocks(
    source: Source,
    *,
    sample_rate: int,
    block_seconds: Seconds,
    hop_seconds: Seconds | None = None,
    array_rate: int | None = None,
) -> Iterator[Block]:
    """The `windows` of a sound of any length, one after another, each as `read` gives it, in the memory of one window.

    Args:
        source: path, content, or array.
        sample_rate: of the blocks, in hertz.
        block_seconds: length of a window.
        hop_seconds: from the start of one window to the start of the next; a window's length unless told.
        array_rate: the rate of an array.

    Raises:
        AudioError: as for `read`, when the place is reached.
        ValueError: the hop is not positive, or longer than a window.
    """
    hop_seconds = float(block_seconds if hop_seconds is None else hop_seconds)
    _check_hop(block_seconds, hop_seconds)
    with _open(source, array_rate) as sound:
        held: list[Waveform] = []
        held_from, received, number = 0, 0, 0

        def cut(start_seconds: float, end_seconds: float) -> Block:
            """Take one window out of what is held, and let go of what comes before its start."""
            nonlocal held, held_from
            begin, end = round(start_seconds * sample_rate), round(end_seconds * sample_rate)
            held = [np.concatenate(held)[begin - held_from :]]
            held_from = begin
            return Block(start_seconds, end_seconds, held[0][: end - begin].copy())

        for chunk in _resampled(sound, _positive_rate(sample_rate, sound.name)):
            held.append(chunk)
            received += len(chunk)
            while received >= round((number * hop_seconds + block_seconds) * sample_rate):
                yield cut(number * hop_seconds, number * hop_seconds + block_seconds)
                number += 1
        if not received:
            raise AudioError(f"{sound.name}: expected sound, but it is shorter than one sample at {sample_rate} Hz")
        rest = windows(received / sample_rate, window_seconds=block_seconds, hop_seconds=hop_seconds)[number:]
        for start_seconds, end_seconds in rest:
            yield cut(start_seconds, end_seconds)


def chunks(source: Source, *, sample_rate: int, array_rate: int | None = None) -> Iterator[Waveform]:
    """The whole sound, a piece after another, as `read` gives it at once: for a sound of any length in little memory.

    Args:
        source: path, content, or array.
        sample_rate: of the pieces, in hertz.
        array_rate: the rate of an array.

    Raises:
        AudioError: as for `read`, when the place is reached.
    """
    with _open(source, array_rate) as sound:
        yield from _resampled(sound, _positive_rate(sample_rate, sound.name))


def windows(total_seconds: Seconds, *, window_seconds: Seconds, hop_seconds: Seconds) -> list[tuple[float, float]]:
    """Start and end of windows a hop apart, up to the first that reaches the end.

    That last one ends with the sound. If this leaves it under 0.1 s and under half a window, it is dropped, unless it
    is the only one.

    Raises:
        ValueError: the hop is not positive, or longer than a window.
    """
    _check_hop(window_seconds, hop_seconds)
    tolerance = 1e-6  # Far under a sample: a sum of floats that misses the end by less has reached it.
    num_windows = max(1, 1 + math.ceil((total_seconds - window_seconds - tolerance) / hop_seconds))
    starts = [number * float(hop_seconds) for number in range(num_windows)]
    if num_windows > 1 and total_seconds - starts[-1] < min(MINIMUM_SECONDS, window_seconds / 2):
        starts.pop()
    return [(start, min(start + window_seconds, float(total_seconds))) for start in starts]


def resample(waveform: Waveform, *, from_rate: int, to_rate: int) -> Waveform:
    """The same sound at another rate (soxr, high quality); the same array where the rates are equal."""
    if from_rate == to_rate:
        return waveform
    return soxr.resample(
        waveform, _positive_rate(from_rate, "<array>"), _positive_rate(to_rate, "<array>"), quality="HQ"
    )


def is_audio_path(path: str | Path) -> bool:
    """Whether the name ends as that of a sound file does."""
    return Path(path).suffix.lower() in SUFFIXES


def find_audio(folder: str | Path) -> list[Path]:
    """All sound files of a folder and the folders in it, sorted.

    Hidden files and folders are left out. Links to files count, those too whose file is not there: whoever reads them
    says so. Links to folders are not followed, so none can loop.

    Raises:
        AudioError: there is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise AudioError(f"{folder}: expected a folder, but {'this is a file' if folder.exists() else 'there is none'}")

    def warn(error: OSError) -> None:
        warnings.warn(f"{error.filename}: left out, because this folder cannot be read", AudioWarning, stacklevel=2)

    found = []
    for root, folders, names in os.walk(folder, onerror=warn):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(root, name) for name in names if not name.startswith(".") and is_audio_path(name)]
    return sorted(path for path in found if path.is_file() or (path.is_symlink() and not path.exists()))


@dataclass(frozen=True)
class _Sound:
    """An open source: what its header says, and `chunks`, its samples from one on.

    `num_samples` is the length as far as the header is to be believed, None where it is silent; `claimed_samples` is
    what should have come, so that it shows when less does. Chunks are (samples, channels), of the source's own type;
    where there is a place that they could go to, (samples,) from the first one on, they may already be there.
    """

    name: str
    sample_rate: int
    channels: int
    format: str
    num_samples: int | None
    claimed_samples: int | None
    chunks: Callable[[int, Waveform | None], Iterator[np.ndarray]]


class _Forward(soundfile.SoundFile):
    """A file that is read on from where it is. soundfile would seek there after every read, which costs Opus a third
    of its decoding."""

    def seekable(self) -> bool:
        return False


def _open_with_a_new_lock() -> None:
    """soundfile opens every file under a lock. A process that is forked while another thread holds it, a worker of a
    DataLoader say, would wait for it for ever at its first file."""
    if hasattr(soundfile.SoundFile, "_sf_error_lock"):
        soundfile.SoundFile._sf_error_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_open_with_a_new_lock)


@contextlib.contextmanager
def _open(source: Source, array_rate: int | None) -> Iterator[_Sound]:
    """Find out who reads the source."""
    if isinstance(source, np.ndarray):
        yield _open_array(source, array_rate)
        return
    name = "<bytes>" if isinstance(source, bytes) else str(source)
    if array_rate is not None:
        raise AudioError(f"{name}: expected array_rate with an array only; a file states its own sample rate")
    with contextlib.ExitStack() as stack:
        content = stack.enter_context(_open_content(source, name))
        _refuse_sample_dump(content, name)
        try:
            handle = stack.enter_context(_forward(source, stack))
        except (soundfile.SoundFileError, TypeError):  # TypeError: soundfile wants to know more of a `.raw`.
            yield _open_ffmpeg(stack.enter_context(_container(content, name)), name)
            return
        kind, coding = handle.format, handle.subtype
        if coding == "VORBIS" or (kind == "MP3" and not _mp3_states_length(content)):
            yield _open_ffmpeg(stack.enter_context(_container(content, name)), name)
        else:
            yield _open_libsndfile(handle, name, kind=kind, coding=coding)


def _forward(source: File, stack: contextlib.ExitStack) -> _Forward:
    """The source opened by libsndfile; what it needs until it is closed is put on the stack."""
    if not isinstance(source, bytes):
        # By its full path, since libsndfile takes `-` for the standard input; as bytes, since a name need not be UTF-8.
        opened: Any = os.fsencode(Path(source).absolute())
        return _Forward(opened)
    if not hasattr(os, "memfd_create") or _leaves_interrupts_to_a_parent():
        return _Forward(io.BytesIO(source))
    # A file in memory, which libsndfile reads itself: of what a signal's handler raises while it reads through Python
    # nobody would hear, and the sound would end there.
    descriptor = os.memfd_create("lapis-sound")
    stack.callback(os.close, descriptor)
    written = 0
    while written < len(source):  # one call takes 2 GB at most
        written += os.pwrite(descriptor, memoryview(source)[written:], written)
    return _Forward(descriptor, closefd=False)


def _leaves_interrupts_to_a_parent() -> bool:
    """Whether this is a worker process that ends when it is told to, and not by an exception (see `data.loader`)."""
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN and multiprocessing.parent_process() is not None


def _open_content(source: File, name: str) -> io.BufferedIOBase:
    """The bytes of a file, at least one."""
    try:
        content = io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb")  # noqa: SIM115
    except FileNotFoundError:
        raise AudioError(f"{name}: expected a sound file, but there is no file of this name") from None
    except PermissionError:
        raise AudioError(f"{name}: expected a sound file, but this user has no permission to read it") from None
    except OSError as error:
        raise AudioError(f"{name}: expected a sound file, but it cannot be opened: {error.strerror}") from error
    if not content.read(1):
        content.close()
        raise AudioError(f"{name}: expected a sound file, but it is empty (0 bytes)")
    content.seek(0)
    return content


def _refuse_sample_dump(content: io.BufferedIOBase, name: str) -> None:
    """Of a MIDI sample dump that is damaged, libsndfile prints on the standard output, among what others read there."""
    head = content.read(4)
    content.seek(0)
    if len(head) == 4 and (*head[:2], head[3]) == (0xF0, 0x7E, 1):
        raise AudioError(f"{name}: expected a sound file, but this is a MIDI sample dump (SDS), which is not read")


def _open_array(array: np.ndarray, array_rate: int | None) -> _Sound:
    samples = array[:, None] if array.ndim == 1 else array
    if samples.ndim != 2 or samples.shape[1] > max(1, len(samples)) or array.dtype.kind not in "fiu":
        raise AudioError(
            "<array>: expected numbers of shape (samples,) or (samples, channels), "
            f"got {array.dtype} of shape {array.shape}"
        )
    if array_rate is None:
        raise AudioError("<array>: expected array_rate, the sample rate of the array, but none came")

    def chunks(begin: int, place: Waveform | None) -> Iterator[np.ndarray]:
        for first in range(begin, len(samples), CHUNK_SAMPLES):
            yield samples[first : first + CHUNK_SAMPLES]

    form, length = f"array/{array.dtype}", len(samples)
    return _Sound("<array>", _positive_rate(array_rate, "<array>"), samples.shape[1], form, length, length, chunks)


def _open_libsndfile(handle: soundfile.SoundFile, name: str, *, kind: str, coding: str) -> _Sound:
    length, channels = handle.frames, handle.channels

    def chunks(begin: int, place: Waveform | None) -> Iterator[np.ndarray]:
        if begin and begin < length:
            handle.seek(begin)
        if place is not None and channels == 1:
            for chunk in _read_into(place[: max(0, length - begin)], handle):
                yield chunk
                begin += len(chunk)
        while begin < length and len(chunk := handle.read(CHUNK_SAMPLES, dtype="float32", always_2d=True)):
            yield chunk
            begin += len(chunk)

    # Of a wav or aiff that was cut, libsndfile gives the length that is there, and notes the one that was promised.
    claimed = length
    note = None if kind in KINDS_WITHOUT_NOTES else CUT.search(handle.extra_info)
    if note and int(note[2]) < int(note[1]) < UNKNOWN_BYTES:
        claimed = round(length * int(note[1]) / max(1, int(note[2])))
    return _Sound(name, handle.samplerate, channels, f"{kind}/{coding}".lower(), length, claimed, chunks)


def _read_into(place: Waveform, handle: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """Mono sound decoded to where it is to lie, in few calls, of which each costs."""
    for begin in range(0, len(place), STRETCH_SAMPLES):
        stretch, before = place[begin : begin + STRETCH_SAMPLES], handle.tell()
        try:
            read = handle.read(out=stretch)
        except soundfile.SoundFileError:
            yield stretch[: handle.tell() - before, None]  # what came before the damage
            raise
        yield read[:, None]
        if len(read) < len(stretch):
            return


def _mp3_states_length(content: io.BufferedIOBase) -> bool:
    """Whether the first frame of an mp3, after its tags, is one that counts the others."""
    content.seek(0)
    head = content.read(10)
    # An ID3 tag gives its size in four bytes of seven bits.
    tag_bytes = 10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0))) if head[:3] == b"ID3" else 0
    content.seek(tag_bytes)
    first_frame = content.read(1441)  # The longest that layer III allows.
    content.seek(0)
    return any(mark in first_frame for mark in (b"Xing", b"Info", b"VBRI"))


def _container(content: io.BufferedIOBase, name: str) -> InputContainer:
    """Open with FFmpeg what libsndfile does not read."""
    content.seek(0)
    head = content.read(16)
    content.seek(0)
    try:
        # Old tags are often Latin-1: a title that is not UTF-8 is no reason to refuse the sound.
        container = av.open(content, mode="r", metadata_errors="replace", options={"format_whitelist": CONTAINERS})
    except (FFmpegError, ValueError) as error:
        raise AudioError(
            f"{name}: expected a sound file (wav, flac, ogg, opus, mp3, aiff, m4a, webm, ...), "
            f"but neither libsndfile nor FFmpeg can open the content, which begins {head!r}"
        ) from error
    if not container.streams.audio:
        container.close()
        raise AudioError(f"{name}: expected a sound file, but this {container.format.long_name} holds no sound")
    if container.streams.audio[0].codec_context is None:
        container.close()
        raise AudioError(f"{name}: expected sound, but that of this {container.format.long_name} is in no known coding")
    return container


def _open_ffmpeg(container: InputContainer, name: str) -> _Sound:
    stream = container.streams.audio[0]
    rate, kind = _positive_rate(stream.sample_rate, name), container.format.name.split(",")[0]
    time_base = stream.time_base or Fraction(1, rate)

    def chunks(begin: int, place: Waveform | None) -> Iterator[np.ndarray]:
        position: int | None = 0
        first_time = 0
        before = begin - round(PREROLL_SECONDS * rate)
        if before > 0 and kind in CONTAINERS_WITH_EXACT_TIMES:
            first_time = next((frame.pts for frame in container.decode(stream)), None) or 0
            container.seek(first_time + int(before / rate / time_base), stream=stream, backward=True)
            position = None
        for frame in container.decode(stream):
            if position is None:
                position = round(((frame.pts or 0) - first_time) * time_base * rate)
                if position > begin:
                    raise AudioError(f"{name}: expected to find {begin / rate:.2f} s, but its index leads beyond it")
            channels = frame.layout.nb_channels
            if (frame.sample_rate, channels) != (rate, stream.channels):
                raise AudioError(
                    f"{name}: expected {rate} Hz and {stream.channels} channels throughout, "
                    f"but {frame.sample_rate} Hz and {channels} channels came"
                )
            samples = frame.to_ndarray()
            samples = samples.T if frame.format.is_planar else samples.reshape(-1, channels)
            if position + len(samples) > begin:
                yield samples[max(0, begin - position) :]
            position += len(samples)

    length = None
    if stream.duration is not None and kind not in CONTAINERS_WITHOUT_LENGTH:
        length = round(stream.duration * time_base * rate)
    elif container.duration is not None and kind not in CONTAINERS_WITHOUT_LENGTH and len(container.streams) == 1:
        length = round(container.duration * rate / av.time_base)
    form = f"{kind}/{stream.codec_context.codec.canonical_name}"
    return _Sound(name, rate, stream.channels, form, length, length, chunks)


def _samples(
    sound: _Sound, begin: int = 0, end: int | None = None, *, place: Waveform | None = None
) -> Iterator[Waveform]:
    """The sound from one sample up to another, mono, chunk after chunk, checked on the way; see `_Sound` on `place`."""
    position = begin
    try:
        for chunk in sound.chunks(begin, place):
            mono = _mono(chunk if end is None else chunk[: end - position])
            # The extremes, since a flag for every sample would cost a clip of Opus a hundredth of its decoding.
            if len(mono) and not (math.isfinite(mono.max()) and math.isfinite(mono.min())):
                at = f"{(position + int(np.argmin(np.isfinite(mono)))) / sound.sample_rate:.3f} s"
                raise AudioError(f"{sound.name}: expected finite samples, but there is NaN or infinity at {at}")
            yield mono
            position += len(mono)
            if position == end:
                return
    except (soundfile.SoundFileError, FFmpegError) as error:
        there = f"{position / sound.sample_rate:.2f} s"
        if position == begin:
            raise AudioError(f"{sound.name}: expected sound, but none can be decoded at {there} ({error})") from error
        warnings.warn(f"{sound.name}: decoding breaks off after {there} ({error})", AudioWarning, stacklevel=2)
        return
    if position == 0:
        raise AudioError(f"{sound.name}: expected sound, but this {sound.format} holds no samples")
    missing_seconds = ((sound.claimed_samples or position) - position) / sound.sample_rate
    if missing_seconds > MINIMUM_SECONDS and position > begin:
        there = position / sound.sample_rate
        message = f"{sound.name}: its header promises {there + missing_seconds:.2f} s, but only {there:.2f} s are there"
        warnings.warn(message, AudioWarning, stacklevel=2)


def _whole(sound: _Sound, begin: int, end: int | None, *, place: Waveform | None) -> Waveform:
    """The sound from one sample up to another as one array: a view of `place` where that is large enough.

    What can be is decoded to its place there, since touching new memory twice costs a clip of Opus a twentieth of its
    decoding; what a header promises beyond `EXPECTED_SAMPLES` waits until it has come.
    """
    until = sound.num_samples if end is None or sound.num_samples is None else min(end, sound.num_samples)
    expected = min(max(0, (until or 0) - begin), EXPECTED_SAMPLES)
    whole = np.empty(expected, np.float32) if place is None or len(place) < expected else place[:expected]
    owner = whole if whole.base is None else whole.base
    filled = 0
    further: list[Waveform] = []
    for chunk in _samples(sound, begin, end, place=whole):
        if further or filled + len(chunk) > len(whole):
            further.append(chunk)
            continue
        if chunk.base is not owner:
            whole[filled : filled + len(chunk)] = chunk
        filled += len(chunk)
    if further or filled < len(whole):
        return np.concatenate([whole[:filled], *further])
    return whole


def _mono(samples: np.ndarray) -> Waveform:
    """The mean of the channels, (samples, channels) to (samples,), as float32 in [-1, 1]."""
    if samples.dtype.kind in "iu":
        half = np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
        samples = samples.astype(np.float32) / half - np.float32(samples.dtype.kind == "u")
    channels = samples.astype(np.float32, copy=False).T
    if len(channels) == 1:
        return channels[0]
    # Divided before the sum, so that huge values cannot overflow; a loop, since numpy is slow over so short an axis.
    mono = channels[0] / np.float32(len(channels))
    for channel in channels[1:]:
        mono += channel / np.float32(len(channels))
    return mono


def _resampled(sound: _Sound, sample_rate: int) -> Iterator[Waveform]:
    """The whole sound at another rate, chunk after chunk: the same samples as `resample` gives at once."""
    if sample_rate == sound.sample_rate:
        yield from _samples(sound)
        return
    stream = soxr.ResampleStream(sound.sample_rate, sample_rate, 1, dtype="float32", quality="HQ")
    for chunk in _samples(sound):
        yield stream.resample_chunk(chunk)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _positive_rate(rate: int, name: str) -> int:
    if rate <= 0:
        raise AudioError(f"{name}: expected a sample rate above 0 Hz, got {rate}")
    return rate


def _check_hop(window_seconds: Seconds, hop_seconds: Seconds) -> None:
    if not 0 < hop_seconds <= window_seconds < math.inf:
        raise ValueError(f"expected 0 < hop <= window, got a hop of {hop_seconds} s and a window of {window_seconds} s")
