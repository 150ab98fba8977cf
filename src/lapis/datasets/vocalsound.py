"""VocalSound: 21,024 recordings of laughs, sighs, coughs, throats being cleared, sneezes and sniffs.

As published: `audio_16k/f0003_0_cough.wav` (speaker, collection, class) or `audio_44k`, `datafiles/tr.json`, `val.json`
and `te.json`, each with a list `data` of `wav` (a path of the authors' machine, of which the name counts) and `labels`
(a class id), and `class_labels_indices_vs.csv` with `index`, `mid` and `display_name`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, read_json, rows

TABLES: Mapping[str, str] = {"train": "tr.json", "val": "val.json", "test": "te.json"}


@dataclass(frozen=True)
class VocalSound:
    """A split. No speaker is in two of them."""

    split: Literal["train", "val", "test"]
    audio: Literal["audio_16k", "audio_44k"] = "audio_16k"
    folder: str = "vocalsound"

    def build(self) -> list[Sample]:
        """The recordings.

        Raises:
            ValueError: the folder or a table is not there or is another, or no recording is there.
        """
        root = ABOUT.root(self)
        table = root / "datafiles" / TABLES[self.split]
        labels = root / "class_labels_indices_vs.csv"
        names = {row["mid"]: row["display_name"] for row in rows(labels, ["index", "mid", "display_name"])}
        values = read_json(table)
        if not isinstance(values, dict) or "data" not in values:
            raise ValueError(f"{table}: expected a list of recordings under 'data', there is none")
        sounds = Sounds(root / self.audio)
        samples = []
        for item in values["data"]:
            if item.get("labels") not in names or "wav" not in item:
                raise ValueError(f"{table}: expected a 'wav' and 'labels' out of {labels}, got {item}")
            name = item["wav"].rpartition("/")[2]
            audio = sounds.find(name)
            if audio is not None:
                samples.append(
                    Sample(
                        key=name,
                        audio=audio,
                        label=names[item["labels"]],
                        domain="sound",
                        speaker=name.partition("_")[0],
                        split=self.split,
                    )
                )
        return sounds.settle(samples, table=table)


ABOUT = About(
    source=VocalSound,
    name="VocalSound",
    homepage="https://github.com/YuanGongND/vocalsound",
    licence="CC-BY-SA-4.0",
    paper="arXiv:2205.03433",
    domain="sound",
    languages=(),
    splits={"train": 15_570, "val": 1_860, "test": 3_594},
    obtain="Unpack vs_release_16k.zip, linked at https://github.com/YuanGongND/vocalsound, in `vocalsound` in the data "
    "folder.",
)
