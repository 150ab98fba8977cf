"""Zero-shot protocols that are made of the clips: their classes, or the words that ask for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lapis.data.classes import Kind, labels_of
from lapis.data.sample import Sample
from lapis.datasets.pocket import class_names
from lapis.evaluation import labels
from lapis.evaluation.prompts import Prompts
from lapis.evaluation.zeroshot import ZeroShot


@dataclass(frozen=True)
class ByName:
    """Classes of the pocket corpus, prompted by the class's name in one language alone."""

    domain: Literal["sound", "music", "speech"]
    language: str

    def __call__(self, samples: Sequence[Sample]) -> ZeroShot:
        """The protocol for clips."""
        names, present = class_names(self.domain), {sample.label for sample in samples}
        prompts = {label: (of[self.language],) for label, of in names.items() if label in present}
        return ZeroShot(prompts, languages=(self.language,))


@dataclass(frozen=True)
class ByCaptions:
    """Each class is asked by the distinct captions of its clips in a language, the mean of them all."""

    language: str

    def __call__(self, samples: Sequence[Sample]) -> ZeroShot:
        """The protocol for clips."""
        return Prompts.by_captions(samples).zero_shot(self.language)


@dataclass(frozen=True)
class ByTemplates:
    """Each class is asked by its label in templates with `{name}`, the mean of them all."""

    templates: tuple[str, ...]
    language: str = "eng_Latn"

    def __call__(self, samples: Sequence[Sample]) -> ZeroShot:
        """The protocol for clips."""
        names = {label: (label,) for label in labels_of(samples)}
        return Prompts({self.language: self.templates}, {self.language: names}).zero_shot(self.language)


@dataclass(frozen=True)
class ByLabels:
    """Classes of a published corpus, by the sentences of the papers or ours, see `labels`; several are an ensemble.

    All classes of the corpus' table are asked for, whatever clips are there; a corpus without a table has the classes
    of its clips.
    """

    dataset: str
    styles: tuple[str, ...]
    language: str = "eng_Latn"
    kind: Kind = "single-label"
    without: tuple[str, ...] = ()
    """Classes of the table that this edition of the corpus has not."""

    def __call__(self, samples: Sequence[Sample]) -> ZeroShot:
        """The protocol for clips.

        Raises:
            ValueError: a class that is to be left out is not in the table.
        """
        classes = tuple(labels.phrases(self.dataset)) if self.dataset in labels.datasets() else labels_of(samples)
        if unknown := set(self.without) - set(classes):
            raise ValueError(f"without: {self.dataset} has no classes {sorted(unknown)}")
        classes = tuple(name for name in classes if name not in self.without)
        asked = labels.prompts(self.dataset, language=self.language, styles=self.styles, labels=classes)
        return ZeroShot(asked, kind=self.kind, languages=(self.language,))

    def definition(self) -> Mapping[str, Any]:
        """The sentences, or where the labels are the corpus' own the templates."""
        if self.dataset in labels.datasets():
            return labels.prompts(self.dataset, language=self.language, styles=self.styles)
        of = [template for template in labels.templates(self.dataset) if template.style in self.styles]
        return {template.style: template.text for template in of if template.language == self.language}
