"""Fluent Speech Commands: spoken orders to a house, each with an action, an object and a place.

As published: `data/train_data.csv` and so on with `path`, `speakerId`, `transcription`, `action`, `object` and
`location` behind a column without a name, and `wavs/speakers/<speaker>/<clip>.wav`. No speaker is in two splits.
"""

from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, rows

INTENT = ["action", "object", "location"]


@dataclass(frozen=True)
class FluentSpeechCommands:
    """A split. The label is the intent: `activate lights kitchen`, where a part that is `none` is left away."""

    split: Literal["train", "valid", "test"]
    folder: str = "fluent_speech_commands_dataset"

    def build(self) -> list[Sample]:
        """The orders.

        Raises:
            ValueError: the folder, the table or a column of it is not there, or no clip is.
        """
        root = ABOUT.root(self)
        table = root / "data" / f"{self.split}_data.csv"
        sounds = Sounds(root)
        samples = []
        for row in rows(table, ["path", "speakerId", "transcription", *INTENT]):
            audio = sounds.find(row["path"])
            if audio is not None:
                samples.append(
                    Sample(
                        key=audio.path.stem,
                        audio=audio,
                        captions={"eng_Latn": (row["transcription"],)},
                        label=" ".join(row[part] for part in INTENT if row[part] != "none"),
                        domain="speech",
                        language="eng_Latn",
                        transcript=row["transcription"],
                        speaker=row["speakerId"],
                        split=self.split,
                    )
                )
        return sounds.settle(samples, table=table)


ABOUT = About(
    source=FluentSpeechCommands,
    name="Fluent Speech Commands",
    homepage="https://fluent.ai/fluent-speech-commands-a-dataset-for-spoken-language-understanding-research/",
    licence="Fluent Speech Commands Public License, for academic research",
    paper="arXiv:1904.03670",
    domain="speech",
    languages=("eng_Latn",),
    splits={"train": 23_132, "valid": 3_118, "test": 3_793},
    hours=19.0,
    obtain="Ask for it at the homepage and unpack it in the data folder: `fluent_speech_commands_dataset`.",
)
