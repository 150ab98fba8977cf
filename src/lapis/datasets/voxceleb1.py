"""VoxCeleb1: interviews of 1,251 well-known people on YouTube, for telling speakers apart.

As published: `wav/id10003/na8-QEFmj44/00003.wav` (speaker, video, utterance) and `iden_split.txt`, whose lines are 1, 2
or 3 for train, dev and test, and a path. All speakers are in all splits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, pairs

NUMBERS: Mapping[str, str] = {"train": "1", "dev": "2", "test": "3"}


@dataclass(frozen=True)
class VoxCeleb1:
    """A split of the identification task; the label is the speaker. What is said is not known, nor the language."""

    split: Literal["train", "dev", "test"]
    folder: str = "voxceleb1"

    def build(self) -> list[Sample]:
        """The utterances.

        Raises:
            ValueError: the folder or the list is not there or is another, or no utterance is there.
        """
        root = ABOUT.root(self)
        table = root / "iden_split.txt"
        sounds = Sounds(root / "wav")
        samples = []
        for split, path in pairs(table):
            if split not in NUMBERS.values() or path.count("/") != 2:
                raise ValueError(f"{table}: expected 1, 2 or 3 and speaker/video/utterance, got {split!r} and {path!r}")
            if split != NUMBERS[self.split]:
                continue
            audio = sounds.find(path)
            if audio is not None:
                speaker, video, _ = path.split("/")
                samples.append(
                    Sample(
                        key=path,
                        audio=audio,
                        label=speaker,
                        domain="speech",
                        speaker=speaker,
                        source=f"youtube:{video}",
                        split=self.split,
                    )
                )
        return sounds.settle(samples, table=table)


ABOUT = About(
    source=VoxCeleb1,
    name="VoxCeleb1",
    homepage="https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html",
    licence="CC-BY-4.0 for the metadata; the sound belongs to its uploaders",
    paper="arXiv:1706.08612",
    domain="speech",
    languages=(),
    splits={"train": 138_361, "dev": 6_904, "test": 8_251},
    hours=352.0,
    obtain="Ask for access at the homepage, join the four parts of vox1_dev_wav.zip, unpack it and vox1_test_wav.zip "
    "in `voxceleb1` in the data folder (one folder `wav`), and put iden_split.txt there.",
    checksums={
        "vox1_dev_wav_partaa": "sha256:21ec6ca843659ebc2fdbe04b530baa4f191ad4b0971912672d92c158f32226a0",
        "vox1_dev_wav_partab": "sha256:311d21e0c8cbf33573a4fce6c80e5a279d80736274b381c394319fc557159a04",
        "vox1_dev_wav_partac": "sha256:92b64465f2b2a3dc0e4196ae8dd6828cbe9ddd1f089419a11e4cbfe2e1750df0",
        "vox1_dev_wav_partad": "sha256:00e6190c770b27f27d2a3dd26ee15596b17066b715ac111906861a7d09a211a5",
        "vox1_test_wav.zip": "sha256:8de57f347fe22b2c24526e9f444f689ecf5096fc2a92018cf420ff6b5b15eaea",
    },
)
