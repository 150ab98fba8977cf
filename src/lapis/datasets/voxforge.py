"""VoxForge: sentences read by volunteers, an archive a session, used for telling languages apart.

As published: sessions such as `Aaron-20080318-kdl`, with `wav/b0019.wav` (or `flac`) and `etc/PROMPTS`, whose lines are
`Aaron-20080318-kdl/mfc/b0019 TEXT`; some sessions have `etc/prompts-original` instead (`b0019 Text`), some lines have
no sound, and some files are not in UTF-8. Not verified against the server, which names its folders in several ways:
sessions are looked for at any depth in `<folder>/<language>`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lapis.data.sample import Sample
from lapis.datasets.about import About
from lapis.datasets.languages import flores
from lapis.datasets.reading import Sounds, pairs, warn_missing

SESSION = re.compile(r"(.+)-\d{8}-\w+")


@dataclass(frozen=True)
class VoxForge:
    """All sessions of a language, which is the label too; there are no official splits."""

    language: Literal["de", "en", "es", "fr", "it", "ru"]
    split: Literal["all"] = "all"
    folder: str = "voxforge"

    def build(self) -> list[Sample]:
        """The sentences of all sessions whose prompts can be read.

        Raises:
            ValueError: the folder is not there, or no sentence is.
        """
        root = ABOUT.root(self) / self.language
        code = flores(self.language)
        sounds = Sounds(root)
        samples, unreadable = [], []
        sessions = {path.parent.parent: path for path in _prompts(root)}
        for folder in {audio.path.parent.parent: None for _, audio in sounds}:
            if folder not in sessions:
                unreadable.append(f"{folder} has no prompts")
        for session, prompts in sessions.items():
            name = session.relative_to(root).as_posix()
            speaker = SESSION.fullmatch(session.name)
            try:
                sentences = list(pairs(prompts))
            except ValueError as error:
                unreadable.append(str(error))
                continue
            for path, text in sentences:
                clip = path.rpartition("/")[2]
                audio = sounds.find(f"{name}/wav/{clip}", f"{name}/flac/{clip}")
                if audio is not None:
                    samples.append(
                        Sample(
                            key=f"{session.name}/{clip}",
                            audio=audio,
                            captions={code: (text,)},
                            label=code,
                            domain="speech",
                            language=code,
                            transcript=text,
                            speaker=None if speaker is None or speaker[1] == "anonymous" else speaker[1],
                            source=session.name,
                            split=self.split,
                        )
                    )
        if unreadable:
            warn_missing(f"{len(unreadable):,} sessions in {root} are left out; the first: {unreadable[0]}")
        return sounds.settle(samples, table=root)


def _prompts(root: Path) -> Iterator[Path]:
    """Of every session the file with its prompts."""
    for folder in sorted(path for path in root.rglob("etc") if path.is_dir()):
        for name in ("PROMPTS", "prompts-original"):
            if (folder / name).is_file():
                yield folder / name
                break


ABOUT = About(
    source=VoxForge,
    name="VoxForge",
    homepage="https://www.voxforge.org",
    licence="GPL-3.0",
    domain="speech",
    languages=("deu_Latn", "eng_Latn", "spa_Latn", "fra_Latn", "ita_Latn", "rus_Cyrl"),
    splits={"all": 176_428},
    obtain="Download the archives in https://storage.googleapis.com/tfds-data/downloads/voxforge/voxforge_urls.txt and "
    "unpack those of a language in `voxforge/<language>` in the data folder.",
)
