"""GigaSpeech: English of audiobooks, podcasts and YouTube, ten thousand hours, in parts of long recordings.

As published: `GigaSpeech.json`, a file of gigabytes in the form that `segments.utterances` reads, and
`audio/podcast/P0000/POD0000000004.opus`. Its `subsets` are written `{XL}`, its texts are in capitals with tags for
punctuation (`<COMMA>`), and a segment of noise has a tag only (`<MUSIC>`): such a sample has no transcript.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds
from lapis.datasets.segments import Segment, utterances

PUNCTUATION: Mapping[str, str] = {
    " <COMMA>": ",",
    " <PERIOD>": ".",
    " <QUESTIONMARK>": "?",
    " <EXCLAMATIONPOINT>": "!",
}
NOISES = ("<SIL>", "<MUSIC>", "<NOISE>", "<OTHER>")


@dataclass(frozen=True)
class GigaSpeech:
    """A subset; XS is in S, S in M and so on up to XL."""

    split: Literal["XS", "S", "M", "L", "XL", "DEV", "TEST"]
    folder: str = "GigaSpeech"

    def build(self) -> list[Sample]:
        """The segments whose recordings are there.

        Raises:
            ValueError: the folder or the table is not there or is another, or no recording is there.
        """
        root = ABOUT.root(self)
        table = root / "GigaSpeech.json"
        sounds = Sounds(root)
        samples = []
        for part in utterances(table, subset=f"{{{self.split}}}", text="text_tn"):
            recording = sounds.find(part.path)
            if recording is not None:
                text = None if part.text.strip() in NOISES else written(part.text)
                samples.append(
                    Sample(
                        key=part.key,
                        audio=Segment(recording.path, part.start_seconds, part.seconds),
                        captions={"eng_Latn": (text,)} if text else {},
                        seconds=part.seconds,
                        domain="speech",
                        language="eng_Latn" if text else None,
                        transcript=text,
                        source=part.source,
                        split=self.split,
                    )
                )
        return sounds.settle(samples, table=table)


def written(text: str) -> str:
    """A text with punctuation in place of its tags."""
    for tag, mark in PUNCTUATION.items():
        text = text.replace(tag, mark)
    return text.strip()


ABOUT = About(
    source=GigaSpeech,
    name="GigaSpeech",
    homepage="https://github.com/SpeechColab/GigaSpeech",
    licence="Apache-2.0 for the corpus; the sound belongs to its owners, research only",
    paper="arXiv:2106.06909",
    domain="speech",
    languages=("eng_Latn",),
    splits=dict.fromkeys(("XS", "S", "M", "L", "XL", "DEV", "TEST")),
    hours=10_000.0,
    obtain="Ask for access at https://github.com/SpeechColab/GigaSpeech and download it to `GigaSpeech` in the data "
    "folder: GigaSpeech.json and the folder `audio`.",
)
