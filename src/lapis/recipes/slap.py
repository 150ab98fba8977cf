"""SLAP (arXiv 2601.12594): sound of any duration; contrast, self-distillation and captions at once, in one stage.

Three tunings go on from it: on WavCaps, for zero-shot classification; on one data set's captions, for retrieval; and
with captions alone, for captioning. What the paper states and what is our choice: docs/recipes/slap.md.
"""

from dataclasses import dataclass, replace
from typing import Literal

from lapis import small
from lapis.audio_encoders.slap import Slap
from lapis.data.batching import Budget
from lapis.data.loader import Reading
from lapis.data.mixture import Mixture, Part
from lapis.data.sources import Tars
from lapis.layers import spectrogram
from lapis.model import JointModel
from lapis.objectives.caption import Caption
from lapis.objectives.contrast import Softmax
from lapis.objectives.distill import Distill
from lapis.objectives.learner import ObjectiveConfig
from lapis.recipe import Check, Recipe
from lapis.small import DOMAINS, Form
from lapis.text_encoders.huggingface import HuggingFace
from lapis.text_encoders.sentence import MULTILINGUAL_USE, Sentence
from lapis.train.after import After
from lapis.train.loop import Training
from lapis.train.optim import AdamW, Cosine

Stage = Literal["pretraining", "wavcaps", "retrieval", "captioning"]
Captioned = Literal["audiocaps", "clotho"]

STEPS = 106_445
"""Twice 109 million clips in batches of 2048."""
PEAK = 1e-4
CLIPS, LONGEST_SECONDS = 2048, 30.0

TRAIN = {"audiocaps": "audiocaps/train-*.tar", "clotho": "clotho/development-*.tar"}
VAL = {"audiocaps": "audiocaps/val-*.tar", "clotho": "clotho/validation-*.tar"}
CLIPS_OF: dict[Captioned, int] = {"audiocaps": 49_274, "clotho": 3_839}


def slap(
    stage: Stage = "pretraining",
    *,
    form: Form = "paper",
    after: str | None = None,
    corpus: Captioned = "audiocaps",
    processes: int = 32,
) -> Recipe:
    """One stage.

    Args:
        stage: which; all but the first need `after`.
        form: "paper"; "pool" for the sounds of the folder `pool`, and "pocket" for the corpus of this repository, in
            minutes on two cores.
        after: folder of the run whose model this one goes on with.
        corpus: whose captions retrieval and captioning are tuned on.
        processes: that share a batch of the paper's form.

    Raises:
        ValueError: a later stage is asked for without a run before it, or the first with one; or the clips of a batch
            cannot be shared equally.
    """
    if (after is None) != (stage == "pretraining"):
        wanted = "pretraining begins with nothing" if after else f"{stage} needs after=: the folder of pretraining"
        raise ValueError(f"{wanted}, got after={after!r}")
    if processes < 1 or CLIPS % processes:
        raise ValueError(f"processes: expected a divisor of the {CLIPS} clips of a batch, got {processes}")
    recipe = _pretraining(CLIPS // processes)
    if stage == "wavcaps":
        recipe = _wavcaps(recipe)
    elif stage == "retrieval":
        recipe = _retrieval(recipe, corpus=corpus)
    elif stage == "captioning":
        recipe = _captioning(recipe, corpus=corpus)
    if after is not None:
        recipe = replace(recipe, after=After(after, take=("",)))
    return recipe if form == "paper" else _small(recipe, form=form)


def _pretraining(clips: int) -> Recipe:
    """The one stage of the paper. Its 109 million pairs are not public: shards of others go into the folder `slap`."""
    return Recipe(
        name="slap",
        model=JointModel.Config(
            audio=Slap.Config(),
            text=HuggingFace.Config("answerdotai/ModernBERT-base", pooling="attention", max_tokens=128),
            width=768,
        ),
        objectives=(Softmax.Config(), Distill.Config(steps=STEPS), Caption.Config()),
        weights={"contrast": 1.0, "distill": 1.0, "caption": 0.5},
        data=Mixture.Config(parts=(Part(Tars("slap/train-*.tar")),)),
        checks=tuple(Check(f"{name} val", Tars(VAL[name])) for name in ("audiocaps", "clotho")),
        budget=Budget(clips=clips, seconds=clips * LONGEST_SECONDS, clip_seconds=LONGEST_SECONDS),
        reading=Reading(workers=8),
        optimizer=AdamW(betas=(0.9, 0.98), epsilon=1e-6, weight_decay=0.05),
        schedule=Cosine(peak=PEAK, warmup_steps=2000),
        training=Training(steps=STEPS, precision="bfloat16", validate_every=5000, save_every=1000),
    )


def _wavcaps(recipe: Recipe) -> Recipe:
    """Ten times WavCaps' 386,731 clips with all three objectives, at a fifth of the rate."""
    return _steps(
        replace(recipe, data=Mixture.Config(parts=(Part(Tars("wavcaps/train-*.tar")),))),
        steps=1888,
        peak=2e-5,
        warmup=100,
    )


def _retrieval(recipe: Recipe, *, corpus: Captioned) -> Recipe:
    """Contrast alone, 20 times the corpus in batches of 128 clips of one process; the best by validation is kept."""
    steps = 20 * CLIPS_OF[corpus] // 128
    tuned = replace(
        recipe,
        objectives=(Softmax.Config(),),
        weights={"contrast": 1.0},
        data=Mixture.Config(parts=(Part(Tars(TRAIN[corpus])),)),
        checks=(Check(f"{corpus} val", Tars(VAL[corpus])),),
        budget=Budget(clips=128, seconds=128 * LONGEST_SECONDS, clip_seconds=LONGEST_SECONDS),
    )
    tuned = _steps(tuned, steps=steps, peak=2e-5, warmup=steps // 20)
    return replace(tuned, training=replace(tuned.training, keep_best=f"{corpus} val text-to-audio R@10"))


def _captioning(recipe: Recipe, *, corpus: Captioned) -> Recipe:
    """Captioning alone, 20 times the corpus; the decoder goes on from pretraining's, as the towers do."""
    tuned = _retrieval(recipe, corpus=corpus)
    return replace(
        tuned,
        objectives=(Caption.Config(),),
        weights={"caption": 1.0},
        checks=(),
        training=replace(tuned.training, keep_best=None),
    )


def _steps(recipe: Recipe, *, steps: int, peak: float, warmup: int) -> Recipe:
    """The recipe over so many steps, and all that follows their number with it."""
    every = max(1, steps // 10)
    return replace(
        recipe,
        objectives=tuple(
            replace(objective, steps=steps) if isinstance(objective, Distill.Config) else objective
            for objective in recipe.objectives
        ),
        schedule=Cosine(peak=peak, warmup_steps=warmup),
        training=replace(recipe.training, steps=steps, validate_every=every, save_every=every),
    )


@dataclass(frozen=True)
class _Size:
    """What a small form changes."""

    width: int
    depth: int
    prototypes: int
    decoder: int
    steps: int
    peak: float
    clips: int
    seconds: float


SIZES: dict[str, _Size] = {
    "pool": _Size(width=192, depth=6, prototypes=1024, decoder=192, steps=3000, peak=5e-4, clips=64, seconds=300.0),
    "pocket": _Size(width=192, depth=3, prototypes=256, decoder=128, steps=600, peak=1e-3, clips=64, seconds=200.0),
}


def _small(recipe: Recipe, *, form: Form) -> Recipe:
    """The stage on a small tower beside the frozen multilingual sentence encoder; captions are said in bytes.

    Sounds are brought to where the texts are, as in the pocket recipe. Warm-up is 5 % of the steps.
    """
    size = SIZES[form]
    steps = size.steps if recipe.after is None else size.steps // 4
    assert isinstance(recipe.schedule, Cosine)
    peak = size.peak * recipe.schedule.peak / PEAK  # a tuning is as much slower as in the paper's form
    shrunk = replace(
        recipe,
        model=JointModel.Config(
            audio=Slap.Config(
                front_end=replace(spectrogram.SLAP, mean=-3.3, deviation=4.8),
                width=size.width,
                depth=size.depth,
                heads=6,
                hidden=2 * size.width,
            ),
            text=Sentence.Config(MULTILINGUAL_USE, width=512),
            width=512,
            text_projection=None,
        ),
        objectives=tuple(_shrunk(objective, size=size) for objective in recipe.objectives),
        data=Mixture.Config(parts=tuple(Part(small.source(form, "train", domain)) for domain in DOMAINS)),
        checks=small.checks(form),
        budget=Budget(clips=size.clips, seconds=size.seconds, clip_seconds=5.0 if form == "pocket" else 30.0),
        # No worker: two cores have no room for one beside the training itself, and every clip is decoded only once.
        reading=Reading(workers=0, keep_bytes=2 << 30),
        training=replace(recipe.training, precision="float32", keep_best=None),
        threads=2,
    )
    return _steps(shrunk, steps=steps, peak=peak, warmup=steps // 20)


def _shrunk(objective: ObjectiveConfig, *, size: _Size) -> ObjectiveConfig:
    if isinstance(objective, Softmax.Config):
        return replace(objective, positives="caption")
    if isinstance(objective, Distill.Config):
        return replace(objective, hidden=256, bottleneck=64, prototypes=size.prototypes)
    assert isinstance(objective, Caption.Config)
    return replace(objective, width=size.decoder, depth=2, heads=4, hidden=2 * size.decoder, max_tokens=64)
