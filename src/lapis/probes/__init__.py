"""Six real sounds of one second and a sentence for each: what the doctor asks a model, to see whether it is well.

The sounds differ as much as sounds can, and so do the sentences; a model that is well can tell them apart. They are
kept without loss, so that every machine asks exactly the same. Origin and licence: README.md in this folder.
"""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from lapis import audio
from lapis.shapes import Waveform


@dataclass(frozen=True)
class Probe:
    """The name of a sound, which is that of its file, and what is heard in it."""

    name: str
    sentence: str

    @property
    def content(self) -> bytes:
        """The bytes of the sound's file: FLAC, 16 kHz, mono."""
        return resources.files(__name__).joinpath(f"{self.name}.flac").read_bytes()


PROBES = (
    Probe("birds", "Birds are singing in the trees."),
    Probe("crowd", "Many people are talking in a busy restaurant."),
    Probe("water", "Water is rushing down a waterfall."),
    Probe("cow", "A cow is mooing."),
    Probe("engine", "The engine of a truck is running."),
    Probe("cymbal", "Somebody strikes a cymbal."),
)


def sounds(*, sample_rate: int) -> list[Waveform]:
    """The sounds in the order of `PROBES`, resampled where the rate is not 16 kHz."""
    return [audio.read(probe.content, sample_rate=sample_rate) for probe in PROBES]


def sentences() -> list[str]:
    """The sentences, in the same order."""
    return [probe.sentence for probe in PROBES]


@cache
def digest() -> bytes:
    """SHA-256 of all sounds and sentences, 32 bytes: answers can be compared where it is the same."""
    whole = hashlib.sha256()
    for probe in PROBES:
        for part in (probe.content, probe.sentence.encode()):
            whole.update(hashlib.sha256(part).digest())
    return whole.digest()
