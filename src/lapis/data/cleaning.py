"""Which texts are no captions: repeats without end, another script than the language's, left-over markup, refusals.

What a model has written, or a web page, is full of these. Every rule looks at one text and names its reason; none of
them needs a model. What they leave out of captions that people wrote is in docs/captions.md.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

SCRIPTS = {
    "Arab": ("ARABIC",), "Armn": ("ARMENIAN",), "Beng": ("BENGALI",), "Cans": ("CANADIAN",), "Cyrl": ("CYRILLIC",),
    "Deva": ("DEVANAGARI",), "Ethi": ("ETHIOPIC",), "Geor": ("GEORGIAN",), "Grek": ("GREEK",), "Gujr": ("GUJARATI",),
    "Guru": ("GURMUKHI",), "Hang": ("HANGUL", "CJK"), "Hans": ("CJK",), "Hant": ("CJK", "BOPOMOFO"),
    "Hebr": ("HEBREW",), "Jpan": ("HIRAGANA", "KATAKANA", "CJK"), "Khmr": ("KHMER",), "Knda": ("KANNADA",),
    "Laoo": ("LAO",), "Latn": ("LATIN",), "Mlym": ("MALAYALAM",), "Mymr": ("MYANMAR",), "Olck": ("OL",),
    "Orya": ("ORIYA",), "Sinh": ("SINHALA",), "Taml": ("TAMIL",), "Telu": ("TELUGU",), "Tfng": ("TIFINAGH",),
    "Thaa": ("THAANA",), "Thai": ("THAI",), "Tibt": ("TIBETAN",),
}  # fmt: skip
"""By the script in a FLORES-200 code, how Unicode's names of its letters begin."""
WITHOUT_SPACES = frozenset({"Hans", "Hant", "Jpan", "Khmr", "Laoo", "Mymr", "Thai", "Tibt"})
DENSE = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")
"""Scripts of which one letter says what several of an alphabet do."""
KANJI_ALONE = 8
"""More letters than these, none of them kana, are not Japanese."""

MARKUP = re.compile(
    r"</?[A-Za-z][^<>]*>"  # tags
    r"|&(?:[A-Za-z]{2,8}|#\d{1,7}|#x[0-9A-Fa-f]{1,6});"
    r"|<\||\|>|\[/?INST\]|</?s>|<(?:unk|pad|mask)>"  # what language models put between their turns
    r"|```|\*\*|^#{1,6} "  # Markdown
    r"|\{\w*\}"  # a template that was not filled in
    r"|https?://"
    r"|[\ufffd\u2047\u2581]",  # bytes that were no text; SentencePiece's unknown piece, and its space
    re.MULTILINE,
)
REFUSAL = re.compile(
    r"\b(?:I(?:['’]m| am) (?:sorry|afraid|unable|not able)\b|I (?:cannot|can['’]t|can not|am unable to)\b"
    r"|as an? (?:AI|artificial intelligence|(?:large )?language model)\b"
    r"|I apologi[sz]e\b|I do(?:n['’]t| not) have access\b)"
    r"|^(?:sure|certainly|of course)[,!.:]|^here(?:['’]s| is| are) (?:a|an|the|your|some|three|five|\d+)\b.*:",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Cleaning:
    """The rules, each on or off.

    Args:
        repeats: leave out what says the same again and again: a phrase four times running that makes up half of the
            text, or eight times, or a text most of which has stood in it before.
        script: leave out what is not mostly in the script that the language's code names, or has no letters.
        markup: leave out tags, entities, control words of language models, unfilled templates, addresses.
        refusals: leave out "I cannot ...", "As an AI ..." and "Sure, here is ...:". English ones only; not for words
            that people spoke.
        least_letters: a text with fewer is left out, a letter of a dense script (Han, kana, Hangul) counted as three.
        most_letters: one with more is left out, counted alike.
    """

    repeats: bool = True
    script: bool = True
    markup: bool = True
    refusals: bool = False
    least_letters: int = 2
    most_letters: int | None = None

    def problem(self, text: str, *, language: str) -> str | None:
        """Why a text in a language (a FLORES-200 code) is no caption; None where nothing is wrong."""
        return next(self._problems(text, language=language), None)

    def _problems(self, text: str, *, language: str) -> Iterator[str]:
        scripts = scripts_of(text)
        size = size_of(scripts)
        if self.script and not scripts:
            yield "caption without letters"
        if size < self.least_letters:
            yield f"caption of less than {self.least_letters} letters"
        if self.most_letters is not None and size > self.most_letters:
            yield f"caption of more than {self.most_letters} letters"
        if self.markup and MARKUP.search(text):
            yield "caption with markup"
        if self.refusals and REFUSAL.search(text):
            yield "caption that is a language model's own talk"
        if self.script and (found := _script_problem(scripts, language=language)) is not None:
            yield found
        if self.repeats and repeats(text, spaced=language.partition("_")[2] not in WITHOUT_SPACES):
            yield "caption that repeats itself"


def scripts_of(text: str) -> Counter[str]:
    """The number of letters in each script."""
    return Counter(script_of(letter) for letter in text if unicodedata.category(letter)[0] in "LM")


@lru_cache(maxsize=1 << 16)
def script_of(letter: str) -> str:
    """How Unicode's name of the letter begins: LATIN, CJK, or INHERITED for a mark that any script may carry."""
    name = unicodedata.name(letter, "")
    return "INHERITED" if name.startswith("COMBINING") else name.replace("-", " ").partition(" ")[0]


def size_of(scripts: Counter[str]) -> int:
    """The number of letters, those of dense scripts counted as three, so that languages can be compared."""
    return sum(count * (3 if name in DENSE else 1) for name, count in scripts.items() if name != "INHERITED")


def letters_of(text: str) -> int:
    """The size of a text."""
    return size_of(scripts_of(text))


def _script_problem(scripts: Counter[str], *, language: str) -> str | None:
    code = language.partition("_")[2]
    own = SCRIPTS.get(code)
    if own is None:
        return None
    counted = scripts.total() - scripts["INHERITED"]
    inside = sum(scripts[name] for name in own)
    # Han letters weigh more: a Chinese caption may well name an English brand.
    if 2 * size_of(Counter({name: scripts[name] for name in own})) < size_of(scripts) or not inside:
        return f"caption in another script than {code}"
    if code == "Jpan" and counted > KANJI_ALONE and not scripts["HIRAGANA"] + scripts["KATAKANA"]:
        return "caption in Japanese without kana"
    return None


RUN = 4
"""So many times running are too often where they are half of the text ..."""
LONG_RUN = 8
"""... and so many anywhere."""
LONGEST_PHRASE = 12
"""Words of a phrase whose repetition is looked for; letters, where a script has no spaces."""
OLD_SHARE = 0.6
"""A text is degenerate if more than this of its stretches stood in it before ..."""
STRETCH_WORDS, STRETCH_LETTERS = 3, 5
"""... of so many words, or letters, each ..."""
FEWEST_STRETCHES = 10
"""... where there are so many of them."""


def repeats(text: str, *, spaced: bool = True) -> bool:
    """Whether a text says the same again and again."""
    words = re.findall(r"\w+", text.casefold())
    spelled = [letter for letter in text.casefold() if letter.isalnum()]
    # One word without end ("hahahaha") has no second word to compare with.
    if _runs(spelled, phrase=LONGEST_PHRASE, run=LONG_RUN, share=0.8):
        return True
    units = words if spaced else spelled
    if _runs(units, phrase=LONGEST_PHRASE, run=RUN, share=0.5) or _runs(units, phrase=LONGEST_PHRASE, run=LONG_RUN):
        return True
    size = STRETCH_WORDS if spaced else STRETCH_LETTERS
    stretches = [tuple(units[start : start + size]) for start in range(len(units) - size + 1)]
    return len(stretches) >= FEWEST_STRETCHES and 1 - len(set(stretches)) / len(stretches) > OLD_SHARE


def _runs(units: list[str], *, phrase: int, run: int, share: float = 0.0) -> bool:
    """Whether up to `phrase` units follow themselves, `run` times in all, which makes up `share` of all units."""
    for size in range(1, min(phrase, len(units) // run) + 1):
        same = 0  # units in a row that are as those one phrase before
        for place in range(size, len(units)):
            same = same + 1 if units[place] == units[place - size] else 0
            if same + size >= run * size and same + size >= share * len(units):
                return True
    return False
