"""FSD50K: sounds of Freesound with one or several of 200 classes of the AudioSet ontology.

As published: `FSD50K.ground_truth/dev.csv` (`fname`, `labels` with commas between them, `mids`, `split`), `eval.csv`
and `vocabulary.csv` (no header: number, label, mid); `FSD50K.dev_audio/<fname>.wav`; the licence of every clip in
`FSD50K.metadata/dev_clips_info_FSD50K.json`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, read_json, rows


@dataclass(frozen=True)
class Fsd50k:
    """A split; train and val are the two parts of dev. Classes stand in `label` with semicolons between them."""

    split: Literal["train", "val", "test"]
    folder: str = "fsd50k"

    def build(self) -> list[Sample]:
        """The clips.

        Raises:
            ValueError: the folder, a table or a column is not there, a label is not in the vocabulary, or no clip is
                there.
        """
        root = ABOUT.root(self)
        part = "eval" if self.split == "test" else "dev"
        table = root / "FSD50K.ground_truth" / f"{part}.csv"
        known = set(class_names(root))
        info = root / "FSD50K.metadata" / f"{part}_clips_info_FSD50K.json"
        licences = {clip: about.get("license") for clip, about in read_json(info).items()} if info.is_file() else {}
        sounds = Sounds(root / f"FSD50K.{part}_audio")
        samples = []
        for row in rows(table, ["fname", "labels", "mids", *(["split"] if part == "dev" else [])]):
            if part == "dev" and row["split"] != self.split:
                continue
            labels = row["labels"].split(",")
            if unknown := [label for label in labels if label not in known]:
                raise ValueError(f"{table}, clip {row['fname']}: {unknown[0]!r} is not in vocabulary.csv")
            audio = sounds.find(row["fname"])
            if audio is not None:
                samples.append(
                    Sample(
                        key=row["fname"],
                        audio=audio,
                        label=";".join(labels),
                        domain="sound",
                        source=f"freesound:{row['fname']}",
                        licence=licences.get(row["fname"]),
                        split=self.split,
                    )
                )
        return sounds.settle(samples, table=table)


def class_names(root: Path) -> list[str]:
    """The 200 classes in the official order."""
    vocabulary = root / "FSD50K.ground_truth" / "vocabulary.csv"
    return [row["label"] for row in rows(vocabulary, ["number", "label", "mid"], named=False)]


ABOUT = About(
    source=Fsd50k,
    name="FSD50K",
    homepage="https://zenodo.org/records/4060432",
    licence="CC-BY-4.0 for the corpus; Creative Commons per clip (CC0, CC-BY, CC-BY-NC, Sampling+)",
    paper="arXiv:2010.00475",
    domain="sound",
    languages=(),
    splits={"train": 36_796, "val": 4_170, "test": 10_231},
    hours=108.3,
    obtain="Unpack the archives of https://zenodo.org/records/4060432 in `fsd50k` in the data folder (the parts of "
    "the audio have to be joined first: zip -s 0).",
    checksums={
        "FSD50K.eval_audio.z01": "md5:3090670eaeecc013ca1ff84fe4442aeb",
        "FSD50K.eval_audio.zip": "md5:6fa47636c3a3ad5c7dfeba99f2637982",
        "FSD50K.ground_truth.zip": "md5:ca27382c195e37d2269c4c866dd73485",
        "FSD50K.metadata.zip": "md5:b9ea0c829a411c1d42adb9da539ed237",
        "FSD50K.doc.zip": "md5:3516162b82dc2945d3e7feba0904e800",
    },
)
