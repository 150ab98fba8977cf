"""The Song Describer Dataset: freely licensed tracks of two minutes with captions by listeners, for evaluation.

As published: `song_describer.csv` with `track_id`, `caption`, `is_valid_subset`, `path` (`84/976784.mp3`) and
`duration`, with a row a caption, and `audio/84/976784.2min.mp3`. The duration is that of the track before it was cut,
so it is not the clip's.
"""

from dataclasses import dataclass
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.reading import Sounds, rows


@dataclass(frozen=True)
class SongDescriber:
    """All captions, or those that were validated; those of a track are in one sample."""

    split: Literal["full", "valid"] = "full"
    folder: str = "song_describer"

    def build(self) -> list[Sample]:
        """The tracks.

        Raises:
            ValueError: the folder, the table or a column of it is not there, or no track is.
        """
        root = ABOUT.root(self)
        table = root / "song_describer.csv"
        captions: dict[tuple[str, str], list[str]] = {}
        for row in rows(table, ["track_id", "caption", "is_valid_subset", "path"]):
            if self.split == "full" or row["is_valid_subset"].lower() == "true":
                captions.setdefault((row["track_id"], row["path"]), []).append(row["caption"])
        sounds = Sounds(root / "audio")
        samples = []
        for (track, path), texts in captions.items():
            audio = sounds.find(f"{path.removesuffix('.mp3')}.2min", path)
            if audio is not None:
                samples.append(
                    Sample(
                        key=track,
                        audio=audio,
                        captions={"eng_Latn": tuple(texts)},
                        domain="music",
                        source=f"jamendo:{track}",
                        split=self.split,
                    )
                )
        return sounds.settle(samples, table=table)


ABOUT = About(
    source=SongDescriber,
    name="Song Describer Dataset",
    homepage="https://github.com/mulab-mir/song-describer-dataset",
    licence="CC-BY-SA-4.0 for the captions; Creative Commons per track, in audio_licenses.txt",
    paper="arXiv:2311.10057",
    domain="music",
    languages=("eng_Latn",),
    splits={"full": 706, "valid": 546},
    obtain="Unpack https://zenodo.org/records/10072001 in `song_describer` in the data folder: song_describer.csv "
    "and the folder `audio`.",
)
