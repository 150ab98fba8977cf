"""MusicCaps: ten-second clips of music in AudioSet, described by musicians.

As published: `musiccaps-public.csv` with the columns `ytid`, `start_s`, `end_s`, `aspect_list`, `caption` and
`is_audioset_eval`. The sound is not published; files may lie anywhere in the folder, named by YouTube id, among them
`[ytid]-[start-end].wav`, the name that scripts for this corpus give.
"""

from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets import youtube
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, number, rows


@dataclass(frozen=True)
class MusicCaps:
    """The clips of AudioSet's training part, or those of its evaluation part."""

    split: Literal["train", "eval"]
    folder: str = "musiccaps"

    def build(self) -> list[Sample]:
        """The clips whose files are there.

        Raises:
            ValueError: the folder, the table or a column of it is not there, or no clip is.
        """
        root = ABOUT.root(self)
        table = root / "musiccaps-public.csv"
        sounds = Sounds(root, anywhere=True)
        samples = []
        for row in rows(table, ["ytid", "start_s", "end_s", "caption", "is_audioset_eval"]):
            if (row["is_audioset_eval"].lower() == "true") != (self.split == "eval"):
                continue
            video, where = row["ytid"], f"{table}, clip {row['ytid']}"
            start, end = number(row["start_s"], where=where), number(row["end_s"], where=where)
            audio = sounds.find(*youtube.names(video, start, end))
            if audio is not None:
                samples.append(
                    Sample(
                        key=video,
                        audio=audio,
                        captions={"eng_Latn": (row["caption"],)},
                        seconds=end - start,
                        domain="music",
                        source=f"youtube:{video}",
                        split=self.split,
                    )
                )
        return sounds.settle(samples, table=table)


ABOUT = About(
    source=MusicCaps,
    name="MusicCaps",
    homepage="https://huggingface.co/datasets/google/MusicCaps",
    licence="CC-BY-SA-4.0 for the captions; the sound belongs to its uploaders",
    paper="arXiv:2301.11325",
    domain="music",
    languages=("eng_Latn",),
    splits={"train": 2_663, "eval": 2_858},
    obtain="Copy musiccaps-public.csv of https://huggingface.co/datasets/google/MusicCaps to `musiccaps` in the data "
    "folder and put the clips, ten seconds each from YouTube, anywhere below it.",
)
