"""Surge: notes of the presets of a synthesiser, for telling pitches apart.

As published: a folder a preset and velocity, such as `surge-patches-3rdparty-Argitoth-Drums-Kick-velocity64`, with a
file a MIDI pitch, `60.ogg`. There are no official splits; the field uses EVAR's, `dataset_surge_tone_splits.csv` with
`tone` and `split`, which keeps a preset in one of them.
"""

from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, rows


@dataclass(frozen=True)
class Surge:
    """A part of EVAR's split, or all there is; the label is the MIDI pitch."""

    split: Literal["train", "valid", "test", "all"]
    folder: str = "surge"

    def build(self) -> list[Sample]:
        """The notes.

        Raises:
            ValueError: the folder or the table of splits is not there, a preset is not in it, a file has another name,
                or no note is there.
        """
        root = ABOUT.root(self)
        table = root / "dataset_surge_tone_splits.csv"
        splits = {} if self.split == "all" else {row["tone"]: row["split"] for row in rows(table, ["tone", "split"])}
        sounds = Sounds(root)
        samples = []
        for name, audio in sounds:
            tone, pitch = audio.path.parent.name, audio.path.stem
            if not pitch.isdecimal():
                raise ValueError(f"{audio}: expected a MIDI pitch as the name, such as 60.ogg")
            if self.split != "all" and tone not in splits:
                raise ValueError(f"{table}: expected a split of {tone!r}, there is none")
            if self.split in ("all", splits.get(tone)):
                samples.append(
                    Sample(key=name, audio=audio, label=pitch, domain="music", source=tone, split=self.split)
                )
        return sounds.settle(samples, table=root)


ABOUT = About(
    source=Surge,
    name="Surge synthesizer pitch dataset",
    homepage="https://zenodo.org/records/4677097",
    licence="not verified; see the homepage",
    paper="arXiv:2104.12922",
    domain="music",
    languages=(),
    splits={"train": None, "valid": None, "test": None, "all": None},
    obtain="Unpack the archive of https://zenodo.org/records/4677097 in `surge` in the data folder, and put "
    "dataset_surge_tone_splits.csv there, from evar/predefined of https://github.com/nttcslab/eval-audio-repr.",
)
