"""UrbanSound8K: 8,732 excerpts of up to four seconds in ten classes and ten folds.

As published: `metadata/UrbanSound8K.csv` (`slice_file_name`, `fsID`, `start`, `end`, `salience`, `fold`, `classID`,
`class`) and `audio/fold5/100032-3-0-0.wav`. The folds must be kept: excerpts of one recording are in one of them.
"""

from dataclasses import dataclass

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, number, rows

FOLDS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)


@dataclass(frozen=True)
class UrbanSound8k:
    """Some of the folds, or all."""

    folds: tuple[int, ...] = FOLDS
    folder: str = "UrbanSound8K"

    def build(self) -> list[Sample]:
        """The clips.

        Raises:
            ValueError: there is no such fold, the folder, the table or a column of it is not there, or no clip is.
        """
        root = ABOUT.root(self)
        table = root / "metadata" / "UrbanSound8K.csv"
        if not self.folds or not set(self.folds) <= set(FOLDS):
            raise ValueError(f"folds of {ABOUT.name} must be some of {FOLDS}, got {self.folds}")
        sounds = Sounds(root / "audio")
        samples = []
        for row in rows(table, ["slice_file_name", "fsID", "start", "end", "fold", "class"]):
            if row["fold"] not in map(str, self.folds):
                continue
            where = f"{table}, clip {row['slice_file_name']}"
            audio = sounds.find(f"fold{row['fold']}/{row['slice_file_name']}")
            if audio is not None:
                samples.append(
                    Sample(
                        key=row["slice_file_name"],
                        audio=audio,
                        seconds=number(row["end"], where=where) - number(row["start"], where=where),
                        label=row["class"].replace("_", " "),
                        domain="sound",
                        source=f"freesound:{row['fsID']}",
                        split=f"fold{row['fold']}",
                    )
                )
        return sounds.settle(samples, table=table)


ABOUT = About(
    source=UrbanSound8k,
    name="UrbanSound8K",
    homepage="https://urbansounddataset.weebly.com/urbansound8k.html",
    licence="CC-BY-NC-3.0",
    paper="doi:10.1145/2647868.2655045",
    domain="sound",
    languages=(),
    splits=dict(zip([f"fold{fold}" for fold in FOLDS], (873, 888, 925, 990, 936, 823, 838, 806, 816, 837))),
    hours=8.75,
    obtain="Unpack UrbanSound8K.tar.gz of https://zenodo.org/records/1203745 in the data folder: `UrbanSound8K`.",
    checksums={"UrbanSound8K.tar.gz": "md5:9aa69802bbf37fb986f71ec1483a196e"},
)
