"""Instrument notes, chords and short phrases, written as MIDI and rendered with fluidsynth from Fluid R3."""

from __future__ import annotations

import random
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from audio import SAMPLE_RATE, Waveform, decode

SLOT_SECONDS = 6.0
TICKS_PER_SECOND = 480
PERCUSSION_CHANNEL = 9


@dataclass(frozen=True)
class Instrument:
    """General MIDI programs and the key range that a class is played in; percussion lists drum keys instead."""

    programs: tuple[int, ...]
    keys: tuple[int, ...]
    sustained: bool = True
    chords: bool = False
    percussion: bool = False


def span(low: int, high: int) -> tuple[int, ...]:
    """Return the MIDI keys from low to high inclusive."""
    return tuple(range(low, high + 1))


INSTRUMENTS = {
    "piano": Instrument((0, 1), span(30, 92), sustained=False, chords=True),
    "organ": Instrument((16, 17, 19), span(36, 84), chords=True),
    "harmonium": Instrument((20, 21), span(40, 80), chords=True),
    "acoustic guitar": Instrument((24, 25), span(40, 76), sustained=False, chords=True),
    "electric guitar": Instrument((26, 27, 28, 29), span(40, 79), sustained=False, chords=True),
    "bass guitar": Instrument((33, 34), span(28, 55), sustained=False),
    "violin": Instrument((40,), span(55, 93)),
    "cello": Instrument((42,), span(36, 72)),
    "double bass": Instrument((43, 32), span(28, 55)),
    "harp": Instrument((46,), span(30, 92), sustained=False, chords=True),
    "trumpet": Instrument((56, 59), span(54, 84)),
    "trombone": Instrument((57,), span(36, 70)),
    "tuba": Instrument((58,), span(28, 58)),
    "French horn": Instrument((60,), span(38, 74)),
    "saxophone": Instrument((64, 65, 66, 67), span(45, 82)),
    "bassoon": Instrument((70,), span(34, 70)),
    "clarinet": Instrument((71,), span(50, 88)),
    "flute": Instrument((73,), span(60, 94)),
    "xylophone": Instrument((13,), span(60, 100), sustained=False),
    "kick drum": Instrument((0, 8, 16, 25), (35, 36), sustained=False, percussion=True),
    "snare drum": Instrument((0, 8, 16, 25, 40), (38, 40), sustained=False, percussion=True),
    "tom-tom": Instrument((0, 8, 16, 25), (41, 43, 45, 47, 48, 50), sustained=False, percussion=True),
    "cymbal": Instrument((0, 8, 40), (42, 46, 49, 51, 52, 55, 57, 59), sustained=False, percussion=True),
    "hand drum": Instrument((0,), (60, 61, 62, 63, 64, 65, 66), sustained=False, percussion=True),
}

MAJOR_SCALE = (0, 2, 4, 5, 7, 9, 11, 12)
MINOR_SCALE = (0, 2, 3, 5, 7, 8, 10, 12)
CHORDS = ((0, 4, 7), (0, 3, 7), (0, 4, 7, 12), (0, 4, 7, 10))


@dataclass(frozen=True)
class Note:
    """One key held from a start to an end time, in seconds within its slot."""

    key: int
    start: float
    stop: float
    velocity: int


@dataclass(frozen=True)
class Performance:
    """What one rendered clip plays: the kind of material, the program, its notes and its effect levels."""

    kind: str
    program: int
    notes: tuple[Note, ...]
    reverb: int
    chorus: int
    seconds: float

    @property
    def source_id(self) -> str:
        """Name the render by everything that determines it."""
        keys = ".".join(str(note.key) for note in self.notes)
        settings = f"program={self.program};keys={keys};velocity={self.notes[0].velocity}"
        return f"FluidR3_GM.sf2#{self.kind};{settings};reverb={self.reverb};seconds={self.seconds}"


def held_out_key(key: int) -> bool:
    """Tell whether single notes of this key are kept for validation."""
    return key % 7 == 3


def phrase(instrument: Instrument, generator: random.Random) -> tuple[Note, ...]:
    """Write a short scale-wise melody of 3 to 7 notes."""
    scale = generator.choice((MAJOR_SCALE, MINOR_SCALE))
    root = generator.choice([key for key in instrument.keys if key + 12 <= instrument.keys[-1]])
    beat = generator.choice((0.25, 0.33, 0.45))
    degree, clock, notes = generator.randrange(len(scale)), 0.0, []
    for _ in range(generator.randint(3, 7)):
        length = beat * generator.choice((1, 1, 2))
        notes.append(Note(root + scale[degree], clock, clock + length * 0.92, generator.randint(70, 115)))
        clock += length
        degree = min(len(scale) - 1, max(0, degree + generator.choice((-2, -1, 1, 1, 2))))
    return tuple(notes)


def percussion_pattern(instrument: Instrument, generator: random.Random) -> tuple[Note, ...]:
    """Write one stroke, or two to five strokes on the same drum."""
    key = generator.choice(instrument.keys)
    count = generator.choice((1, 1, 1, 2, 3, 4, 5))
    gap = generator.choice((0.18, 0.25, 0.4))
    return tuple(Note(key, i * gap, i * gap + 0.15, generator.randint(55, 125)) for i in range(count))


def compose(name: str, count: int) -> list[Performance]:
    """Choose what `count` clips of a class play, always the same for the same class and count."""
    instrument = INSTRUMENTS[name]
    generator = random.Random(f"pocket {name}")
    performances: list[Performance] = []
    seen: set[str] = set()
    while len(performances) < count:
        chance = generator.random()
        if instrument.percussion:
            kind, notes = "strokes", percussion_pattern(instrument, generator)
        elif chance < 0.62:
            key = generator.choice(instrument.keys)
            kind, notes = "note", (Note(key, 0.0, generator.choice((0.5, 1.0, 1.5, 2.2)), generator.randint(50, 120)),)
        elif chance < 0.75 and instrument.chords:
            root = generator.choice([key for key in instrument.keys if key + 12 <= instrument.keys[-1]])
            strum = generator.choice((0.0, 0.02, 0.05))
            velocity, length = generator.randint(60, 110), generator.choice((0.8, 1.5, 2.0))
            intervals = generator.choice(CHORDS)
            kind, notes = "chord", tuple(Note(root + j, i * strum, length, velocity) for i, j in enumerate(intervals))
        else:
            kind, notes = "phrase", phrase(instrument, generator)
        stop = max(note.stop for note in notes)
        ring = 0.25 if instrument.sustained else 0.7
        seconds = round(min(stop + ring, 2.1), 2)
        performance = Performance(
            kind,
            generator.choice(instrument.programs),
            notes,
            generator.choice((0, 20, 50, 90)),
            generator.choice((0, 0, 30)),
            seconds,
        )
        if performance.source_id not in seen:
            seen.add(performance.source_id)
            performances.append(performance)
    return performances


def variable_length(value: int) -> bytes:
    """Encode a MIDI delta time."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))


def midi_file(performances: list[Performance], channel: int) -> bytes:
    """Write all performances into one MIDI track, one slot of fixed length after the other."""
    events: list[tuple[int, int, bytes]] = []
    for index, performance in enumerate(performances):
        base = index * SLOT_SECONDS
        setup = round(base * TICKS_PER_SECOND)
        controls = ((91, performance.reverb), (93, performance.chorus), (7, 110))
        events.append((setup, 0, bytes((0xC0 | channel, performance.program))))
        events += [(setup, 0, bytes((0xB0 | channel, number, value))) for number, value in controls]
        for note in performance.notes:
            start, stop = (round((base + 0.1 + time) * TICKS_PER_SECOND) for time in (note.start, note.stop))
            events.append((start, 2, bytes((0x90 | channel, note.key, note.velocity))))
            events.append((stop, 1, bytes((0x80 | channel, note.key, 0))))
    events.sort(key=lambda event: event[:2])
    track, clock = bytearray(b"\x00\xff\x51\x03" + (1_000_000).to_bytes(3, "big")), 0
    for tick, _, message in events:
        track += variable_length(tick - clock) + message
        clock = tick
    track += variable_length(TICKS_PER_SECOND * 8) + b"\xff\x2f\x00"
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS_PER_SECOND)
    return header + b"MTrk" + struct.pack(">I", len(track)) + bytes(track)


def render(name: str, performances: list[Performance], soundfont: Path, work: Path) -> list[Waveform]:
    """Render all performances of a class in one fluidsynth run and cut the result into clips."""
    work.mkdir(parents=True, exist_ok=True)
    channel = PERCUSSION_CHANNEL if INSTRUMENTS[name].percussion else 0
    stem = work / name.replace(" ", "-").lower()
    stem.with_suffix(".mid").write_bytes(midi_file(performances, channel))
    command = ["fluidsynth", "-q", "-n", "-i", "-g", "0.7", "-r", "32000", "-o", "synth.cpu-cores=1"]
    command += ["-o", "synth.midi-bank-select=gm"] if channel != PERCUSSION_CHANNEL else []
    command += ["-F", str(stem.with_suffix(".wav")), str(soundfont), str(stem.with_suffix(".mid"))]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wave = decode(stem.with_suffix(".wav"))
    stem.with_suffix(".wav").unlink()
    clips = []
    for index, performance in enumerate(performances):
        start = round((index * SLOT_SECONDS + 0.07) * SAMPLE_RATE)
        clip = wave[start : start + round((performance.seconds + 0.05) * SAMPLE_RATE)].copy()
        tail = round(0.08 * SAMPLE_RATE)
        clip[-tail:] *= 0.5 * (1 + np.cos(np.linspace(0, np.pi, tail)))
        clips.append(clip)
    return clips
