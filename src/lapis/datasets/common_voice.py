"""Common Voice: sentences read by volunteers in well over a hundred languages.

As published: `cv-corpus-17.0-2024-03-15/de/train.tsv` and so on with `client_id`, `path` and `sentence` among others,
without quoting, `clips/common_voice_de_17298952.mp3`, and in newer releases `clip_durations.tsv` with `clip` and
`duration[ms]`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.languages import flores
from lapis.datasets.reading import Sounds, number, rows


@dataclass(frozen=True)
class CommonVoice:
    """A table of a language, by the corpus' own code (`de`, `zh-CN`), of a release.

    `validated` holds train, dev and test, and more repetitions of their sentences.
    """

    split: Literal["train", "dev", "test", "validated", "other", "invalidated"]
    language: str = "en"
    release: str = "cv-corpus-17.0-2024-03-15"
    folder: str = "common_voice"

    def build(self) -> list[Sample]:
        """The sentences.

        Raises:
            ValueError: the folder, the table or a column of it is not there, no clip is, or the language is unknown.
        """
        root = ABOUT.root(self) / self.release / self.language
        code = flores(self.language)
        table = root / f"{self.split}.tsv"
        seconds = _seconds(root / "clip_durations.tsv")
        sounds = Sounds(root / "clips")
        samples = []
        for row in rows(table, ["client_id", "path", "sentence"], delimiter="\t", quoted=False):
            audio = sounds.find(row["path"])
            if audio is not None:
                text = row["sentence"] or None
                samples.append(
                    Sample(
                        key=row["path"],
                        audio=audio,
                        captions={code: (text,)} if text else {},
                        seconds=seconds.get(row["path"]),
                        domain="speech",
                        language=code,
                        transcript=text,
                        speaker=row["client_id"],
                        split=self.split,
                    )
                )
        return sounds.settle(samples, table=table)


def _seconds(path: Path) -> dict[str, float]:
    """The length of every clip; nothing in a release that does not tell."""
    if not path.is_file():
        return {}
    table = rows(path, ["clip", "duration[ms]"], delimiter="\t", quoted=False)
    return {row["clip"]: number(row["duration[ms]"], where=f"{path}, {row['clip']}") / 1000 for row in table}


ABOUT = About(
    source=CommonVoice,
    name="Common Voice",
    homepage="https://commonvoice.mozilla.org/datasets",
    licence="CC0-1.0",
    paper="arXiv:1912.06670",
    domain="speech",
    languages=("eng_Latn", "deu_Latn", "fra_Latn", "spa_Latn", "cat_Latn", "kin_Latn", "bel_Cyrl", "zho_Hans"),
    splits=dict.fromkeys(("train", "dev", "test", "validated", "other", "invalidated")),
    obtain="Download a language at https://commonvoice.mozilla.org/datasets (it asks for an address) and unpack it in "
    "`common_voice` in the data folder: `cv-corpus-.../<language>`. There are well over a hundred languages.",
)
