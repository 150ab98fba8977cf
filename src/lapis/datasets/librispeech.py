"""LibriSpeech: audiobooks read in English, in utterances.

As published: `LibriSpeech/dev-clean/84/121123/84-121123-0000.flac` (speaker, chapter, utterance), and in every chapter
`84-121123.trans.txt` with a line `84-121123-0000 TEXT` each.
"""

from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, pairs


@dataclass(frozen=True)
class LibriSpeech:
    """A subset."""

    split: Literal[
        "train-clean-100", "train-clean-360", "train-other-500", "dev-clean", "dev-other", "test-clean", "test-other"
    ]
    folder: str = "LibriSpeech"

    def build(self) -> list[Sample]:
        """The utterances.

        Raises:
            ValueError: the folder or the transcript of a chapter is not there, or no utterance is.
        """
        root = ABOUT.root(self) / self.split
        sounds = Sounds(root)
        samples = []
        chapters = {path.parent.relative_to(root).as_posix() for path in root.glob("*/*/*.trans.txt")}
        for chapter in sorted(chapters | {name.rpartition("/")[0] for name, _ in sounds}):
            for name, text in pairs(root / chapter / f"{chapter.replace('/', '-')}.trans.txt"):
                audio = sounds.find(f"{chapter}/{name}")
                if audio is not None:
                    samples.append(
                        Sample(
                            key=name,
                            audio=audio,
                            captions={"eng_Latn": (text,)},
                            domain="speech",
                            language="eng_Latn",
                            transcript=text,
                            speaker=name.partition("-")[0],
                            split=self.split,
                        )
                    )
        return sounds.settle(samples, table=root)


ABOUT = About(
    source=LibriSpeech,
    name="LibriSpeech",
    homepage="https://www.openslr.org/12/",
    licence="CC-BY-4.0",
    paper="doi:10.1109/ICASSP.2015.7178964",
    domain="speech",
    languages=("eng_Latn",),
    splits={
        "train-clean-100": 28_539,
        "train-clean-360": 104_014,
        "train-other-500": 148_688,
        "dev-clean": 2_703,
        "dev-other": 2_864,
        "test-clean": 2_620,
        "test-other": 2_939,
    },
    hours=982.0,
    obtain="Unpack the archives of https://www.openslr.org/12/ in the data folder: `LibriSpeech`.",
    checksums={
        "train-clean-100.tar.gz": "md5:2a93770f6d5c6c964bc36631d331a522",
        "train-clean-360.tar.gz": "md5:c0e676e450a7ff2f54aeade5171606fa",
        "train-other-500.tar.gz": "md5:d1a0fd59409feb2c614ce4d30c387708",
        "dev-clean.tar.gz": "md5:42e2234ba48799c1f50f24a7926300a1",
        "dev-other.tar.gz": "md5:c8d0bcc9cca99d4f8b62fcc847357931",
        "test-clean.tar.gz": "md5:32fa31d27d2e1cad72775fee3f4849a9",
        "test-other.tar.gz": "md5:fb5a50374b501bb3bac4815ee91d3135",
    },
)
