"""GLAP (arXiv 2506.11350): one space for sound, music and speech in many languages, Dasheng beside SONAR.

Sounds, speech in English, in Chinese and in other languages are drawn equally often, captions now and then in one of
seven languages, and pairs are compared by the sigmoid loss. What the paper and its code say: docs/recipes/glap.md.
"""

from dataclasses import dataclass, replace
from typing import Literal

from lapis import small
from lapis.audio_encoders.dasheng import Dasheng
from lapis.data.batching import Budget
from lapis.data.captions import Captions
from lapis.data.loader import Reading
from lapis.data.mixture import Mixture, Part
from lapis.data.sources import Tars
from lapis.data.spoken import Spoken
from lapis.evaluation.retrieval import Retrieval
from lapis.layers.projection import Perceptron
from lapis.model import JointModel
from lapis.objectives.contrast import GLAP, GLAP_AS_RELEASED, Sigmoid
from lapis.recipe import Check, Recipe
from lapis.small import Form
from lapis.text_encoders.sentence import MULTILINGUAL_USE, Sentence
from lapis.text_encoders.sonar import Sonar
from lapis.train.after import After, Towers
from lapis.train.loop import Training
from lapis.train.optim import AdamW, Cosine

Departures = Literal["as_described", "as_released"]
"""Where the released configuration does something else than the paper says: what it says, or what that does."""
Words = Literal["translated", "english"]

TRANSLATIONS = ("zho_Hans", "deu_Latn", "cat_Latn", "spa_Latn", "jpn_Jpan", "fra_Latn", "nld_Latn")
"""The languages that captions of sounds were translated into."""
TRANSLATED = 0.1
"""Translations for each English caption that is drawn, over all these languages."""
STEPS, PEAK = 200_000, 1e-4
CLIPS, CLIPS_RELEASED = 1024, 64
"""In a batch of all processes as the paper says, and in that of each process in the released configuration."""
LONGEST_SECONDS = 10.0
GROUPS = ("audio", "speech_eng", "speech_zh", "speech_other")


def glap(
    *,
    form: Form = "paper",
    after: str | None = None,
    departures: Departures = "as_described",
    captions: Words = "translated",
    processes: int = 8,
) -> Recipe:
    """The one stage.

    Args:
        form: "paper"; "pool" for the sounds of the folder `pool`, and "pocket" for the corpus of this repository, in
            minutes on two cores.
        after: folder of a run, or of converted weights of GLAP, that this one goes on with whole. Without it the form
            "paper" begins with Dasheng-base and SONAR, whose files must lie in the folder `glap` of the data.
        departures: of the released configuration; see the page of this recipe for those that can be had.
        captions: of sound and music "translated" now and then, or in "english" alone; speech keeps its own words.
        processes: that share a batch as the paper describes it; the released one is counted for each process.

    Raises:
        ValueError: the clips of a batch cannot be shared equally.
    """
    if processes < 1 or CLIPS % processes:
        raise ValueError(f"processes: expected a divisor of the {CLIPS} clips of a batch, got {processes}")
    released = departures == "as_released"
    recipe = _published(CLIPS_RELEASED if released else CLIPS // processes, released=released, captions=captions)
    if form != "paper":
        recipe = _small(recipe, form=form)
    return recipe if after is None else replace(recipe, after=After(after, take=("",)))


def _published(clips: int, *, released: bool, captions: Words) -> Recipe:
    """Its speech is not public as one corpus: shards of each group go into the folder `glap`."""
    weight = {"eng_Latn": 1.0}
    if captions == "translated":
        weight |= dict.fromkeys(TRANSLATIONS, TRANSLATED / len(TRANSLATIONS))
    words = Retrieval("transcript")
    return Recipe(
        name="glap",
        model=JointModel.Config(
            audio=Dasheng.Config(),
            text=Sonar.Config(),
            width=1024,
            chunk_seconds=None,
            audio_projection=Perceptron.Config(hidden=1024),
            text_projection=Perceptron.Config(hidden=1024),
        ),
        objectives=(GLAP_AS_RELEASED if released else replace(GLAP, positives="caption"),),
        weights={"contrast": 1.0},
        data=Mixture.Config(
            parts=tuple(Part(Tars(f"glap/{group}/*.tar")) for group in GROUPS),
            captions=Captions(weight, max_characters=180, transcripts=True),
        ),
        checks=(
            Check("AudioCaps val", Tars("audiocaps/val-*.tar")),
            Check("Clotho val", Tars("clotho/validation-*.tar")),
            Check("LibriSpeech dev", Tars("librispeech/dev-other-*.tar"), words),
            Check("AISHELL-1 dev", Tars("aishell1/dev-*.tar"), words),
        ),
        budget=Budget(clips=clips, seconds=clips * LONGEST_SECONDS, clip_seconds=LONGEST_SECONDS),
        reading=Reading(workers=8),
        optimizer=AdamW(betas=(0.9, 0.999), epsilon=1e-8, weight_decay=0.0),  # which is Adam
        schedule=Cosine(peak=PEAK, warmup_steps=1000 if released else 20_000, end=0.1 * PEAK),
        training=Training(steps=STEPS, precision="float16", validate_every=10_000, save_every=1000),
        after=Towers(audio="glap/dasheng_base.pt", text="glap/sonar_text_encoder.pt"),
    )


@dataclass(frozen=True)
class _Size:
    """What a small form changes."""

    depth: int
    steps: int
    peak: float
    seconds: float
    clip_seconds: float


SIZES: dict[str, _Size] = {
    "pool": _Size(depth=6, steps=3000, peak=5e-4, seconds=300.0, clip_seconds=10.0),
    "pocket": _Size(depth=4, steps=600, peak=1e-3, seconds=200.0, clip_seconds=5.0),
}
WIDTH, SMALL_CLIPS = 192, 64


def _small(recipe: Recipe, *, form: Form) -> Recipe:
    """A small tower beside the frozen multilingual sentence encoder; sounds are brought to where the texts are.

    The running statistics of the bands are means over all batches, since so few would not move them far enough. The
    scale is learned by its logarithm: at ten times the paper's rate the temperature itself could cross zero.
    """
    size = SIZES[form]
    assert isinstance(recipe.schedule, Cosine)
    (objective,) = recipe.objectives
    assert isinstance(objective, Sigmoid.Config)
    return replace(
        recipe,
        model=JointModel.Config(
            audio=Dasheng.Config(width=WIDTH, depth=size.depth, heads=3, hidden=4 * WIDTH, band_momentum=None),
            text=Sentence.Config(MULTILINGUAL_USE, width=512),
            width=512,
            chunk_seconds=None,
            audio_projection=Perceptron.Config(hidden=512),
            text_projection=None,
        ),
        objectives=(replace(objective, learned="log_scale"),),
        data=replace(recipe.data, parts=_parts(form)),
        checks=small.checks(form),
        budget=Budget(clips=SMALL_CLIPS, seconds=size.seconds, clip_seconds=size.clip_seconds),
        # No worker: two cores have no room for one beside the training itself, and every clip is decoded only once.
        reading=Reading(workers=0, keep_bytes=2 << 30),
        schedule=Cosine(
            peak=size.peak,
            warmup_steps=max(1, recipe.schedule.warmup_steps * size.steps // STEPS),
            end=0.1 * size.peak,
        ),
        training=Training(steps=size.steps, validate_every=size.steps // 4, save_every=size.steps // 4),
        after=None,
        threads=2,
    )


def _parts(form: Form) -> tuple[Part, ...]:
    """Domains alike; within speech English, Chinese and other languages alike, where they are there."""
    speech = small.source(form, "train", "speech")
    groups = [Spoken(speech, ("eng_Latn",)), Spoken(speech, ("eng_Latn", "zho_Hans"), others=True)]
    if form == "pool":
        groups.insert(1, Spoken(speech, ("zho_Hans",)))
    return (
        Part(small.source(form, "train", "sound")),
        Part(small.source(form, "train", "music")),
        *(Part(group, weight=1 / len(groups)) for group in groups),
    )
