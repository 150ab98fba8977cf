"""AISHELL-2: a thousand hours of Mandarin read into telephones, and tests on three kinds of microphone.

As published: `AISHELL-2/iOS/data` for training and `AISHELL-DEV-TEST-SET/iOS/dev` and so on (also `Android` and `Mic`),
each with `wav.scp` (name, path within), `trans.txt` (name, text) and the folder `wav`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, pairs


@dataclass(frozen=True)
class Aishell2:
    """A split, as one kind of microphone has it; train is there for iOS only."""

    split: Literal["train", "dev", "test"]
    channel: Literal["iOS", "Android", "Mic"] = "iOS"
    folder: str = "aishell2"

    def build(self) -> list[Sample]:
        """The sentences.

        Raises:
            ValueError: the folder or a list is not there, a recording has no text, or no recording is there.
        """
        root = ABOUT.root(self)
        if self.split == "train" and self.channel != "iOS":
            raise ValueError(f"{ABOUT.name} has its training part for 'iOS' only, got {self.channel!r}")
        if self.split == "train":
            part = root / "AISHELL-2" / "iOS" / "data"
        else:
            part = root / "AISHELL-DEV-TEST-SET" / self.channel / self.split
        table, texts = part / "wav.scp", dict(pairs(part / "trans.txt"))
        sounds = Sounds(part)
        samples = []
        for name, path in pairs(table):
            if name not in texts:
                raise ValueError(f"{part / 'trans.txt'}: expected the text of {name}, which is in {table}")
            audio = sounds.find(path)
            if audio is not None:
                samples.append(
                    Sample(
                        key=name,
                        audio=audio,
                        captions={"zho_Hans": (texts[name],)},
                        domain="speech",
                        language="zho_Hans",
                        transcript=texts[name],
                        speaker=Path(path).parent.name,
                        split=self.split,
                    )
                )
        return sounds.settle(samples, table=table)


ABOUT = About(
    source=Aishell2,
    name="AISHELL-2",
    homepage="https://www.aishelltech.com/aishell_2",
    licence="for academic research, on application",
    paper="arXiv:1808.10583",
    domain="speech",
    languages=("zho_Hans",),
    splits={"train": None, "dev": None, "test": None},
    hours=1_000.0,
    obtain="Apply at the homepage; put `AISHELL-2` and `AISHELL-DEV-TEST-SET` in `aishell2` in the data folder.",
)
