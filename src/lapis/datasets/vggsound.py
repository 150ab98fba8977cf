"""VGGSound: ten-second clips of YouTube in which one sound is heard and its source is seen, 309 classes.

As published: `vggsound.csv` without a header: YouTube id, second at which the clip begins, label, split. The sound is
not published; files may lie anywhere in the folder as `<id>_<six digits>`, videos too.
"""

from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets import youtube
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, number, rows


@dataclass(frozen=True)
class VggSound:
    """A split."""

    split: Literal["train", "test"]
    folder: str = "vggsound"

    def build(self) -> list[Sample]:
        """The clips whose files are there.

        Raises:
            ValueError: the folder or the table is not there or is another, or no clip is there.
        """
        root = ABOUT.root(self)
        table = root / "vggsound.csv"
        sounds = Sounds(root, anywhere=True)
        samples = []
        for row in rows(table, ["video", "start_seconds", "label", "split"], named=False):
            if row["split"] != self.split:
                continue
            video = row["video"]
            start = number(row["start_seconds"], where=f"{table}, clip {video}")
            audio = sounds.find(f"{video}_{round(start):06d}", *youtube.names(video, start, start + 10, alone=False))
            if audio is not None:
                samples.append(
                    Sample(
                        key=f"{video}_{round(start):06d}",
                        audio=audio,
                        label=row["label"],
                        domain="sound",
                        source=f"youtube:{video}",
                        split=self.split,
                    )
                )
        return sounds.settle(samples, table=table)


ABOUT = About(
    source=VggSound,
    name="VGGSound",
    homepage="https://www.robots.ox.ac.uk/~vgg/data/vggsound/",
    licence="CC-BY-4.0 for the labels; the sound belongs to its uploaders",
    paper="arXiv:2004.14368",
    domain="sound",
    languages=(),
    splits={"train": None, "test": None},
    obtain="Put vggsound.csv from https://www.robots.ox.ac.uk/~vgg/data/vggsound/ in `vggsound` in the data folder "
    "and the clips, ten seconds each from YouTube, anywhere below it.",
)
