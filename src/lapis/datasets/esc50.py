"""ESC-50: 2,000 environmental recordings of five seconds in 50 classes and five folds.

As published: `meta/esc50.csv` (`filename`, `fold`, `target`, `category`, `esc10`, `src_file`, `take`) and
`audio/1-100032-A-0.wav`. No Freesound recording is in two folds.
"""

from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, rows

FOLDS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Esc50:
    """Some of the folds, or all; `ESC-10` is the part of ten classes with a licence of its own."""

    folds: tuple[int, ...] = FOLDS
    subset: Literal["ESC-50", "ESC-10"] = "ESC-50"
    folder: str = "ESC-50-master"

    def build(self) -> list[Sample]:
        """The clips.

        Raises:
            ValueError: there is no such fold, the folder, the table or a column of it is not there, or no clip is.
        """
        root = ABOUT.root(self)
        table = root / "meta" / "esc50.csv"
        if not self.folds or not set(self.folds) <= set(FOLDS):
            raise ValueError(f"folds of {ABOUT.name} must be some of {FOLDS}, got {self.folds}")
        sounds = Sounds(root / "audio")
        samples = []
        for row in rows(table, ["filename", "fold", "category", "esc10", "src_file"]):
            if row["fold"] not in map(str, self.folds) or (self.subset == "ESC-10" and row["esc10"] != "True"):
                continue
            audio = sounds.find(row["filename"])
            if audio is not None:
                samples.append(
                    Sample(
                        key=row["filename"],
                        audio=audio,
                        seconds=5.0,
                        label=row["category"].replace("_", " "),
                        domain="sound",
                        source=f"freesound:{row['src_file']}",
                        split=f"fold{row['fold']}",
                    )
                )
        return sounds.settle(samples, table=table)


ABOUT = About(
    source=Esc50,
    name="ESC-50",
    homepage="https://github.com/karolpiczak/ESC-50",
    licence="CC-BY-NC-3.0; ESC-10: CC-BY-3.0",
    paper="doi:10.1145/2733373.2806390",
    domain="sound",
    languages=(),
    splits={f"fold{fold}": 400 for fold in FOLDS},
    hours=2.78,
    obtain="Unpack https://github.com/karolpiczak/ESC-50/archive/master.zip in the data folder: `ESC-50-master`.",
)
