"""RAVDESS: two sentences spoken and sung by 24 actors in eight emotions.

As published: `Audio_Speech_Actors_01-24/Actor_01/03-01-06-01-02-01-01.wav` and `Audio_Song_Actors_01-24`: modality,
vocal channel, emotion, intensity, statement, repetition, actor. Many copies have `Actor_01` without the folder above.
Videos, which hold the same sound, are passed over.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds

NAME = re.compile(r"(0[123])-(0[12])-(0[1-8])-0[12]-(0[12])-0[12]-(\d\d)")
SOUND_ONLY = "03"
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
STATEMENTS: Mapping[str, str] = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}
CHANNELS: Mapping[str, str] = {"speech": "01", "song": "02"}


@dataclass(frozen=True)
class Ravdess:
    """The spoken or the sung recordings, labelled by emotion; there are no official splits."""

    split: Literal["speech", "song"] = "speech"
    folder: str = "ravdess"

    def build(self) -> list[Sample]:
        """The recordings.

        Raises:
            ValueError: the folder is not there, a sound file in it has another name, or no recording is there.
        """
        sounds = Sounds(ABOUT.root(self), anywhere=True)
        samples = []
        for name, audio in sounds:
            fields = NAME.fullmatch(name)
            if not fields:
                raise ValueError(f"{audio}: expected a name such as 03-01-06-01-02-01-12.wav")
            modality, channel, emotion, statement, actor = fields.groups()
            if modality != SOUND_ONLY or channel != CHANNELS[self.split]:
                continue
            text = STATEMENTS[statement]
            samples.append(
                Sample(
                    key=name,
                    audio=audio,
                    captions={"eng_Latn": (text,)},
                    label=EMOTIONS[int(emotion) - 1],
                    domain="speech" if self.split == "speech" else "music",
                    language="eng_Latn",
                    transcript=text,
                    speaker=actor,
                    split=self.split,
                )
            )
        return sounds.settle(samples, table=sounds.folder)


ABOUT = About(
    source=Ravdess,
    name="RAVDESS",
    homepage="https://zenodo.org/records/1188976",
    licence="CC-BY-NC-SA-4.0",
    paper="doi:10.1371/journal.pone.0196391",
    domain="speech",
    languages=("eng_Latn",),
    splits={"speech": 1_440, "song": 1_012},
    obtain="Unpack Audio_Speech_Actors_01-24.zip and Audio_Song_Actors_01-24.zip of "
    "https://zenodo.org/records/1188976 in `ravdess` in the data folder, each in a folder of its name.",
)
