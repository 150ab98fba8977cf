"""The pocket corpus: sounds, instruments and speech in several languages that ship with the repository (data/pocket).

Homepage and attribution: data/pocket/README.md. Licences: CC0, CC-BY, CC-BY-SA and MIT, per clip. No recording is in
two splits, and event tests come from other packages than training wherever the class allows.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lapis.data.indexed import IndexedSamples
from lapis.data.sources import Tars
from lapis.datasets.about import About
from lapis.files import data_path


@dataclass(frozen=True)
class Pocket:
    """A split of the corpus, or one domain of it."""

    split: Literal["train", "val", "test"]
    domain: Literal["sound", "music", "speech"] | None = None

    def build(self) -> IndexedSamples:
        """The samples of the split."""
        return Tars(f"pocket/pocket-{self.split}-*.tar", domain=self.domain).build()


def class_names(domain: Literal["sound", "music", "speech"]) -> Mapping[str, Mapping[str, str]]:
    """Of each class of a domain the name in each language."""
    path = data_path("pocket/classes.json")
    if not path.is_file():
        raise ValueError(f"{path}: expected the class names of the pocket corpus, there is no such file")
    classes = json.loads(path.read_text(encoding="utf-8"))
    return {name: entry["names"] for name, entry in classes.items() if entry["domain"] == domain}


ABOUT = About(
    source=Pocket,
    name="Lapis pocket corpus",
    homepage="data/pocket/README.md",
    licence="CC0, CC-BY, CC-BY-SA and MIT, per clip",
    domain="all",
    languages=("eng_Latn", "deu_Latn", "fra_Latn", "ita_Latn", "spa_Latn", "rus_Cyrl", "zho_Hans", "jpn_Jpan"),
    splits={"train": 2_076, "val": 201, "test": 673},
    hours=1.2,
    obtain="It comes with the repository, in `data/pocket`.",
)
