"""How a clip is varied whenever it is drawn: louder or softer, and laid over another clip, the captions joined.

What happens to a draw follows from the seed and its number alone, so a resumed run hears what the first one did.
(Random windows of long clips are `loader`'s; masks on the spectrogram `layers.augment`'s.)
"""

import random
from dataclasses import dataclass, replace

import numpy as np

from lapis.data.captions import Captions
from lapis.data.sample import Sample
from lapis.shapes import Waveform

AND = {
    "eng_Latn": " and ",
    "deu_Latn": " und ",
    "fra_Latn": " et ",
    "spa_Latn": " y ",
    "cat_Latn": " i ",
    "ita_Latn": " e ",
    "nld_Latn": " en ",
    "rus_Cyrl": " и ",
    "zho_Hans": "，",
    "jpn_Jpan": "、",
}
"""Between two captions; a comma in other languages."""


@dataclass(frozen=True)
class Variation:
    """The rule. As it is unless told, nothing is varied."""

    gain_decibels: float = 0.0
    """Louder or softer by up to so much."""
    mixed: float = 0.0
    """Share of the draws that get a companion: a draw of the same mixture, so that its weights hold there too."""
    mixed_decibels: float = 5.0
    """The companion is softer or louder than the clip by up to so much, both measured over their whole length."""
    mixed_domains: tuple[str, ...] = ("sound", "music")
    """A clip of another domain, or of none, stays alone: two voices at once are nobody's caption."""

    def __post_init__(self) -> None:
        if self.gain_decibels < 0 or self.mixed_decibels < 0 or not 0 <= self.mixed <= 1:
            raise ValueError(f"a variation needs decibels of at least 0 and a share from 0 to 1 mixed, got {self}")

    def joined(
        self, sample: Sample, other: Sample, *, captions: Captions, random_state: random.Random
    ) -> Sample | None:
        """The sample that both together are, told in one language that both have; None if they stay apart.

        Their captions are cleaned. Where neither has any, their classes tell what they are.
        """
        if sample.audio == other.audio or not {sample.domain, other.domain} <= set(self.mixed_domains):
            return None
        label = f"{sample.label};{other.label}" if sample.label and other.label else None
        in_both = {language: texts for language, texts in sample.captions.items() if language in other.captions}
        told: dict[str, tuple[str, ...]] = {}
        if in_both:
            shares = captions.shares(in_both)
            (language,) = random_state.choices(list(shares), list(shares.values()))
            first, second = (random_state.choice(of.captions[language]) for of in (sample, other))
            told[language] = (first.rstrip(" .。") + AND.get(language, ", ") + second,)
        elif sample.captions or other.captions or label is None:
            return None
        return replace(
            sample,
            key=f"{sample.key} + {other.key}",
            captions=told,
            label=label,
            domain=sample.domain if sample.domain == other.domain else "sound",
            source_id=None,
        )


def amplified(waveform: Waveform, *, decibels: float) -> Waveform:
    """Louder by so much; samples beyond one are kept, since nothing here cuts them off."""
    return waveform * np.float32(10 ** (decibels / 20))


def overlaid(waveform: Waveform, other: Waveform, *, decibels: float, random_state: random.Random) -> Waveform:
    """The clip with another one under it that is so much louder; its length stays.

    Of a longer one a random window is taken, a shorter one begins at a random place. Silence has no loudness to be
    measured against: where one of both is silent they are added as they are.
    """
    loudness = _root_mean_square(waveform), _root_mean_square(other)
    spare = len(waveform) - len(other)
    start = random_state.randint(0, abs(spare))
    if spare < 0:
        other, start = other[start : start + len(waveform)], 0
    if min(loudness) > 0:
        other = amplified(other, decibels=decibels) * np.float32(loudness[0] / loudness[1])
    whole = waveform.copy()
    whole[start : start + len(other)] += other
    return whole


def _root_mean_square(waveform: Waveform) -> float:
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))) if len(waveform) else 0.0
