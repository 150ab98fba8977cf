"""Clotho 2.1: sounds of Freesound, 15 to 30 s, with five captions each.

As published: `clotho_captions_development.csv` with the columns `file_name`, `caption_1` to `caption_5`, and beside it
the folder `development` of the archive; likewise validation and evaluation. Names of files hold spaces and accents.
"""

from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, rows

CAPTIONS = [f"caption_{number}" for number in range(1, 6)]


@dataclass(frozen=True)
class Clotho:
    """A split."""

    split: Literal["development", "validation", "evaluation"]
    folder: str = "clotho"

    def build(self) -> list[Sample]:
        """The clips, with five captions each.

        Raises:
            ValueError: the folder, the table or a column of it is not there, or no clip is.
        """
        root = ABOUT.root(self)
        table = root / f"clotho_captions_{self.split}.csv"
        sounds = Sounds(root / self.split)
        samples = []
        for row in rows(table, ["file_name", *CAPTIONS]):
            audio = sounds.find(row["file_name"])
            if audio is not None:
                captions = {"eng_Latn": tuple(row[column] for column in CAPTIONS)}
                samples.append(
                    Sample(key=row["file_name"], audio=audio, captions=captions, domain="sound", split=self.split)
                )
        return sounds.settle(samples, table=table)


ABOUT = About(
    source=Clotho,
    name="Clotho 2.1",
    homepage="https://zenodo.org/records/4783391",
    licence="captions: Tampere University licence, not for commerce; sounds: Creative Commons, per clip",
    paper="arXiv:1910.09387",
    domain="sound",
    languages=("eng_Latn",),
    splits={"development": 3_839, "validation": 1_045, "evaluation": 1_045},
    obtain="Unpack the three audio archives of https://zenodo.org/records/4783391 in `clotho` in the data folder and "
    "put the caption tables beside the folders.",
    checksums={
        "clotho_audio_development.7z": "md5:c8b05bc7acdb13895bb3c6a29608667e",
        "clotho_audio_validation.7z": "md5:7dba730be08bada48bd15dc4e668df59",
        "clotho_audio_evaluation.7z": "md5:4569624ccadf96223f19cb59fe4f849f",
        "clotho_captions_development.csv": "md5:d4090b39ce9f2491908eebf4d5b09bae",
        "clotho_captions_validation.csv": "md5:5879e023032b22a2c930aaa0528bead4",
        "clotho_captions_evaluation.csv": "md5:1b16b9e57cf7bdb7f13a13802aeb57e2",
    },
)
