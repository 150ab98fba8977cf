"""Sound-VECaps: AudioSet clips described by a language model from sound, picture and labels.

As published: `Sound-VECaps_audio.csv`, captions of what is heard, and `Sound-VECaps_full.csv`, of what is seen as well,
with the columns `id` and `caption`. Not verified: the second table's columns, and whether an id has a `Y` before it or
a suffix behind it; either is taken. The sound is not published; files may lie anywhere in the folder.
"""

from dataclasses import dataclass
from typing import Literal

from lapis import audio
from lapis.data.sample import Sample
from lapis.datasets import youtube
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, rows

VIDEO_CHARACTERS = 11


@dataclass(frozen=True)
class SoundVecaps:
    """All clips, with one of their two captions; there are no official splits."""

    captions: Literal["audio", "full"] = "audio"
    split: Literal["train"] = "train"
    folder: str = "sound_vecaps"

    def build(self) -> list[Sample]:
        """The clips whose files are there.

        Raises:
            ValueError: the folder, the table or a column of it is not there, or no clip is.
        """
        root = ABOUT.root(self)
        table = root / f"Sound-VECaps_{self.captions}.csv"
        sounds = Sounds(root, anywhere=True)
        samples = []
        for row in rows(table, ["id", "caption"]):
            clip = row["id"].rpartition(".")[0] if audio.is_audio_path(row["id"]) else row["id"]
            video = clip[1:] if clip.startswith("Y") and len(clip) == VIDEO_CHARACTERS + 1 else clip
            place = sounds.find(clip, *youtube.names(video))
            if place is not None:
                samples.append(
                    youtube.captioned(clip, video=video, audio=place, caption=row["caption"], split=self.split)
                )
        return sounds.settle(samples, table=table)


ABOUT = About(
    source=SoundVecaps,
    name="Sound-VECaps",
    homepage="https://yyua8222.github.io/Sound-VECaps-demo/",
    licence="not verified; the sound belongs to its uploaders",
    paper="arXiv:2407.04416",
    domain="sound",
    languages=("eng_Latn",),
    splits={"train": 1_657_029},
    obtain="Follow the project's page to the tables, put them in `sound_vecaps` in the data folder, and the AudioSet "
    "clips anywhere below it, named by YouTube id.",
)
