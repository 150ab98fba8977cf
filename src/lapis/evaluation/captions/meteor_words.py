"""The second splitting that METEOR gives to words already split, as the caption evaluation kit calls it (`-norm`):
high-pitched becomes two words, 's becomes two, the dots of u.s. go.
"""

import re

from lapis.evaluation.captions.tokens import Tokens

_LETTER = "A-Za-zÀ-ÖØ-öø-žŸ\u0400-\u0527\ua640-\ua66e\ua67e-\ua697\u1d00-\u1d7f"
"""Latin and Cyrillic; letters of other scripts are taken one by one."""

_STEPS = (
    (re.compile(rf"([^0-9{_LETTER}\s.'`,-])"), r" \1 "),
    (re.compile(r"(?<!\d),|,(?!\d)"), " , "),
    (re.compile("`"), "'"),
    (re.compile("''"), ' " '),
    (re.compile(rf"([0-9{_LETTER}.])-([0-9{_LETTER}])"), r"\1 \2"),
    (re.compile(rf"([^{_LETTER}])'([^{_LETTER}])"), r"\1 ' \2"),
    (re.compile(rf"([^0-9{_LETTER}])'([{_LETTER}])"), r"\1 ' \2"),
    (re.compile(rf"([{_LETTER}])'([^{_LETTER}])"), r"\1 ' \2"),
    (re.compile(rf"([{_LETTER}])'([{_LETTER}])"), r"\1 '\2"),
    (re.compile(r"(\d)'(s)"), r"\1 '\2"),
)
"""In this order."""


def split_again(tokens: Tokens, *, abbreviations: frozenset[str]) -> Tokens:
    """The words as METEOR takes them; `abbreviations` keep their dot."""
    text = f" {' '.join(tokens)} "
    for pattern, replacement in _STEPS:
        text = pattern.sub(replacement, text)
    words = text.split()
    split: list[str] = []
    for word, following in zip(words, [*words[1:], ""]):
        stem = word[:-1]
        if len(word) == 1 or not word.endswith("."):
            split.append(word)
        elif "." in stem and re.search(f"[{_LETTER}]", stem):
            split.append(stem.replace(".", ""))
        elif stem in abbreviations or re.match("[a-z]", following):
            split.append(word)
        else:
            split += [stem, "."]
    return tuple(split)
