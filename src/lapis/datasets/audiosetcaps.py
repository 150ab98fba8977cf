"""AudioSetCaps: AudioSet, VGGSound and YouTube-8M clips described by a chain of audio and language models.

As published: `Dataset/*_caption.csv` with the columns `id` and `caption`, a table an origin. An id is `Y` and the
YouTube id in AudioSet's, id and second in VGGSound's (`OxPnZzn1_L8_000883`), id, second and length in YouTube-8M's
(`9eUrEyAR3xk_84_10`). The sound of YouTube is not published; files may lie anywhere in the folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets import youtube
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, rows

TABLES: Mapping[str, str] = {
    "AudioSet": "AudioSetCaps_caption.csv",
    "VGGSound": "VGGSound_AudioSetCaps_caption.csv",
    "YouTube-8M": "YouTube-8M_AudioSetCaps_caption.csv",
}


@dataclass(frozen=True)
class AudioSetCaps:
    """The clips of one origin; there are no official splits."""

    origin: Literal["AudioSet", "VGGSound", "YouTube-8M"] = "AudioSet"
    split: Literal["train"] = "train"
    folder: str = "audiosetcaps"

    def build(self) -> list[Sample]:
        """The clips whose files are there.

        Raises:
            ValueError: the folder, the table or a column of it is not there, or no clip is.
        """
        root = ABOUT.root(self)
        table = root / "Dataset" / TABLES[self.origin]
        sounds = Sounds(root, anywhere=True)
        samples = []
        for row in rows(table, ["id", "caption"]):
            clip = row["id"]
            video = (clip.removeprefix("Y") if self.origin == "AudioSet" else clip)[:11]
            # A video of the two other origins may have several clips, so its bare id would not do.
            audio = sounds.find(clip, *(youtube.names(video) if self.origin == "AudioSet" else [f"Y{clip}"]))
            if audio is not None:
                samples.append(
                    youtube.captioned(clip, video=video, audio=audio, caption=row["caption"], split=self.split)
                )
        return sounds.settle(samples, table=table)


ABOUT = About(
    source=AudioSetCaps,
    name="AudioSetCaps",
    homepage="https://huggingface.co/datasets/baijs/AudioSetCaps",
    licence="CC-BY-4.0 for the captions; the sound belongs to its uploaders",
    paper="arXiv:2411.18953",
    domain="sound",
    languages=("eng_Latn",),
    splits={"train": None},
    obtain="Copy the folder `Dataset` of https://huggingface.co/datasets/baijs/AudioSetCaps to `audiosetcaps` in the "
    "data folder and put the clips anywhere below it, named by their ids in the tables.",
)
