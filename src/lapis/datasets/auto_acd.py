"""Auto-ACD: AudioSet and VGGSound clips described by a language model from what was seen and heard.

As published: `train.csv` and `test.csv` with the columns `youtube_id` and `caption`. Ids of VGGSound clips carry six
digits more, the second at which the clip begins (`oPRC3zComfA_000117`). The sound is not published; files may lie
anywhere in the folder, named as the id is.
"""

import re
from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets import youtube
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, rows

SUFFIX = re.compile(r"(?<=^.{11})_(\d{6})$")


@dataclass(frozen=True)
class AutoAcd:
    """A split."""

    split: Literal["train", "test"]
    folder: str = "auto_acd"

    def build(self) -> list[Sample]:
        """The clips whose files are there.

        Raises:
            ValueError: the folder, the table or a column of it is not there, or no clip is.
        """
        root = ABOUT.root(self)
        table = root / f"{self.split}.csv"
        sounds = Sounds(root, anywhere=True)
        samples = []
        for row in rows(table, ["youtube_id", "caption"]):
            clip = row["youtube_id"]
            start = SUFFIX.search(clip)
            video = clip[: start.start()] if start else clip
            audio = sounds.find(clip, *youtube.names(video, float(start[1]) if start else None, alone=not start))
            if audio is not None:
                samples.append(
                    youtube.captioned(clip, video=video, audio=audio, caption=row["caption"], split=self.split)
                )
        return sounds.settle(samples, table=table)


ABOUT = About(
    source=AutoAcd,
    name="Auto-ACD",
    homepage="https://auto-acd.github.io",
    licence="not stated with the captions; the sound belongs to its uploaders",
    paper="arXiv:2309.11500",
    domain="sound",
    languages=("eng_Latn",),
    splits={"train": None, "test": None},
    obtain="Copy train.csv and test.csv of https://huggingface.co/datasets/Loie/Auto-ACD to `auto_acd` in the data "
    "folder and put the AudioSet and VGGSound clips anywhere below it, named by YouTube id.",
)
