"""Sound that comes with a request: out of a data address or a file of a form, decoded within what is allowed."""

import base64
import binascii
import weakref

import numpy as np

from lapis import audio
from lapis.model import check_waveforms
from lapis.serve.limits import Budget
from lapis.serve.refusal import Refusal
from lapis.shapes import Waveform

LEAST_HERTZ = 1000
MOST_CHANNELS = 32
"""A header may claim any rate and number of channels, and little content would become much sound."""


def content_of(address: str, *, name: str) -> bytes:
    """What a data address holds: `data:audio/wav;base64,...`; the kind it claims is not believed, nor needed.

    Raises:
        Refusal: it is no such address. Others are not fetched.
    """
    head, comma, tail = address.partition(",")
    if not (comma and head.lower().startswith("data:") and head.lower().endswith(";base64")):
        raise Refusal(
            422, f"{name}: expected a sound as data:audio/...;base64,... (no address is fetched)", "sound", name
        )
    try:
        content = base64.b64decode(tail, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(422, f"{name}: expected base64 after the comma", "sound", name) from None
    if not content:
        raise Refusal(422, f"{name}: expected a sound, but it is empty (0 bytes)", "sound", name)
    return content


def decoded(
    content: bytes, *, sample_rate: int, most_seconds: float, held: Budget, used_seconds: float = 0.0
) -> Waveform:
    """The sound at a rate, checked on the way. Its seconds stay taken from `held` as long as the array lives.

    `used_seconds` of the most have been used by the request's other sounds. A damaged or cut file is refused where
    `lapis.audio.AudioWarning` is an error, as it is while an app runs.

    Raises:
        Refusal: it cannot be read, is longer than allowed, or there is no room for it now.
    """
    pieces: list[Waveform] = []
    seconds = 0.0
    try:
        rate, channels = audio.form(content)
        if rate < LEAST_HERTZ or channels > MOST_CHANNELS:
            raise Refusal(
                422,
                f"expected a sound of {LEAST_HERTZ} Hz or more and at most {MOST_CHANNELS} channels, "
                f"got {rate} Hz and {channels} channels",
                "sound",
            )
        for piece in audio.chunks(content, sample_rate=sample_rate):
            more = len(piece) / sample_rate
            if used_seconds + seconds + more > most_seconds:
                raise Refusal(413, f"the sounds of a request may last {most_seconds:g} s here", "duration")
            held.take(more)
            seconds += more
            pieces.append(piece)
        # An array of its own, whatever buffer the pieces are views of.
        waveform = np.concatenate([*pieces, np.zeros(0, np.float32)])
        check_waveforms([waveform])
    except BaseException as error:
        held.give(seconds)
        pieces.clear()  # the error knows this frame
        if isinstance(error, ValueError | audio.AudioWarning):
            sentence = str(error).replace("<bytes>", "the sound").replace("clip 0", "the sound")
            raise Refusal(422, sentence, "sound") from error
        raise
    # Whoever holds it: a request, a batch, a thread that goes on.
    weakref.finalize(waveform, held.give, seconds).atexit = False
    return waveform
