"""What METEOR knows of English: function words, WordNet's synonyms, a table of paraphrases, and a stemmer.

They lie in the program's own files, which the package pycocoevalcap installs; they are read here, and no Java is run.
"""

import gzip
import importlib.util
import io
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lapis.evaluation.captions.tokens import Tokens

ARCHIVE, PARAPHRASES = "meteor-1.5.jar", "data/paraphrase-en.gz"
LONGEST_PHRASE = 7
"""In words, of the table of paraphrases."""
_ENDINGS = (
    *(("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man")),
    *(("ies", "y"), ("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e")),
    *(("ing", ""), ("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
)
"""WordNet's rules of detachment for nouns, verbs and adjectives, in its order."""

Paraphrases = Mapping[Tokens, Sequence[Tokens]]
"""A phrase to those that may stand for it; shorter phrases and earlier lines first, where order is asked of it."""


def kit_folder() -> Path | None:
    """Where the caption evaluation kit is installed, if it is."""
    spec = importlib.util.find_spec("pycocoevalcap")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


@dataclass(frozen=True)
class MeteorData:
    """The files of METEOR 1.5 for English, read as they are asked for."""

    folder: Path
    """With `meteor-1.5.jar`, and `data/paraphrase-en.gz`."""

    def __post_init__(self) -> None:
        for name in (ARCHIVE, PARAPHRASES):
            if not (self.folder / name).is_file():
                raise ValueError(f"{self.folder}: expected METEOR's files, {name} among them")

    @classmethod
    def installed(cls) -> "MeteorData | None":
        """Of the package pycocoevalcap, if it is here, and the stemmer beside it."""
        folder = kit_folder()
        if folder is None or importlib.util.find_spec("snowballstemmer") is None:
            return None
        return cls(folder / "meteor")

    def _lines(self, name: str) -> list[str]:
        with zipfile.ZipFile(self.folder / ARCHIVE) as archive:
            return archive.read(name).decode().splitlines()

    @cached_property
    def function_words(self) -> frozenset[str]:
        """Words that count less than others."""
        return frozenset(self._lines("function/english.words"))

    @cached_property
    def abbreviations(self) -> frozenset[str]:
        """Words that a dot belongs to; `No.`, which only does before a number, is none in lower case."""
        lines = self._lines("nonbreaking/english.prefixes")
        return frozenset(line for line in lines if line and not line.startswith("#"))

    @cached_property
    def _synsets(self) -> Mapping[str, frozenset[int]]:
        lines = self._lines("synonym/english.synsets")
        return {word: frozenset(map(int, numbers.split())) for word, numbers in zip(lines[::2], lines[1::2])}

    @cached_property
    def _bases(self) -> Mapping[str, list[str]]:
        """Irregular forms to their bases."""
        lines = self._lines("synonym/english.exceptions")
        bases: dict[str, list[str]] = defaultdict(list)
        for base, forms in zip(lines[::2], lines[1::2]):
            for form in forms.split():
                bases[form].append(base)
        return bases

    @cached_property
    def stem(self) -> Callable[[str], str]:
        """Porter's second stemmer, of the version that METEOR has."""
        import snowballstemmer

        return snowballstemmer.stemmer("english").stemWord

    def meanings(self, word: str) -> frozenset[int]:
        """The sets of synonyms that a word, or the word that it is a form of, belongs to."""
        bases = self._bases[word] if word in self._bases else [self._base(word)]
        return frozenset().union(*(self._synsets.get(name, frozenset()) for name in (word, *bases)))

    def _base(self, word: str) -> str:
        if word.endswith("ss") or len(word) <= 2:
            return word
        found = (word[: -len(end)] + new for end, new in _ENDINGS if word.endswith(end))
        return next((base for base in found if base in self._synsets), word)

    def paraphrases(self, texts: Iterable[Tokens]) -> Paraphrases:
        """The table's entries of which both sides stand in a text; reading it takes seconds."""
        phrases = {
            f"{' '.join(text[begin : begin + size])}\n".encode()
            for text in texts
            for size in range(1, LONGEST_PHRASE + 1)
            for begin in range(len(text) - size + 1)
        }
        table: dict[Tokens, list[Tokens]] = defaultdict(list)
        with gzip.open(self.folder / PARAPHRASES) as packed:
            lines = io.BufferedReader(packed, 1 << 20)
            for _, first, second in zip(lines, lines, lines):  # the first is how likely one is for the other
                if first in phrases and second in phrases:
                    table[tuple(first.decode().split())].append(tuple(second.decode().split()))
        return dict(table)
