"""WenetSpeech: Mandarin of YouTube and podcasts, ten thousand hours with transcripts, in parts of long recordings.

As published: `WenetSpeech.json`, a file of gigabytes in the form that `segments.utterances` reads, and
`audio/train/youtube/B00000/Y0000000000_--5llN02F84.opus`.
"""

from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds
from lapis.datasets.segments import Segment, utterances


@dataclass(frozen=True)
class WenetSpeech:
    """A subset; S is in M, and M in L."""

    split: Literal["S", "M", "L", "DEV", "TEST_NET", "TEST_MEETING"]
    folder: str = "WenetSpeech"

    def build(self) -> list[Sample]:
        """The segments whose recordings are there.

        Raises:
            ValueError: the folder or the table is not there or is another, or no recording is there.
        """
        root = ABOUT.root(self)
        table = root / "WenetSpeech.json"
        sounds = Sounds(root)
        samples = []
        for part in utterances(table, subset=self.split, text="text"):
            recording = sounds.find(part.path)
            if recording is not None:
                samples.append(
                    Sample(
                        key=part.key,
                        audio=Segment(recording.path, part.start_seconds, part.seconds),
                        captions={"zho_Hans": (part.text,)},
                        seconds=part.seconds,
                        domain="speech",
                        language="zho_Hans",
                        transcript=part.text,
                        source=part.source,
                        split=self.split,
                    )
                )
        return sounds.settle(samples, table=table)


ABOUT = About(
    source=WenetSpeech,
    name="WenetSpeech",
    homepage="https://wenet-e2e.github.io/WenetSpeech/",
    licence="CC-BY-4.0 for the corpus, not for commerce; the sound belongs to its owners",
    paper="arXiv:2110.03370",
    domain="speech",
    languages=("zho_Hans",),
    splits=dict.fromkeys(("S", "M", "L", "DEV", "TEST_NET", "TEST_MEETING")),
    hours=10_005.0,
    obtain="Ask for a password at the homepage and download it with https://github.com/wenet-e2e/WenetSpeech to "
    "`WenetSpeech` in the data folder: WenetSpeech.json and the folder `audio`.",
)
