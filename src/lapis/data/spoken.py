"""The speech of a source by its language, so that languages with little of it can have a share of their own."""

from dataclasses import dataclass, replace

from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig


@dataclass(frozen=True)
class Spoken:
    """The clips of a source in which one of `languages` is spoken; with `others` those in which another one is."""

    source: SourceConfig
    languages: tuple[str, ...]
    others: bool = False
    transcribed: bool = False
    """Take a clip's first caption in the language spoken for its transcript, and leave out what has none."""

    def build(self) -> list[Sample]:
        """The samples; what is no speech, or in an unknown language, is in neither half."""
        speech = (sample for sample in self.source.build() if sample.language is not None)
        chosen = [sample for sample in speech if (sample.language in self.languages) != self.others]
        if not self.transcribed:
            return chosen
        words = [sample.captions.get(str(sample.language), ()) for sample in chosen]
        return [replace(sample, transcript=of[0]) for sample, of in zip(chosen, words, strict=True) if of]
