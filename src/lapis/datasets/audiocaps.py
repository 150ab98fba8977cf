"""AudioCaps: ten-second clips of AudioSet, described by people.

As published: `dataset/train.csv` and so on in a clone of the repository, `dataset2.0` for the second edition, with a
row a caption, so that the clips of val and test have five rows each. The sound is not published: the clips are taken
from YouTube, some are gone, and their files may lie anywhere in the folder under the usual names (`youtube.names`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets import youtube
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, number, rows

FOLDERS: Mapping[str, str] = {"1.0": "dataset", "2.0": "dataset2.0"}


@dataclass(frozen=True)
class AudioCaps:
    """A split; all captions of a clip are in one sample."""

    split: Literal["train", "val", "test"]
    edition: Literal["1.0", "2.0"] = "1.0"
    folder: str = "audiocaps"

    def build(self) -> list[Sample]:
        """The clips whose files are there.

        Raises:
            ValueError: the folder, the table or a column of it is not there, or no clip is.
        """
        root = ABOUT.root(self)
        table = root / FOLDERS[self.edition] / f"{self.split}.csv"
        captions: dict[tuple[str, str], list[str]] = {}
        for row in rows(table, ["audiocap_id", "youtube_id", "start_time", "caption"]):
            captions.setdefault((row["youtube_id"], row["start_time"]), []).append(row["caption"])
        sounds = Sounds(root, anywhere=True)
        samples = []
        for (video, start), texts in captions.items():
            seconds = number(start, where=f"{table}, clip {video}")
            audio = sounds.find(*youtube.names(video, seconds, seconds + 10))
            if audio is not None:
                samples.append(
                    Sample(
                        key=f"{video}_{start}",
                        audio=audio,
                        captions={"eng_Latn": tuple(texts)},
                        domain="sound",
                        source=f"youtube:{video}",
                        split=self.split,
                    )
                )
        return sounds.settle(samples, table=table)


ABOUT = About(
    source=AudioCaps,
    name="AudioCaps",
    homepage="https://audiocaps.github.io",
    licence="MIT for the captions; the sound belongs to its uploaders",
    paper="https://aclanthology.org/N19-1011",
    domain="sound",
    languages=("eng_Latn",),
    splits={"train": 49_838, "val": 495, "test": 975},
    obtain="Clone https://github.com/cdjkim/audiocaps to `audiocaps` in the data folder and put the clips, "
    "ten seconds each from YouTube, anywhere below it, named by YouTube id.",
)
