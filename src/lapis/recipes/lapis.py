"""Our own: SLAP's durations and objectives, GLAP's languages and balanced domains, M2D's features, in one stage.

A tower for sound of any duration learns to match texts in many languages, to say captions and transcripts, and to
predict the patches it does not see. Where every figure is from, and that none is proved: docs/recipes/lapis.md.
"""

from dataclasses import dataclass, replace

from lapis import small
from lapis.audio_encoders.slap import Slap
from lapis.data.batching import Budget
from lapis.data.captions import Captions
from lapis.data.loader import Reading
from lapis.data.mixture import Mixture, Part
from lapis.data.sources import Tars
from lapis.data.spoken import Spoken
from lapis.evaluation.retrieval import Retrieval
from lapis.layers import spectrogram
from lapis.model import JointModel
from lapis.objectives.caption import Caption
from lapis.objectives.contrast import Sigmoid
from lapis.objectives.duo import Duo
from lapis.recipe import Check, Recipe
from lapis.small import Form
from lapis.text_encoders.huggingface import HuggingFace
from lapis.text_encoders.sentence import MULTILINGUAL_USE, Sentence
from lapis.train.loop import Training
from lapis.train.optim import AdamW, Cosine

GROUPS = ("sound", "music", "speech_eng", "speech_other")
TRANSLATIONS = ("zho_Hans", "deu_Latn", "cat_Latn", "spa_Latn", "jpn_Jpan", "fra_Latn", "nld_Latn")
"""GLAP's: the languages that captions of sound and music are translated into."""
TRANSLATED = 0.1
"""Translations for each English caption that is drawn, over all these languages."""
STEPS, PEAK = 106_445, 1e-4
CLIPS, LONGEST_SECONDS = 2048, 30.0
LONGEST_TEXT = 256


def lapis(*, form: Form = "paper", processes: int = 32) -> Recipe:
    """The one stage.

    Args:
        form: "paper", the full size, though there is no paper; "pool" for the sounds of the folder `pool`, and "pocket"
            for the corpus of this repository, in minutes on two cores.
        processes: that share a batch of the full size.

    Raises:
        ValueError: the clips of a batch cannot be shared equally.
    """
    if processes < 1 or CLIPS % processes:
        raise ValueError(f"processes: expected a divisor of the {CLIPS} clips of a batch, got {processes}")
    recipe = _full(CLIPS // processes)
    return recipe if form == "paper" else _small(recipe, form=form)


def _full(clips: int) -> Recipe:
    """Shards of each group go into the folder `lapis` of the data."""
    words = Retrieval("transcript")
    return Recipe(
        name="lapis",
        model=JointModel.Config(
            audio=Slap.Config(),
            text=HuggingFace.Config("intfloat/multilingual-e5-base", pooling="mean", max_tokens=LONGEST_TEXT),
            width=768,
        ),
        objectives=(
            Sigmoid.Config(temperature=0.07, bias=-10.0, positives="caption"),
            _duo(STEPS),
            Caption.Config(max_tokens=LONGEST_TEXT),
        ),
        weights={"contrast": 1.0, "masked": 1.0, "caption": 0.5},
        data=Mixture.Config(
            parts=tuple(Part(Tars(f"lapis/{group}/*.tar")) for group in GROUPS),
            captions=Captions(
                {"eng_Latn": 1.0} | dict.fromkeys(TRANSLATIONS, TRANSLATED / len(TRANSLATIONS)), transcripts=True
            ),
        ),
        checks=(
            Check("AudioCaps val", Tars("audiocaps/val-*.tar")),
            Check("Clotho val", Tars("clotho/validation-*.tar")),
            Check("LibriSpeech dev", Tars("librispeech/dev-other-*.tar"), words),
            Check("AISHELL-1 dev", Tars("aishell1/dev-*.tar"), words),
        ),
        budget=Budget(clips=clips, seconds=clips * LONGEST_SECONDS, clip_seconds=LONGEST_SECONDS),
        reading=Reading(workers=8),
        optimizer=AdamW(betas=(0.9, 0.98), epsilon=1e-6, weight_decay=0.05),
        schedule=Cosine(peak=PEAK, warmup_steps=2000),
        training=Training(steps=STEPS, precision="bfloat16", validate_every=5000, save_every=1000),
    )


def _duo(steps: int) -> Duo.Config:
    """Over these steps the target follows as far as M2D's does over its own: their decays to the power of a share."""
    published = Duo.Config()
    share = published.steps / steps
    return replace(
        published, decay=published.decay**share, last_decay=published.last_decay**share, steps=steps, visible=None
    )


@dataclass(frozen=True)
class _Size:
    """What a small form changes."""

    depth: int
    predictor: int
    decoder: int
    steps: int
    peak: float
    seconds: float
    clip_seconds: float


SIZES: dict[str, _Size] = {
    "pool": _Size(depth=6, predictor=192, decoder=192, steps=3000, peak=5e-4, seconds=300.0, clip_seconds=30.0),
    "pocket": _Size(depth=3, predictor=128, decoder=128, steps=600, peak=1e-3, seconds=200.0, clip_seconds=5.0),
}
WIDTH, SMALL_CLIPS = 192, 64
SMALL_BIAS = -4.0
"""About the logarithm of a chance of 1 in 64, so that no steps are lost on learning how rare a positive is."""


def _small(recipe: Recipe, *, form: Form) -> Recipe:
    """A small tower beside the frozen multilingual sentence encoder; captions are said in bytes.

    Sounds are brought to where the texts are, as in the pocket recipe. Warm-up is 5 % of the steps.
    """
    size = SIZES[form]
    contrast, _, caption = recipe.objectives
    assert isinstance(contrast, Sigmoid.Config) and isinstance(caption, Caption.Config)
    return replace(
        recipe,
        model=JointModel.Config(
            audio=Slap.Config(
                front_end=replace(spectrogram.SLAP, mean=-3.3, deviation=4.8),
                width=WIDTH,
                depth=size.depth,
                heads=6,
                hidden=2 * WIDTH,
            ),
            text=Sentence.Config(MULTILINGUAL_USE, width=512),
            width=512,
            text_projection=None,
        ),
        objectives=(
            replace(contrast, bias=SMALL_BIAS),
            replace(_duo(size.steps), width=size.predictor, depth=2, heads=4),
            replace(caption, width=size.decoder, depth=2, heads=4, hidden=2 * size.decoder, max_tokens=64),
        ),
        data=replace(recipe.data, parts=_parts(form)),
        checks=small.checks(form),
        budget=Budget(clips=SMALL_CLIPS, seconds=size.seconds, clip_seconds=size.clip_seconds),
        # No worker: two cores have no room for one beside the training itself, and every clip is decoded only once.
        reading=Reading(workers=0, keep_bytes=2 << 30),
        schedule=Cosine(peak=size.peak, warmup_steps=size.steps // 20),
        training=Training(steps=size.steps, validate_every=size.steps // 10, save_every=size.steps // 10),
        threads=2,
    )


def _parts(form: Form) -> tuple[Part, ...]:
    """The four groups."""
    speech = small.source(form, "train", "speech")
    return (
        Part(small.source(form, "train", "sound")),
        Part(small.source(form, "train", "music")),
        Part(Spoken(speech, ("eng_Latn",))),
        Part(Spoken(speech, ("eng_Latn",), others=True)),
    )
