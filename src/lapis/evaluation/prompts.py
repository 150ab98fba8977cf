"""Prompts as a value: templates and names of classes by language, and every sentence that they make together.

Which words a class is asked by moves a figure by points, so they are a part of a protocol like its clips are.
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lapis.data.classes import Kind
from lapis.data.sample import Sample
from lapis.evaluation.zeroshot import ZeroShot

BARE = "{name}"
"""The template of a name that stands alone."""


@dataclass(frozen=True)
class Prompts:
    """Sentences by which classes are asked for.

    Args:
        templates: by language (FLORES-200), each with `{name}` in it; several are an ensemble.
        names: by language and label; several names of a class are an ensemble too.

    Raises:
        ValueError: a language has templates or names alone, a template has no `{name}` or another field, or a class
            has no name.
    """

    templates: Mapping[str, tuple[str, ...]]
    names: Mapping[str, Mapping[str, tuple[str, ...]]]

    def __post_init__(self) -> None:
        if odd := sorted(self.templates.keys() ^ self.names.keys()):
            raise ValueError(f"prompts in {odd[0]}: expected templates and names, got one without the other")
        for language, templates in self.templates.items():
            if not templates:
                raise ValueError(f"prompts in {language} have no template")
            for template in templates:
                fields = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
                if fields != {"name"}:
                    raise ValueError(f"template {template!r} in {language}: expected {{name}} and no other field")
            for label, names in self.names[language].items():
                if not names or not all(name.strip() for name in names):
                    raise ValueError(f"class {label!r} has no name in {language}")

    @classmethod
    def by_captions(cls, samples: Sequence[Sample]) -> "Prompts":
        """Each class by the distinct captions that its clips have, in every language in which all classes have some."""
        names: dict[str, dict[str, dict[str, None]]] = {}
        labels = {sample.label for sample in samples if sample.label is not None}
        for sample in samples:
            for language, texts in sample.captions.items():
                of = names.setdefault(language, {}).setdefault(sample.label or "", {})
                of.update((text, None) for text in texts if text.strip())
        whole = {
            language: {label: tuple(texts) for label, texts in sorted(of.items()) if label and texts}
            for language, of in names.items()
        }
        kept = {language: of for language, of in whole.items() if of.keys() == labels}
        return cls(dict.fromkeys(kept, (BARE,)), kept)

    @property
    def languages(self) -> tuple[str, ...]:
        """In which there are prompts."""
        return tuple(self.templates)

    def sentences(self, *languages: str, labels: Sequence[str] | None = None) -> dict[str, tuple[str, ...]]:
        """Of each class every template with every name, in one language or in several together.

        Raises:
            ValueError: there are no prompts in a language, or a class has no name in it.
        """
        if not languages:
            raise ValueError("prompts need at least one language")
        for language in languages:
            if language not in self.templates:
                known = ", ".join(self.languages) or "none"
                raise ValueError(f"no prompts in {language}; there are {known}")
        wanted = tuple(self.names[languages[0]]) if labels is None else tuple(labels)
        return {label: tuple(self._of(label, languages)) for label in wanted}

    def zero_shot(self, *languages: str, labels: Sequence[str] | None = None, kind: Kind = "single-label") -> ZeroShot:
        """The protocol that asks in one language, or in several together."""
        return ZeroShot(self.sentences(*languages, labels=labels), kind=kind, languages=languages)

    def _of(self, label: str, languages: Sequence[str]) -> list[str]:
        found = []
        for language in languages:
            if label not in self.names[language]:
                raise ValueError(f"class {label!r} has no name in {language}")
            names = self.names[language][label]
            found += [template.format(name=name) for template in self.templates[language] for name in names]
        return found


def shown(prompts: Mapping[str, Sequence[str]]) -> str:
    """All prompts as one line for people, short where each class is asked by its label alone."""
    if all(tuple(texts) == (label,) for label, texts in prompts.items()):
        return f"each of {len(prompts)} classes by its own name"
    return "; ".join(f"{label}: {' | '.join(texts)}" for label, texts in prompts.items())
