"""A folder of sound files as a source, with the words that lie beside them."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lapis import audio
from lapis.data.sample import Location, Sample
from lapis.files import data_path


@dataclass(frozen=True)
class Folder:
    """All sound files of a folder and the folders in it, in the order of their paths.

    Where `NAME.txt` lies beside a sound file of that name, its lines are captions in `language`. A sample's key is the
    file's path within the folder, without the suffix where that leaves it the only one of its name.
    """

    path: str
    language: str = "eng_Latn"
    labelled: bool = False
    """Whether the name of the folder that a file lies in is its class."""

    def build(self) -> list[Sample]:
        """The files as samples.

        Raises:
            ValueError: there is no such folder, no sound file in it, or a text beside one is not UTF-8.
        """
        folder = data_path(self.path)
        paths = audio.find_audio(folder)
        if not paths:
            raise ValueError(f"{folder}: expected sound files, there is none in it or the folders in it")
        stems = Counter(path.with_suffix("") for path in paths)
        samples = []
        for path in paths:
            name = path if stems[path.with_suffix("")] > 1 else path.with_suffix("")
            texts = self._texts(path.with_suffix(".txt"))
            samples.append(
                Sample(
                    key=name.relative_to(folder).as_posix(),
                    audio=Location(path),
                    captions={self.language: texts} if texts else {},
                    label=path.parent.name if self.labelled and path.parent != folder else None,
                )
            )
        return samples

    def _texts(self, path: Path) -> tuple[str, ...]:
        if not path.is_file():
            return ()
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not text in UTF-8: {error}") from error
        return tuple(line.strip() for line in lines if line.strip())
