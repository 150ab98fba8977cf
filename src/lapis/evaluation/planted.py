"""Scenes whose events are known to the sample: clips of a corpus placed in noise, the same ones whenever they are made.

The noise is pink, which no class of sound is; a clip's silence at its edges is cut away, so that an event begins and
ends where something is heard.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from jaxtyping import Float64

from lapis import audio
from lapis.data.sample import Sample
from lapis.evaluation.embeddings import Failure
from lapis.search.events import Event
from lapis.shapes import Waveform

RATE = 16_000
"""At which clips are looked at and noise is made, whatever a model takes."""
STEP_SECONDS = 0.02
SILENCE_DECIBELS = -40.0
"""Below the loudest step of a clip: silence at its edges."""
NOISE_DECIBELS = -40.0
"""Below full scale, the noise's root mean square."""
GAP_SECONDS = 0.3
SHORTEST_SECONDS = 0.1


@dataclass(frozen=True)
class Planted:
    """A part of a clip in a scene."""

    clip: Sample
    from_seconds: float
    """Where the part begins in the clip."""
    gain: float
    event: Event


@dataclass(frozen=True)
class Scene:
    """A long sound of which it is known what is heard when."""

    key: str
    seconds: float
    planted: tuple[Planted, ...]
    seed: int
    """Of its noise."""

    @property
    def events(self) -> tuple[Event, ...]:
        """In the order of time; no two at once."""
        return tuple(part.event for part in self.planted)

    def waveform(self, *, sample_rate: int) -> Waveform:
        """The sound, scaled down as a whole where it would be louder than full scale.

        Raises:
            ValueError: a clip cannot be read.
        """
        whole = audio.resample(_pink(round(self.seconds * RATE), self.seed), from_rate=RATE, to_rate=sample_rate)
        whole = whole[: round(self.seconds * sample_rate)].copy()
        for part in self.planted:
            length = part.event.end_seconds - part.event.begin_seconds
            sound = audio.read(
                part.clip.audio.open(), sample_rate=sample_rate, start_seconds=part.from_seconds, seconds=length
            )
            begin = round(part.event.begin_seconds * sample_rate)
            whole[begin : begin + len(sound)] += np.float32(part.gain) * sound[: len(whole) - begin]
        return whole / max(1.0, float(np.abs(whole).max()))


@dataclass(frozen=True)
class PlantedScenes(Sequence[Scene]):
    """Scenes, and the clips that are in none of them."""

    scenes: tuple[Scene, ...]
    failures: tuple[Failure, ...] = ()
    """Clips that cannot be read or are silent."""

    def __len__(self) -> int:
        return len(self.scenes)

    @overload
    def __getitem__(self, index: int) -> Scene: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Scene, ...]: ...

    def __getitem__(self, index: int | slice) -> Scene | tuple[Scene, ...]:
        return self.scenes[index]


def planted_events(
    clips: Sequence[Sample],
    *,
    scenes: int | None = None,
    seconds: float = 20.0,
    events: int = 4,
    longest_seconds: float = 3.0,
    decibels: tuple[float, float] = (10.0, 30.0),
    seed: int = 0,
) -> PlantedScenes:
    """Scenes of labelled clips, dealt so that each clip comes once before any comes again.

    A clip that cannot be read or is silent is in none of them, and among the `failures`.

    Args:
        clips: with one label each.
        scenes: how many; as many as it takes for each clip to come once, unless told.
        seconds: of a scene.
        events: in a scene, with a gap of 0.3 s at least around each.
        longest_seconds: of an event; a longer clip is cut.
        decibels: between which an event is louder than the noise.
        seed: of all that is drawn.

    Raises:
        ValueError: a clip has not one label, fewer clips than a scene has events can be planted, or the events do not
            fit into a scene.
    """
    if len(clips) < events or events < 1:
        raise ValueError(f"expected {events} clips for a scene or more, got {len(clips)}")
    if events * (longest_seconds + GAP_SECONDS) + GAP_SECONDS > seconds:
        raise ValueError(f"{events} events of up to {longest_seconds} s do not fit into {seconds} s")
    for clip in clips:
        if len(clip.labels) != 1:
            raise ValueError(f"clip {clip.key}: expected one label, got {clip.label!r}")
    heard: list[_Part] = []
    failures: list[Failure] = []
    for clip in clips:
        try:
            heard.append(_heard(clip, longest_seconds))
        except (OSError, ValueError) as error:
            failures.append(Failure(clip, str(error)))
    if len(heard) < events:
        reasons = "".join(f"; {failure}" for failure in failures[:3])
        raise ValueError(f"expected {events} clips for a scene or more, got {len(heard)}{reasons}")
    random = np.random.default_rng(seed)
    deck: list[int] = []
    made = []
    for number in range(-(-len(heard) // events) if scenes is None else scenes):
        if len(deck) < events:
            left = set(deck)
            deck += [int(clip) for clip in random.permutation(len(heard)) if clip not in left]
        dealt, deck = deck[:events], deck[events:]
        lengths = np.array([heard[clip].seconds for clip in dealt])
        gaps = GAP_SECONDS + random.dirichlet(np.ones(events + 1)) * (
            seconds - lengths.sum() - GAP_SECONDS * (events + 1)
        )
        begins = np.round(np.cumsum(gaps[:-1]) + np.cumsum(lengths) - lengths, 3)
        louder = random.uniform(*decibels, size=events)
        planted = tuple(
            Planted(
                heard[clip].clip,
                heard[clip].from_seconds,
                float(10 ** ((NOISE_DECIBELS + above) / 20) / heard[clip].level),
                Event(heard[clip].clip.labels[0], float(begin), float(begin + length)),
            )
            for clip, begin, length, above in zip(dealt, begins, lengths, louder)
        )
        made.append(Scene(f"planted-{seed}-{number:04}", seconds, planted, seed=seed * 1_000_003 + number))
    return PlantedScenes(tuple(made), tuple(failures))


@dataclass(frozen=True)
class _Part:
    """Where in a clip something begins to be heard, for how long, and its root mean square."""

    clip: Sample
    from_seconds: float
    seconds: float
    level: float


def _heard(clip: Sample, longest_seconds: float) -> _Part:
    waveform = audio.read(clip.audio.open(), sample_rate=RATE).astype(np.float64)
    step = round(STEP_SECONDS * RATE)
    starts = np.arange(0, len(waveform), step)
    power = np.add.reduceat(waveform**2, starts) / step
    if not power.max() > 0:
        raise ValueError("silent, so it cannot be planted")
    loud = np.flatnonzero(power > power.max() * 10 ** (SILENCE_DECIBELS / 10))
    begin, end = loud[0] * step, min((loud[-1] + 1) * step, len(waveform))
    # A click needs some time around it to be an event, where the clip has it.
    end = min(max(end, begin + round(SHORTEST_SECONDS * RATE)), len(waveform), begin + round(longest_seconds * RATE))
    level = float(np.sqrt((waveform[begin:end] ** 2).mean()))
    return _Part(clip, float(begin / RATE), float((end - begin) / RATE), level)


def _pink(num_samples: int, seed: int) -> Waveform:
    """Noise whose power falls with frequency, from 20 Hz on."""
    random = np.random.default_rng(seed)
    hertz = np.fft.rfftfreq(num_samples, 1 / RATE)
    spectrum = random.normal(size=len(hertz)) + 1j * random.normal(size=len(hertz))
    spectrum *= np.where(hertz >= 20, 1 / np.sqrt(np.maximum(hertz, 20)), 0)
    noise: Float64[np.ndarray, "samples"] = np.fft.irfft(spectrum, num_samples)
    return (noise / np.sqrt((noise**2).mean()) * 10 ** (NOISE_DECIBELS / 20)).astype(np.float32)
