"""GTZAN: a thousand excerpts of thirty seconds in ten genres.

As published: `genres/blues/blues.00000.au`, or `.wav` in later copies. There are no official splits; the field uses the
fault-filtered lists (`train_filtered.txt`, `valid_filtered.txt`, `test_filtered.txt`, a line `blues/blues.00029.wav` or
`.au` each), which leave out repetitions and keep artists apart. In common copies `jazz.00054.wav` is damaged: it is
listed here, and whoever reads it is told.
"""

from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Location, Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, lines


@dataclass(frozen=True)
class Gtzan:
    """A list of the fault-filtered split, or all there is."""

    split: Literal["train", "valid", "test", "all"]
    folder: str = "gtzan"

    def build(self) -> list[Sample]:
        """The excerpts.

        Raises:
            ValueError: the folder or the list is not there, or no excerpt is.
        """
        root = ABOUT.root(self)
        sounds = Sounds(root, anywhere=True)
        if self.split == "all":
            return sounds.settle([self._sample(audio) for name, audio in sounds], table=root)
        table = root / f"{self.split}_filtered.txt"
        found = [sounds.find(line.strip().rpartition("/")[2]) for line in lines(table)]
        return sounds.settle([self._sample(audio) for audio in found if audio is not None], table=table)

    def _sample(self, audio: Location) -> Sample:
        genre, dot, _ = audio.path.stem.partition(".")
        if not dot:
            raise ValueError(f"{audio}: expected a name such as blues.00000.au")
        return Sample(key=audio.path.stem, audio=audio, label=genre, domain="music", split=self.split)


ABOUT = About(
    source=Gtzan,
    name="GTZAN",
    homepage="https://www.tensorflow.org/datasets/catalog/gtzan",
    licence="none stated; excerpts of published music",
    paper="doi:10.1109/TSA.2002.800560",
    domain="music",
    languages=(),
    splits={"train": 443, "valid": 197, "test": 290, "all": 1_000},
    hours=8.33,
    obtain="The original address is gone; unpack a copy of genres.tar.gz in `gtzan` in the data folder and put the "
    "fault-filtered lists there, from GTZAN_split of https://github.com/jongpillee/music_dataset_split.",
)
