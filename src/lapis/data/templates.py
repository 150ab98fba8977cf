"""Sentences for clips that have a class and no caption, in any language: "The sound of {label}".

All sentences of a clip's labels become its captions, and which one is drawn is the caption rule's choice, a pure
function of the seed and the draw's number (`captions.py`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from lapis.data.sample import Sample
from lapis.files import data_path

JOINTS = {
    "eng_Latn": (", ", " and "), "deu_Latn": (", ", " und "), "fra_Latn": (", ", " et "), "spa_Latn": (", ", " y "),
    "ita_Latn": (", ", " e "), "por_Latn": (", ", " e "), "cat_Latn": (", ", " i "), "nld_Latn": (", ", " en "),
    "rus_Cyrl": (", ", " и "), "zho_Hans": ("、", "和"), "zho_Hant": ("、", "和"), "jpn_Jpan": ("、", "と"),
}  # fmt: skip
"""Between several names, and before the last one; elsewhere there is a comma."""


@dataclass(frozen=True)
class Templates:
    """Sentences with `{label}` in them, by language.

    Args:
        sentences: of each language. Several labels of a clip are joined in one sentence, in their order.
        names: what a label is called in each language, `{"dog": {"deu_Latn": "Hund"}}`, or a JSON file of that in the
            data folder (as `pocket/classes.json`). A label that has no name is called what it is in the language
            `labels_are`, and in the others makes no sentence.
        labels_are: the language that labels are written in; underscores are spaces.
        always: beside the captions that a clip has, too; else for clips without any.
    """

    sentences: Mapping[str, tuple[str, ...]]
    names: Mapping[str, Mapping[str, str]] | str = field(default_factory=dict)
    labels_are: str = "eng_Latn"
    always: bool = False

    def __post_init__(self) -> None:
        for language, sentences in self.sentences.items():
            for sentence in sentences:
                if "{label}" not in sentence:
                    raise ValueError(f"templates of {language}: expected {{label}} in {sentence!r}")

    def captions(self, sample: Sample) -> Mapping[str, tuple[str, ...]]:
        """A clip's captions, those of its labels among them.

        Raises:
            ValueError: the file of names is not there, or holds something else.
        """
        if not sample.labels or (not self.always and any(map(any, sample.captions.values()))):
            return sample.captions
        made = dict(sample.captions)
        for language, sentences in self.sentences.items():
            names = [self._name(label, language=language) for label in sample.labels]
            if None in names:
                continue
            joined = join([name for name in names if name is not None], language=language)
            made[language] = made.get(language, ()) + tuple(_filled(text, label=joined) for text in sentences)
        return made

    def _name(self, label: str, *, language: str) -> str | None:
        known = names_in(self.names) if isinstance(self.names, str) else self.names
        name = known.get(label, {}).get(language)
        if name is None and language == self.labels_are:
            return label.replace("_", " ")
        return name


def join(names: list[str], *, language: str) -> str:
    """The names as a list within a sentence: "dog, cat and cow"."""
    comma, last = JOINTS.get(language, (", ", ", "))
    return names[0] if len(names) == 1 else comma.join(names[:-1]) + last + names[-1]


def _filled(sentence: str, *, label: str) -> str:
    """With a capital where the label opens the sentence."""
    filled = sentence.replace("{label}", label)
    return filled[0].upper() + filled[1:] if sentence.startswith("{label}") else filled


def names_in(path: str) -> Mapping[str, Mapping[str, str]]:
    """The names of labels in a JSON file of the data folder.

    Raises:
        ValueError: there is none, or it holds something else.
    """
    return _read_names(data_path(path))


@lru_cache(maxsize=16)
def _read_names(place: Path) -> Mapping[str, Mapping[str, str]]:
    if not place.is_file():
        raise ValueError(f"{place}: expected the names of labels as JSON, there is no such file")
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        names = {label: dict(entry.get("names", entry)) for label, entry in found.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{place}: expected {{label: {{language: name}}}} as JSON: {error}") from error
    return names


SOUND_OF = Templates({"eng_Latn": ("The sound of {label}.",)})
"""What M2D-CLAP says of clips of AudioSet and VGGSound for which Auto-ACD has no caption."""
CAN_BE_HEARD = Templates({"eng_Latn": ("{label} can be heard",)})
"""What M2D-CLAP and WavCaps ask in zero-shot classification."""
EIGHT_LANGUAGES = Templates(
    {
        "eng_Latn": ("The sound of {label}.", "{label}.", "You can hear {label}."),
        "deu_Latn": ("Geräusch: {label}.", "{label}.", "Zu hören: {label}."),
        "fra_Latn": ("Bruit : {label}.", "{label}.", "On entend ceci : {label}."),
        "ita_Latn": ("Suono: {label}.", "{label}.", "Si sente: {label}."),
        "spa_Latn": ("Sonido: {label}.", "{label}.", "Se oye: {label}."),
        "rus_Cyrl": ("Звук: {label}.", "{label}.", "Слышно: {label}."),
        "zho_Hans": ("{label}的声音。", "{label}。", "可以听到{label}。"),
        "jpn_Jpan": ("{label}の音。", "{label}。", "{label}が聞こえる。"),
    },
)
"""Sentences that need no article and no case, so that any name fits; with `replace(EIGHT_LANGUAGES, names=...)`."""
