"""Speech Commands: a second of one of 30 (version 0.01) or 35 words (0.02), by thousands of speakers.

As published: `right/bb05582b_nohash_3.wav` (speaker, repetition), `validation_list.txt`, `testing_list.txt`, and long
noises in `_background_noise_`. The lists were made by a rule, `which_set`, that keeps a speaker in one split for ever;
it stands in for them where they have been lost. Training is what is in neither.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lapis.data.sample import Location, Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, lines

NOISE = "_background_noise_"
MAXIMUM_PER_CLASS = 2**27 - 1


@dataclass(frozen=True)
class SpeechCommands:
    """A split, or the noises that come with the words."""

    split: Literal["train", "validation", "test", "background_noise"]
    version: Literal["0.01", "0.02"] = "0.02"
    folder: str = "speech_commands"

    def build(self) -> list[Sample]:
        """The words.

        Raises:
            ValueError: the folder is not there, one list is there without the other, or no clip is there.
        """
        root = ABOUT.root(self) / f"speech_commands_v{self.version}"
        sounds = Sounds(root)
        if self.split == "background_noise":
            noises = [(name, audio) for name, audio in sounds if name.startswith(NOISE)]
            found = [Sample(key=name, audio=audio, domain="sound", split=self.split) for name, audio in noises]
            return sounds.settle(found, table=root / NOISE)
        lists = {split: root / f"{split}_list.txt" for split in ("validation", "testing")}
        if not any(path.is_file() for path in lists.values()):
            words = [(name, audio) for name, audio in sounds if not name.startswith(NOISE)]
            found = [self._sample(name, audio) for name, audio in words if which_set(name) == self.split]
            return sounds.settle(found, table=root)
        held_out = {split: _names(path) for split, path in lists.items()}
        if self.split == "train":
            both = held_out["validation"].keys() | held_out["testing"].keys()
            words = [(name, audio) for name, audio in sounds if not name.startswith(NOISE)]
            found = [self._sample(name, audio) for name, audio in words if name not in both]
            return sounds.settle(found, table=root)
        split = "testing" if self.split == "test" else "validation"
        places = [(name, sounds.find(name)) for name in held_out[split]]
        found = [self._sample(name, audio) for name, audio in places if audio is not None]
        return sounds.settle(found, table=lists[split])

    def _sample(self, name: str, audio: Location) -> Sample:
        word, _, file = name.rpartition("/")
        return Sample(
            key=name,
            audio=audio,
            captions={"eng_Latn": (word,)},
            label=word,
            domain="speech",
            language="eng_Latn",
            transcript=word,
            speaker=file.partition("_nohash_")[0],
            split=self.split,
        )


def _names(path: Path) -> dict[str, None]:
    """The clips of a list without their suffix, in its order."""
    return {line.strip().removesuffix(".wav"): None for line in lines(path)}


def which_set(name: str) -> Literal["train", "validation", "test"]:
    """The split that a file belongs to by the hash of its speaker, a tenth each for validation and test (README)."""
    speaker = name.rpartition("/")[2].partition("_nohash_")[0]
    digest = int(hashlib.sha1(speaker.encode(), usedforsecurity=False).hexdigest(), 16)
    percent = digest % (MAXIMUM_PER_CLASS + 1) * (100 / MAXIMUM_PER_CLASS)
    return "validation" if percent < 10 else "test" if percent < 20 else "train"


ABOUT = About(
    source=SpeechCommands,
    name="Speech Commands",
    homepage="https://www.tensorflow.org/datasets/catalog/speech_commands",
    licence="CC-BY-4.0",
    paper="arXiv:1804.03209",
    domain="speech",
    languages=("eng_Latn",),
    splits={"train": 84_843, "validation": 9_981, "test": 11_005, "background_noise": 6},
    obtain="Unpack speech_commands_v0.02.tar.gz of https://download.tensorflow.org/data/ (or v0.01) in "
    "`speech_commands/speech_commands_v0.02` in the data folder: the archive has no folder of its own.",
    checksums={
        "speech_commands_v0.01.tar.gz": "md5:3cd23799cb2bbdec517f1cc028f8d43c",
        "speech_commands_v0.02.tar.gz": "md5:6b74f3901214cb2c2934e98196829835",
    },
)
