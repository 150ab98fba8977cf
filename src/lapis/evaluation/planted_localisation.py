"""Localisation as a line of a suite: scenes are planted with the clips of one source, thresholds found on another's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

from lapis.data.sample import Sample
from lapis.data.sources import SourceConfig
from lapis.evaluation.localisation import Localisation, LocalisationResult
from lapis.evaluation.planted import planted_events
from lapis.evaluation.subject import Made, Needs
from lapis.evaluation.zeroshot import ZeroShot
from lapis.model import Embedder
from lapis.search.frames import Hearing, check_hearing


@dataclass(frozen=True)
class PlantedLocalisation:
    """Places each clip once in a scene of noise, and asks for the time of its class.

    Args:
        validation: clips for the scenes on which the thresholds are chosen.
        asked: makes the prompts of the classes that the clips have.
        hearing: how frames get their vectors; not every model can hear densely.
    """

    needs: ClassVar[Needs] = "clips"
    validation: SourceConfig
    asked: Made
    hearing: Hearing = "windows"

    def check(self, embedder: Embedder) -> None:
        """See that a model can hear so.

        Raises:
            ValueError: it cannot.
        """
        check_hearing(embedder, self.hearing)

    def run(self, embedder: Embedder, *, clips: Sequence[Sample]) -> LocalisationResult:
        """Measure an embedder on scenes of the clips.

        Raises:
            ValueError: see `planted_events` and `Localisation`.
        """
        scenes, validation = planted_events(clips), planted_events(self.validation.build(), seed=1)
        planted = list({part.clip.key: part.clip for scene in scenes for part in scene.planted}.values())
        asked = cast(ZeroShot, self.asked(planted))
        # A class without an event has nothing to be found, so none of the figures is defined for it.
        there = {event.label for scene in scenes for event in scene.events}
        prompts = {label: texts for label, texts in asked.prompts.items() if label in there}
        return Localisation(prompts, hearing=self.hearing, languages=asked.languages).run(
            embedder, scenes=scenes, validation=validation
        )
