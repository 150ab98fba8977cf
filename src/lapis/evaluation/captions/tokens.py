"""A caption to the words that scores compare, as the caption evaluation kit splits it: Penn Treebank tokens in lower
case, without punctuation.

The kit runs Stanford's tokeniser, a Java program; these rules are its behaviour on captions, with no Java. Known to
differ: addresses, e-mail and tags are split here; of abbreviations only `ABBREVIATIONS` and letters with dots keep
theirs; d'you, rock'n'roll, ol' and 3 1/2 have no rule; French and Italian elisions before an accent or a y stay whole.
`java.stanford_tokens` asks the program.
"""

import re
import unicodedata
from collections.abc import Sequence

Tokens = tuple[str, ...]

PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
"""What the kit drops. Its brackets are written large and its tokens small, so a bracket stays: as it is published."""

ABBREVIATIONS = (
    "mr|mrs|ms|dr|st|jr|sr|prof|gen|rep|sen|col|capt|co|inc|ltd|corp|"
    "jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|vs|etc|mt|ave|blvd|dept|ft|ca|al"
)
"""Words that keep their dot, as an expression."""

_SAME = str.maketrans(
    {
        "‘": "'", "’": "'", "“": '"', "”": '"', "«": '"', "»": '"', "–": "--", "—": "--", "…": "...",
        "½": "1/2", "¼": "1/4", "¾": "3/4", "\u00ad": "",
    }
)  # fmt: skip
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_TOKEN = re.compile(
    rf"\b(?:{ABBREVIATIONS})\.(?!\w)"
    r"|\bno\.(?=\s*\d)"
    r"|(?<![\w'-])[^\W\d_](?:\.[^\W\d_])*\.(?!\w)"  # letters with dots: u.s., plan b.
    r"|(?<![\w.,])[-+]?\d+(?:[.,:/]\d+)*(?![\w.,/:-]*\w)"  # a number
    r"|\w+(?:[-/.&]?'?\w+)*(?:'(?=n\b))?"  # a word, with hyphens, slashes and apostrophes within
    r"|'(?:s|m|d|re|ve|ll)\b|'t(?=(?:is|was)\b)"
    r"|\.{2,}|-{2,}|[?!]{2,}|\S"
)
_CLITIC = re.compile(r"(?<=\w)('(?:s|m|d|re|ve|ll)|n't)$")
_JOINED = {
    word.replace(" ", ""): tuple(word.split()) for word in ("can not", "gon na", "wan na", "got ta", "lem me", "gim me")
}


def tokenise(caption: str) -> Tokens:
    """The words of a caption; none where it holds nothing but punctuation."""
    text = unicodedata.normalize("NFC", caption).translate(_SAME).lower()
    return tuple(word for found in _TOKEN.findall(text) for word in _split(found) if word not in PUNCTUATION)


def tokenise_all(captions: Sequence[str]) -> list[Tokens]:
    """The words of each caption."""
    return [tokenise(caption) for caption in captions]


def _split(found: str) -> Tokens:
    if found in _JOINED:
        return _JOINED[found]
    if found in _BRACKETS:
        return (_BRACKETS[found],)
    if set(found) in ({"."}, {"-"}, {'"'}):
        return ()
    if unicodedata.category(found[0]) in {"So", "Cs", "Cn", "Cf"}:  # emoji; the program drops them with a warning
        return ()
    parts = _CLITIC.split(found)
    return tuple(part for part in parts if part)
