"""Names of classes in five languages, and the sentences that ask for them, as tables beside this file.

A table a data set: for each label of its reader a phrase in each language, and what a second pass made of it that
translated it back into English. `templates.csv` has the sentences: those of the papers, which hold the label itself
and exist in English alone, and ours (`lapis`), which hold the phrase. docs/evaluation.md says how both were made.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from lapis.values import check_choice, nearest

LANGUAGES = ("eng_Latn", "deu_Latn", "zho_Hans", "jpn_Jpan", "rus_Cyrl")
"""In which GLAP was measured on sound and music."""

Agreement = Literal["same", "close", "different"]
"""Of a translation back into English with the English: the same words, another wording, or another meaning."""

OURS = "lapis"
"""The style of the templates that exist in every language."""


@dataclass(frozen=True)
class Phrase:
    """What a class sounds like, in one language, and how that was checked."""

    text: str
    checked: str
    """`original` for English, else how and when."""
    back: str = ""
    """The translation back, made from the text alone; empty for English."""
    agreement: Agreement | None = None
    nearest: str = ""
    """The label whose English phrase the multilingual Universal Sentence Encoder puts nearest, where another one."""
    note: str = ""


@dataclass(frozen=True)
class Template:
    """A sentence with `{label}`, as the reader writes it, or `{phrase}`; for one class alone where `only` names it."""

    style: str
    language: str
    """Empty where it is the same in every language."""
    text: str
    source: str
    """Where it is written, or `ours`."""
    only: str = ""

    def fill(self, label: str, phrase: Phrase | None) -> str:
        """The sentence for a class."""
        return self.text.format(label=label.replace("_", " "), phrase=phrase.text if phrase else "")


@cache
def datasets() -> tuple[str, ...]:
    """The data sets whose classes have phrases."""
    tables = (file.name for file in resources.files(__name__).iterdir() if file.name.endswith(".csv"))
    return tuple(sorted(name.removesuffix(".csv") for name in tables if name != "templates.csv"))


@cache
def phrases(dataset: str) -> Mapping[str, Mapping[str, Phrase]]:
    """Of each label of a data set the phrase in each language, in the order of the table.

    Raises:
        ValueError: there is no table of it.
    """
    if dataset not in datasets():
        raise ValueError(
            f"no phrases for {dataset!r}{nearest(dataset, datasets())}; there are some for {', '.join(datasets())}"
        )
    found: dict[str, dict[str, Phrase]] = {}
    for row in _rows(f"{dataset}.csv"):
        if row["agreement"]:
            check_choice(row["agreement"], Agreement, name=f"agreement of {row['label']!r}")
        found.setdefault(row["label"], {})[row["language"]] = Phrase(
            text=row["phrase"],
            checked=row["checked"],
            back=row["back"],
            agreement=row["agreement"] or None,  # pyright: ignore[reportArgumentType] -- looked at above
            nearest=row["nearest"],
            note=row["note"],
        )
    return found


@cache
def templates(dataset: str) -> tuple[Template, ...]:
    """The sentences for a data set, those of the papers first; none where there are none."""
    return tuple(
        Template(row["style"], row["language"], row["template"], row["source"], row["label"])
        for row in _rows("templates.csv")
        if row["dataset"] == dataset
    )


def prompts(
    dataset: str,
    *,
    language: str = "eng_Latn",
    styles: Sequence[str] = (OURS,),
    labels: Sequence[str] | None = None,
) -> Mapping[str, tuple[str, ...]]:
    """Of each class its sentences, one a style, ready for `ZeroShot`.

    Args:
        dataset: the module of the data set.
        language: of the sentences, as a FLORES-200 code.
        styles: `lapis`, or those of the papers: `glap`, `evar`, `wavcaps`. Several are an ensemble.
        labels: the classes, where not all that the table has; needed where there is no table (FSD50K, AudioSet).

    Raises:
        ValueError: there is no table and no label is given, or no sentence of a style in the language, or a label has
            none; or no style is asked for.
    """
    table = phrases(dataset) if dataset in datasets() or labels is None else {}
    wanted = tuple(table) if labels is None else tuple(labels)
    if not styles:
        raise ValueError("prompts need at least one style")
    return {
        label: tuple(
            _template(dataset, style=style, language=language, label=label).fill(
                label, _phrase(dataset, table=table, label=label, language=language)
            )
            for style in styles
        )
        for label in wanted
    }


def _template(dataset: str, *, style: str, language: str, label: str) -> Template:
    of_style = [
        template for template in templates(dataset) if template.style == style and template.language in (language, "")
    ]
    found = next((template for template in of_style if template.only in ("", label)), None)
    if found is None:
        there = sorted({(template.style, template.language) for template in templates(dataset)})
        known = ", ".join(f"{name} in {code or 'any language'}" for name, code in there) or "none"
        reason = f"no sentence for {label!r}" if of_style else f"no template {style!r} in {language}"
        raise ValueError(f"{dataset}: {reason}; there are {known}")
    return found


def _phrase(dataset: str, *, table: Mapping[str, Mapping[str, Phrase]], label: str, language: str) -> Phrase | None:
    if not table:
        return None
    if label not in table:
        raise ValueError(f"{dataset}: no label {label!r}{nearest(label, list(table))}")
    return table[label].get(language)


def _rows(name: str) -> list[dict[str, str]]:
    text = resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
