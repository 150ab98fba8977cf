"""FLEURS: the sentences of FLORES read aloud in 102 languages.

As published: `data/de_de/train.tsv`, `dev.tsv` and `test.tsv` without a header and without quoting: number of the
sentence, file, text, text in small letters without punctuation, its letters, number of samples at 16 kHz, gender; and
`data/de_de/audio/train.tar.gz`, which unpacks to `train/<file>.wav`.
"""

from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.languages import flores
from lapis.datasets.reading import Sounds, number, rows

COLUMNS = ["sentence", "file", "text", "plain", "letters", "samples", "gender"]
SAMPLE_RATE = 16_000


@dataclass(frozen=True)
class Fleurs:
    """A split of a language, by the corpus' own code (`de_de`, `cmn_hans_cn`)."""

    split: Literal["train", "dev", "test"]
    language: str = "en_us"
    folder: str = "fleurs"

    def build(self) -> list[Sample]:
        """The recordings; a sentence has several.

        Raises:
            ValueError: the folder or the table is not there or is another, no clip is, or the language is unknown.
        """
        root = ABOUT.root(self) / "data" / self.language
        code = flores(self.language)
        table = root / f"{self.split}.tsv"
        sounds = Sounds(root, anywhere=True, within=self.split)
        samples = []
        for row in rows(table, COLUMNS, named=False, delimiter="\t", quoted=False):
            audio = sounds.find(row["file"])
            if audio is not None:
                samples.append(
                    Sample(
                        key=row["file"],
                        audio=audio,
                        captions={code: (row["text"],)},
                        seconds=number(row["samples"], where=f"{table}, {row['file']}") / SAMPLE_RATE,
                        domain="speech",
                        language=code,
                        transcript=row["text"],
                        source=f"flores:{row['sentence']}",
                        split=self.split,
                    )
                )
        return sounds.settle(samples, table=table)


ABOUT = About(
    source=Fleurs,
    name="FLEURS",
    homepage="https://huggingface.co/datasets/google/fleurs",
    licence="CC-BY-4.0",
    paper="arXiv:2205.12446",
    domain="speech",
    languages=("eng_Latn", "deu_Latn", "fra_Latn", "spa_Latn", "zho_Hans", "yue_Hant", "hin_Deva", "swh_Latn"),
    splits={"train": None, "dev": None, "test": None},
    obtain="Copy `data/<language>` of https://huggingface.co/datasets/google/fleurs to `fleurs/data` in the data "
    "folder and unpack the archives in `audio`. There are 102 languages.",
)
