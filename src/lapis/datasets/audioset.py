"""AudioSet: two million ten-second clips of YouTube with 527 classes.

As published: `balanced_train_segments.csv` and its fellows, with three lines of comment, a blank behind every comma and
the classes of a clip in one quoted field; `class_labels_indices.csv` with `index`, `mid` and `display_name`. The sound
is not published; files may lie anywhere in the folder, named by YouTube id (`Y` before it, as in the PANNs copy).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets import youtube
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, number, rows

COLUMNS = ["YTID", "start_seconds", "end_seconds", "positive_labels"]


@dataclass(frozen=True)
class AudioSet:
    """A split. The classes of a clip stand in `label` with semicolons between them."""

    split: Literal["balanced_train", "unbalanced_train", "eval"]
    folder: str = "audioset"

    def build(self) -> list[Sample]:
        """The clips whose files are there.

        Raises:
            ValueError: the folder, a table or a column is not there, a class has no name, or no clip is there.
        """
        root = ABOUT.root(self)
        table = root / f"{self.split}_segments.csv"
        names = class_names(root)
        sounds = Sounds(root, anywhere=True)
        samples = []
        for row in rows(table, COLUMNS, named=False, comment="#"):
            video, where = row["YTID"], f"{table}, clip {row['YTID']}"
            start, end = (number(row[column], where=where) for column in COLUMNS[1:3])
            classes = row["positive_labels"].split(",")
            for mid in classes:
                if mid not in names:
                    raise ValueError(f"{where}: class {mid!r} is not in {root / 'class_labels_indices.csv'}")
            audio = sounds.find(*youtube.names(video, start, end))
            if audio is not None:
                samples.append(
                    Sample(
                        key=video,
                        audio=audio,
                        seconds=end - start,
                        label=";".join(names[mid] for mid in classes),
                        domain="sound",
                        source=f"youtube:{video}",
                        split=self.split,
                    )
                )
        return sounds.settle(samples, table=table)


def class_names(root: Path) -> Mapping[str, str]:
    """Of each class, by its id (`/m/09x0r`), the name, in the official order."""
    table = rows(root / "class_labels_indices.csv", ["index", "mid", "display_name"])
    return {row["mid"]: row["display_name"] for row in table}


ABOUT = About(
    source=AudioSet,
    name="AudioSet",
    homepage="https://research.google.com/audioset/",
    licence="CC-BY-4.0 for the labels; the sound belongs to its uploaders",
    paper="doi:10.1109/ICASSP.2017.7952261",
    domain="sound",
    languages=(),
    splits={"balanced_train": 22_160, "unbalanced_train": 2_041_789, "eval": 20_371},
    obtain="Put the three tables of segments and class_labels_indices.csv from "
    "https://research.google.com/audioset/download.html in `audioset` in the data folder and the clips, ten seconds "
    "each from YouTube, anywhere below it.",
)
