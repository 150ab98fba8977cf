"""WavCaps: weakly labelled sounds of four origins, their descriptions rewritten by a language model.

As published: `json_files/<origin>/*.json` with a list `data` of objects with `id`, `caption` and `duration`, and
`json_files/blacklist/*.json` with the ids that leak into benchmarks, under `AudioSet` and `FreeSound`. The archives
unpack to `.../<origin>_flac/<id>.flac` at a depth of their own; ids of AudioSet end in `.wav` in the JSON.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.objects import objects
from lapis.datasets.reading import Sounds, number, read_json

TABLES: Mapping[str, str] = {
    "AudioSet_SL": "as_final.json",
    "BBC_Sound_Effects": "bbc_final.json",
    "FreeSound": "fsd_final.json",
    "SoundBible": "sb_final.json",
}
BLACKLISTED: Mapping[str, str] = {"AudioSet_SL": "AudioSet", "FreeSound": "FreeSound"}
"""The key under which a black-list has the ids of an origin; the other origins are in none."""


@dataclass(frozen=True)
class WavCaps:
    """The clips of one origin; there are no official splits."""

    origin: Literal["AudioSet_SL", "BBC_Sound_Effects", "FreeSound", "SoundBible"]
    without: Literal["nothing", "test_ac", "all_ac", "ub8k_esc50_vggsound"] = "nothing"
    """Which published black-list is left out: AudioCaps' test, all of AudioCaps, or three sets of labels."""
    split: Literal["train"] = "train"
    folder: str = "wavcaps"

    def build(self) -> list[Sample]:
        """The clips that are on no black-list and whose files are there.

        Raises:
            ValueError: the folder or a JSON file is not there or is another, or no clip is.
        """
        root = ABOUT.root(self)
        table = root / "json_files" / self.origin / TABLES[self.origin]
        banned = self._banned(root)
        sounds = Sounds(root, anywhere=True, within=f"{self.origin}_flac")
        samples = []
        for number_, item in enumerate(objects(table, "data"), start=1):
            where = f"{table}, item {number_}"
            for name in ("id", "caption", "duration"):
                if name not in item:
                    raise ValueError(f"{where}: no {name!r}; it has {sorted(item)}")
            clip = str(item["id"]).removesuffix(".wav")
            if clip in banned:
                continue
            audio = sounds.find(clip)
            if audio is not None:
                samples.append(
                    Sample(
                        key=f"{self.origin}/{clip}",
                        audio=audio,
                        captions={"eng_Latn": (str(item["caption"]),)},
                        seconds=number(item["duration"], where=where),
                        domain="sound",
                        source=self._source(clip),
                        split=self.split,
                    )
                )
        return sounds.settle(samples, table=table)

    def _banned(self, root: Path) -> set[str]:
        if self.without == "nothing" or self.origin not in BLACKLISTED:
            return set()
        path = root / "json_files" / "blacklist" / f"blacklist_exclude_{self.without}.json"
        lists = read_json(path)
        key = BLACKLISTED[self.origin]
        if not isinstance(lists, dict) or key not in lists:
            raise ValueError(f"{path}: expected a list of ids under {key!r}, there is none")
        return {str(clip).removesuffix(".wav") for clip in lists[key]}

    def _source(self, clip: str) -> str:
        match self.origin:
            case "AudioSet_SL":
                return f"youtube:{clip.removeprefix('Y')}"
            case "FreeSound":
                return f"freesound:{clip}"
            case other:
                return f"{other}:{clip}"


ABOUT = About(
    source=WavCaps,
    name="WavCaps",
    homepage="https://github.com/XinhaoMei/WavCaps",
    licence="CC-BY-4.0 for the captions, academic use only; the sounds keep the licences of their origins",
    paper="arXiv:2303.17395",
    domain="sound",
    languages=("eng_Latn",),
    splits={"train": 403_050},
    hours=7_567.0,
    obtain="Copy `json_files` and unpack `Zip_files` of https://huggingface.co/datasets/cvssp/WavCaps in `wavcaps` in "
    "the data folder (join the parts of a split archive first: zip -F).",
)
