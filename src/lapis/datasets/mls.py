"""Multilingual LibriSpeech: audiobooks read in eight languages, in utterances of 10 to 20 s.

As published: `mls_polish/train/transcripts.txt` (name, tabulator, text), `segments.txt`, and
`mls_polish/train/audio/<speaker>/<book>/<speaker>_<book>_<number>.flac`, or `mls_polish_opus` with `.opus`. Not
verified: that a line of `segments.txt` is name, address, beginning and end in seconds; the length is taken from there
where the file is, and a line of another form is an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, lines, number, pairs

CODES: Mapping[str, str] = {
    "english": "eng_Latn",
    "german": "deu_Latn",
    "dutch": "nld_Latn",
    "french": "fra_Latn",
    "spanish": "spa_Latn",
    "italian": "ita_Latn",
    "portuguese": "por_Latn",
    "polish": "pol_Latn",
}


@dataclass(frozen=True)
class Mls:
    """A split of a language, as flac or as opus."""

    split: Literal["train", "dev", "test"]
    language: Literal["english", "german", "dutch", "french", "spanish", "italian", "portuguese", "polish"]
    coding: Literal["flac", "opus"] = "flac"
    folder: str = "mls"

    def build(self) -> list[Sample]:
        """The utterances.

        Raises:
            ValueError: the folder or the transcripts are not there or are others, or no utterance is there.
        """
        suffix = "_opus" if self.coding == "opus" else ""
        root = ABOUT.root(self) / f"mls_{self.language}{suffix}" / self.split
        table, code = root / "transcripts.txt", CODES[self.language]
        seconds = _seconds(root / "segments.txt")
        sounds = Sounds(root / "audio")
        samples = []
        for name, text in pairs(table):
            speaker, _, rest = name.partition("_")
            audio = sounds.find(f"{speaker}/{rest.partition('_')[0]}/{name}")
            if audio is not None:
                samples.append(
                    Sample(
                        key=name,
                        audio=audio,
                        captions={code: (text,)},
                        seconds=seconds.get(name),
                        domain="speech",
                        language=code,
                        transcript=text,
                        speaker=speaker,
                        split=self.split,
                    )
                )
        return sounds.settle(samples, table=table)


def _seconds(path: Path) -> dict[str, float]:
    """The length of every utterance; nothing where it was not published."""
    found = {}
    for line in lines(path) if path.is_file() else []:
        fields = line.split()
        if len(fields) != 4:
            raise ValueError(f"{path}: expected name, address, beginning and end, got {line!r}")
        begin, end = (number(field, where=f"{path}, {fields[0]}") for field in fields[2:])
        found[fields[0]] = round(end - begin, 3)
    return found


ABOUT = About(
    source=Mls,
    name="Multilingual LibriSpeech",
    homepage="https://www.openslr.org/94/",
    licence="CC-BY-4.0",
    paper="arXiv:2012.03411",
    domain="speech",
    languages=tuple(CODES.values()),
    splits={"train": None, "dev": None, "test": None},
    hours=50_500.0,
    obtain="Unpack the archives of https://www.openslr.org/94/ in `mls` in the data folder: `mls_polish` and so on.",
)
