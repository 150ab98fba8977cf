"""YODAS: YouTube with captions, half a million hours in about 140 languages, cut into utterances.

As published: `data/en000/text/00000000.txt` (name, text), `duration/00000000.txt` (name, seconds) and
`audio/00000000.tar.gz`. A subset is a language and three digits: 0.. where people wrote the captions, 1.. where a
machine did. An archive cannot be read in the middle, so it is unpacked in `audio`; the files may lie there at any
depth, `<name>.wav`. A name is video, number, beginning and end in hundredths of a second.
"""

import re
from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.languages import flores
from lapis.datasets.reading import Sounds, lines, number, pairs

SUBSET = re.compile(r"(\w+)\d{3}")
VIDEO_CHARACTERS = 11


@dataclass(frozen=True)
class Yodas:
    """A subset; there are no official splits."""

    subset: str = "en000"
    split: Literal["train"] = "train"
    folder: str = "yodas"

    def build(self) -> list[Sample]:
        """The utterances whose files are there; one without text has no transcript.

        Raises:
            ValueError: the subset is no language with three digits or a language that is not known, the folder or its
                texts are not there or are others, or no utterance is there.
        """
        language = SUBSET.fullmatch(self.subset)
        if language is None:
            raise ValueError(f"subset of {ABOUT.name} must be a language and three digits (en000), got {self.subset!r}")
        code = flores(language[1])
        root = ABOUT.root(self) / "data" / self.subset
        sounds = Sounds(root / "audio", anywhere=True)
        samples = []
        for shard in sorted({path.name for kind in ("text", "duration") for path in (root / kind).glob("*.txt")}):
            table, lengths = root / "text" / shard, root / "duration" / shard
            seconds = {name: number(text, where=f"{lengths}, {name}") for name, text in pairs(lengths)}
            for line in lines(table):
                name, _, rest = line.partition(" ")
                text, audio = rest.strip() or None, sounds.find(name)
                if audio is not None:
                    samples.append(
                        Sample(
                            key=name,
                            audio=audio,
                            captions={code: (text,)} if text else {},
                            seconds=seconds.get(name),
                            domain="speech",
                            language=code,
                            transcript=text,
                            source=f"youtube:{name[:VIDEO_CHARACTERS]}",
                            split=self.split,
                        )
                    )
        return sounds.settle(samples, table=root / "text")


ABOUT = About(
    source=Yodas,
    name="YODAS",
    homepage="https://huggingface.co/datasets/espnet/yodas",
    licence="CC-BY-3.0",
    paper="arXiv:2406.00899",
    domain="speech",
    languages=("eng_Latn", "spa_Latn", "por_Latn", "rus_Cyrl", "jpn_Jpan", "deu_Latn", "fra_Latn", "zho_Hans"),
    splits={"train": None},
    hours=500_000.0,
    obtain="Copy `data/<subset>` of https://huggingface.co/datasets/espnet/yodas to `yodas/data` in the data folder "
    "and unpack the archives in `audio`. There are about 140 languages.",
)
