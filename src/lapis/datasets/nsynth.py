"""NSynth: 305,979 single notes of four seconds from 1,006 instruments.

As published: `nsynth-train/examples.json`, an object by note, and `nsynth-train/audio/bass_acoustic_000-024-025.wav`.
No instrument of train is in valid or test.
"""

from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, read_json


@dataclass(frozen=True)
class Nsynth:
    """A split, labelled by the family of the instrument, by how it makes sound, or by the MIDI pitch."""

    split: Literal["train", "valid", "test"]
    label: Literal["instrument_family_str", "instrument_source_str", "pitch"] = "instrument_family_str"
    folder: str = "nsynth"

    def build(self) -> list[Sample]:
        """The notes.

        Raises:
            ValueError: the folder or the table is not there or is another, or no note is there.
        """
        root = ABOUT.root(self) / f"nsynth-{self.split}"
        table = root / "examples.json"
        notes = read_json(table)
        if not isinstance(notes, dict):
            raise ValueError(f"{table}: expected an object by note, got {type(notes).__name__}")
        sounds = Sounds(root / "audio")
        samples = []
        for name, note in notes.items():
            if self.label not in note:
                raise ValueError(f"{table}, note {name}: no {self.label!r}; it has {sorted(note)}")
            audio = sounds.find(name)
            if audio is not None:
                label = str(note[self.label]).replace("_", " ")
                samples.append(
                    Sample(key=name, audio=audio, seconds=4.0, label=label, domain="music", split=self.split)
                )
        return sounds.settle(samples, table=table)


ABOUT = About(
    source=Nsynth,
    name="NSynth",
    homepage="https://magenta.tensorflow.org/datasets/nsynth",
    licence="CC-BY-4.0",
    paper="arXiv:1704.01279",
    domain="music",
    languages=(),
    splits={"train": 289_205, "valid": 12_678, "test": 4_096},
    hours=340.0,
    obtain="Unpack nsynth-train.jsonwav.tar.gz, -valid and -test of https://magenta.tensorflow.org/datasets/nsynth in "
    "`nsynth` in the data folder.",
)
