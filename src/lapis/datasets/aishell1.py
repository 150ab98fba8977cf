"""AISHELL-1: Mandarin sentences read by 400 speakers.

As published: `data_aishell/transcript/aishell_transcript_v0.8.txt` (name, then words with spaces between them) and
`data_aishell/wav/train/S0002/BAC009S0002W0122.wav`, a folder a speaker once its archive is unpacked. A few recordings
have no transcript.
"""

from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, pairs, warn_missing


@dataclass(frozen=True)
class Aishell1:
    """A split. The spaces between words, which Chinese does not write, are taken out."""

    split: Literal["train", "dev", "test"]
    folder: str = "data_aishell"

    def build(self) -> list[Sample]:
        """The sentences that have a transcript.

        Raises:
            ValueError: the folder or the transcript is not there or is another, or no recording is there.
        """
        root = ABOUT.root(self)
        table = root / "transcript" / "aishell_transcript_v0.8.txt"
        texts = {name: "".join(words.split()) for name, words in pairs(table)}
        sounds = Sounds(root / "wav" / self.split)
        samples, silent = [], []
        for name, audio in sounds:
            text = texts.get(audio.path.stem)
            if text is None:
                silent.append(name)
                continue
            samples.append(
                Sample(
                    key=audio.path.stem,
                    audio=audio,
                    captions={"zho_Hans": (text,)},
                    domain="speech",
                    language="zho_Hans",
                    transcript=text,
                    speaker=audio.path.parent.name,
                    split=self.split,
                )
            )
        if silent:
            warn_missing(
                f"{len(silent):,} of {len(silent) + len(samples):,} recordings in {sounds.folder} have no line in "
                f"{table} and are left out; the first is {silent[0]!r}"
            )
        return sounds.settle(samples, table=sounds.folder)


ABOUT = About(
    source=Aishell1,
    name="AISHELL-1",
    homepage="https://www.openslr.org/33/",
    licence="Apache-2.0",
    paper="arXiv:1709.05522",
    domain="speech",
    languages=("zho_Hans",),
    splits={"train": 120_098, "dev": 14_326, "test": 7_176},
    hours=178.0,
    obtain="Unpack data_aishell.tgz of https://www.openslr.org/33/ in the data folder, then the archives of the "
    "speakers in `data_aishell/wav`.",
    checksums={"data_aishell.tgz": "md5:2f494334227864a8a8fec932999db9d8"},
)
