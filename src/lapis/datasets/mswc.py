"""Multilingual Spoken Words: seconds of single words in 50 languages, cut out of Common Voice.

As published: `<language>/clips/<word>/common_voice_<language>_<number>.opus`, with words in their own script as names
of folders, and `<language>/<language>_splits.csv` with `SET`, `LINK`, `WORD`, `VALID`, `SPEAKER` and `GENDER`.
"""

from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.languages import flores
from lapis.datasets.reading import Sounds, rows


@dataclass(frozen=True)
class Mswc:
    """A split of a language, by the corpus' own code (`de`, `zh-CN`)."""

    split: Literal["train", "dev", "test"]
    language: str = "en"
    folder: str = "mswc"

    def build(self) -> list[Sample]:
        """The words.

        Raises:
            ValueError: the folder, the table or a column of it is not there, no clip is, or the language is unknown.
        """
        root = ABOUT.root(self) / self.language
        code = flores(self.language)
        table = root / f"{self.language}_splits.csv"
        sounds = Sounds(root / "clips")
        samples = []
        for row in rows(table, ["SET", "LINK", "WORD", "SPEAKER"]):
            if row["SET"].lower() != self.split:
                continue
            audio = sounds.find(row["LINK"])
            if audio is not None:
                samples.append(
                    Sample(
                        key=row["LINK"],
                        audio=audio,
                        captions={code: (row["WORD"],)},
                        seconds=1.0,
                        label=row["WORD"],
                        domain="speech",
                        language=code,
                        transcript=row["WORD"],
                        speaker=row["SPEAKER"] or None,
                        split=self.split,
                    )
                )
        return sounds.settle(samples, table=table)


ABOUT = About(
    source=Mswc,
    name="Multilingual Spoken Words Corpus",
    homepage="https://mlcommons.org/datasets/multilingual-spoken-words/",
    licence="CC-BY-4.0",
    domain="speech",
    languages=("eng_Latn", "deu_Latn", "fra_Latn", "cat_Latn", "kin_Latn", "spa_Latn", "pes_Arab", "rus_Cyrl"),
    splits={"train": None, "dev": None, "test": None},
    hours=6_000.0,
    obtain="Unpack a language's audio and splits from https://mlcommons.org/datasets/multilingual-spoken-words/ in "
    "`mswc/<language>` in the data folder: `clips` and `<language>_splits.csv`. There are 50 languages.",
)
