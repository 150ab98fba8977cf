"""CREMA-D: twelve sentences spoken by 91 actors in six emotions.

As published: `AudioWAV/1001_DFA_ANG_XX.wav`: actor, sentence, emotion, level. One name ends in `_X` instead of `_XX`
(`1040_ITH_SAD_X.wav`). The authors report that `1076_MTI_SAD_XX.wav` has no sound and that `1064_IEO_DIS_MD.wav` holds
every emotion of the sentence; both are listed here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds

NAME = re.compile(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_(LO|MD|HI|XX?)")
SENTENCES: Mapping[str, str] = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
EMOTIONS: Mapping[str, str] = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happy",
    "NEU": "neutral",
    "SAD": "sad",
}


@dataclass(frozen=True)
class CremaD:
    """All recordings, labelled by the emotion that was meant; there are no official splits."""

    split: Literal["all"] = "all"
    folder: str = "crema_d"

    def build(self) -> list[Sample]:
        """The recordings.

        Raises:
            ValueError: the folder is not there, a file has another name, or no recording is there.
        """
        sounds = Sounds(ABOUT.root(self) / "AudioWAV")
        samples = []
        for name, audio in sounds:
            fields = NAME.fullmatch(name)
            if not fields or fields[2] not in SENTENCES or fields[3] not in EMOTIONS:
                raise ValueError(f"{audio}: expected a name such as 1001_DFA_ANG_XX.wav")
            text = SENTENCES[fields[2]]
            samples.append(
                Sample(
                    key=name,
                    audio=audio,
                    captions={"eng_Latn": (text,)},
                    label=EMOTIONS[fields[3]],
                    domain="speech",
                    language="eng_Latn",
                    transcript=text,
                    speaker=fields[1],
                    split=self.split,
                )
            )
        return sounds.settle(samples, table=sounds.folder)


ABOUT = About(
    source=CremaD,
    name="CREMA-D",
    homepage="https://github.com/CheyneyComputerScience/CREMA-D",
    licence="ODbL-1.0",
    paper="doi:10.1109/TAFFC.2014.2336244",
    domain="speech",
    languages=("eng_Latn",),
    splits={"all": 7_442},
    obtain="Clone https://github.com/CheyneyComputerScience/CREMA-D (Git LFS) to `crema_d` in the data folder; only "
    "the folder `AudioWAV` is read.",
)
