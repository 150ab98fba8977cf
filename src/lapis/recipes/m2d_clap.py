"""M2D-CLAP (arXiv 2503.22104): stages 1, 1.1, 2 and 2.1, each begun with what the stage before has learned.

1 trains the audio encoder on its own patches (masked modelling duo) and, much more softly, on captions. 1.1 fine-tunes
it on AudioSet's classes, with a head. 2 keeps the encoder and trains BERT and the semantic block against it; it takes a
folder of stage 1, too. 2.1 refines both on the captions that people or their tools wrote for whole clips. Sources of
every figure: docs/recipes/m2d_clap.md.
"""

from dataclasses import dataclass, replace
from typing import Literal

from lapis import small
from lapis.audio_encoders.m2d import M2d
from lapis.data.batching import Budget
from lapis.data.captions import Captions
from lapis.data.classes import labels_of
from lapis.data.loader import Reading
from lapis.data.mixture import Mixture, Part
from lapis.data.sources import Tars
from lapis.evaluation.classification import Classification
from lapis.layers import spectrogram
from lapis.layers.augment import SpecAugment
from lapis.layers.masking import Masking
from lapis.layers.projection import Linear
from lapis.model import JointModel
from lapis.objectives.classify import Classify
from lapis.objectives.contrast import Softmax
from lapis.objectives.duo import Duo
from lapis.objectives.learner import ObjectiveConfig
from lapis.objectives.visible import Visible
from lapis.recipe import Check, Recipe
from lapis.small import DOMAINS, Domain, Form
from lapis.text_encoders.huggingface import HuggingFace
from lapis.text_encoders.sentence import MULTILINGUAL_USE, Sentence
from lapis.train.after import After
from lapis.train.loop import Training
from lapis.train.optim import AdamW, Cosine, Lars

Stage = Literal["1", "1.1", "2", "2.1"]
Departures = Literal["as_described", "as_released"]
"""Where the released code does something else than its papers say: what they say, or what it does."""

FRONT_END = replace(spectrogram.M2D, mean=-7.261779308319092, deviation=4.3511505126953125)
"""With the statistics of the authors' training clips."""
SHORT_FRAMES, LONG_FRAMES = 608, 1001
SHORT_SECONDS, LONG_SECONDS = 6.07, 10.0
"""Of sound in so many frames, the first of which is centred on the first sample."""

ENCODER = tuple(f"audio_encoder.{part}" for part in ("class_token", "patches.", "positions", "transformer."))
CARRIED = {"1.1": ENCODER, "2": ENCODER, "2.1": ("",)}
"""How the names begin of what a stage takes from the one before: stages 1.1 and 2 the encoder, beside which the head or
the semantic block begins anew, stage 2.1 everything."""

ADAMW = AdamW(betas=(0.9, 0.95), epsilon=1e-8, weight_decay=0.05)

CLASSES, CLASS_FILE = 527, "audioset/classes.txt"
"""AudioSet's classes, and where their names stand: one a line, as labels are written in the tars."""
AUGMENT = SpecAugment.Config(time_masks=1, time_frames=192, band_masks=1, bands=30)

# Tars in the data folder; weights are the numbers of clips the authors had, so that every clip is as likely.
LABELLED = (
    Part(Tars("audioset/train-*.tar"), weight=1_954_821.0),
    Part(Tars("vggsound/train-*.tar"), weight=190_663.0),
)
WAVCAPS = Part(Tars("wavcaps/train-*.tar"), weight=386_731.0)
CAPTIONED = (
    Part(Tars("audiocaps/train-*.tar"), weight=49_274.0),
    Part(Tars("clotho/development-*.tar"), weight=3_738.0),
)
CHECKS = (Check("AudioCaps val", Tars("audiocaps/val-*.tar")), Check("Clotho val", Tars("clotho/validation-*.tar")))


def m2d_clap(
    stage: Stage = "1", *, form: Form = "paper", after: str | None = None, departures: Departures = "as_described"
) -> Recipe:
    """One stage.

    Args:
        stage: which.
        form: "paper" for four processes of 512 clips each; "pool" for sounds of the folder `pool`, and "pocket" for the
            corpus of this repository, in minutes on two cores.
        after: folder of the stage before; stage 1 has none.
        departures: of the released code; see the page of this recipe for those that can be had.

    Raises:
        ValueError: a later stage is asked for without the folder of the one before, or stage 1 with one.
    """
    if (after is None) != (stage == "1"):
        wanted = "stage 1 begins with nothing" if stage == "1" else f"stage {stage} needs after=: the folder before it"
        raise ValueError(f"{wanted}, got after={after!r}")
    stages = {"1": _stage_1, "1.1": _stage_1_1, "2": _stage_2, "2.1": _stage_2_1}
    recipe = stages[stage](departures == "as_released")
    if after is not None:
        recipe = replace(recipe, after=After(after, take=CARRIED[stage]))
    return recipe if form == "paper" else _small(recipe, stage=stage, form=form)


def _stage_1(released: bool) -> Recipe:
    """370,800 steps of 2048 clips: 300 times 2,532,215 clips."""
    return Recipe(
        name="m2d_clap",
        model=JointModel.Config(
            audio=M2d.Config(front_end=FRONT_END, columns=38, chunk_frames=SHORT_FRAMES, pooling="semantic"),
            text=Sentence.Config("nvidia/NV-Embed-v2", width=4096),
            width=768,
            chunk_seconds=None,
            audio_projection=None,
            text_projection=Linear.Config(bias=True),
        ),
        objectives=(Duo.Config(steps=370_800, visible=Softmax.Config(temperature=0.07)),),
        # The released code gathers without gradients: its contrast pulls with a quarter of its weight on four GPUs.
        weights={"masked": 1.0, "contrast": 0.0025 if released else 0.01},
        data=Mixture.Config(parts=(*LABELLED, WAVCAPS)),
        checks=CHECKS,
        budget=Budget(clips=512, seconds=512 * SHORT_SECONDS, clip_seconds=SHORT_SECONDS),
        reading=Reading(workers=8),
        optimizer=ADAMW,
        schedule=Cosine(peak=2.4e-3, warmup_steps=24_720),
        training=Training(steps=370_800, clip_norm=3.0, precision="bfloat16", validate_every=12_360, save_every=1236),
        seed=7,
    )


def _stage_1_1(released: bool) -> Recipe:
    """70 epochs of 200,000 draws of AudioSet in batches of 64 clips, of one process."""
    return replace(
        _stage_1(released),
        model=JointModel.Config(
            audio=M2d.Config(
                front_end=FRONT_END, columns=62, chunk_frames=LONG_FRAMES, classes=CLASSES, augment=AUGMENT
            ),
            text=None,
            width=768,
            chunk_seconds=None,
            audio_projection=None,
        ),
        objectives=(
            Classify.Config(
                classes=CLASS_FILE,
                masking=Masking(ratio=0.5, shape="structured", inverted=released),
                mixup=0.5,
                complete_to=LONG_FRAMES if released else None,
            ),
        ),
        weights={"classify": 1.0},
        # Labels are what is learned: clips need no caption, and AudioSet's own tables have none.
        data=Mixture.Config(
            parts=(Part(Tars("audioset/train-*.tar"), balanced_draws=200_000),), captions=Captions(needed=False)
        ),
        checks=(Check("AudioSet val", Tars("audioset/val-*.tar"), Classification(CLASS_FILE)),),
        budget=Budget(clips=64, seconds=64 * LONG_SECONDS, clip_seconds=LONG_SECONDS),
        optimizer=Lars(momentum=0.9, weight_decay=0.0),
        schedule=Cosine(peak=2.0, warmup_steps=46_875, end=1e-7),
        # Nothing is clipped: such a norm is never reached.
        training=Training(steps=218_750, clip_norm=1e9, precision="bfloat16", validate_every=15_625, save_every=3125),
        seed=43,
    )


def _stage_2(released: bool) -> Recipe:
    """37,860 steps of 2048 clips: 30 times 2,585,227 clips."""
    mask = Masking(ratio=0.3, shape="structured", inverted=released)
    return replace(
        _stage_1(released),
        model=JointModel.Config(
            audio=M2d.Config(
                front_end=FRONT_END, columns=62, chunk_frames=LONG_FRAMES, pooling="semantic", trainable=False
            ),
            text=HuggingFace.Config("google-bert/bert-base-uncased", pooling="first", max_tokens=512),
            width=768,
            chunk_seconds=None,
            audio_projection=None,
            text_projection=None,
        ),
        objectives=(_on_visible(mask, released=released),),
        weights={"contrast": 1.0},
        data=Mixture.Config(parts=(*LABELLED, WAVCAPS, *CAPTIONED)),
        budget=Budget(clips=512, seconds=512 * LONG_SECONDS, clip_seconds=LONG_SECONDS),
        schedule=Cosine(peak=2.4e-5, warmup_steps=6310),
        training=Training(steps=37_860, clip_norm=3.0, precision="bfloat16", validate_every=1262, save_every=1262),
    )


def _stage_2_1(released: bool) -> Recipe:
    """6,420 steps of 2048 clips: 30 times 439,743 clips."""
    return replace(
        _stage_2(released),
        objectives=(_on_visible(Masking(ratio=0.0), released=released),),
        data=Mixture.Config(parts=(WAVCAPS, *CAPTIONED)),
        schedule=Cosine(peak=2.4e-5, warmup_steps=1070),
        training=Training(steps=6420, clip_norm=3.0, precision="bfloat16", validate_every=214, save_every=214),
        seed=0,
    )


def _on_visible(mask: Masking, *, released: bool) -> Visible.Config:
    contrast = Softmax.Config(temperature=0.01)
    return Visible.Config(contrast, masking=mask, complete_to=LONG_FRAMES if released else None)


@dataclass(frozen=True)
class _Size:
    """What a small form changes."""

    width: int
    depth: int
    steps: int
    peak: float
    clips: int


SIZES = {"pool": _Size(width=192, depth=6, steps=3000, peak=5e-4, clips=64), "pocket": _Size(192, 4, 800, 1e-3, 64)}


SMALL_AUGMENT = SpecAugment.Config(time_masks=1, time_frames=48, band_masks=1, bands=15)


def _small(recipe: Recipe, *, stage: Stage, form: Form) -> Recipe:
    """The stage on a small encoder, with the frozen multilingual sentence encoder in place of both text towers.

    Stage 1 brings sounds to where the texts are; the later ones, whose text side must learn something, project them.
    """
    size = SIZES[form]
    encoder = recipe.model.audio
    assert isinstance(encoder, M2d.Config)
    tower = replace(encoder, columns=38, chunk_frames=SHORT_FRAMES, width=size.width, depth=size.depth, heads=3)
    tower = replace(tower, hidden=4 * size.width)
    steps, warmup = (size.steps, size.steps // 16) if stage == "1" else (size.steps // 4, size.steps // 32)
    recipe = replace(
        recipe,
        budget=Budget(clips=size.clips, seconds=200.0, clip_seconds=5.0),
        # No worker: two cores have no room for one beside the training itself, and every clip is decoded only once.
        reading=Reading(workers=0, keep_bytes=2 << 30),
        schedule=Cosine(peak=size.peak, warmup_steps=warmup),
        training=Training(steps=steps, clip_norm=3.0, validate_every=steps // 4, save_every=steps // 4),
        threads=2,
    )
    if stage == "1.1":
        return _small_classes(recipe, encoder=tower, form=form)
    model = JointModel.Config(
        audio=tower,
        text=Sentence.Config(MULTILINGUAL_USE, width=512),
        width=512,
        chunk_seconds=None,
        audio_projection=Linear.Config(),
        text_projection=None if stage == "1" else Linear.Config(bias=True),
    )
    parts = tuple(Part(small.source(form, "train", domain)) for domain in DOMAINS)
    return replace(
        recipe,
        model=model,
        objectives=tuple(_shrunk(objective, steps=steps) for objective in recipe.objectives),
        weights=dict.fromkeys(recipe.weights, 1.0),  # 0.01 needs more steps than there are here
        data=Mixture.Config(parts=parts),
        checks=small.checks(form),
    )


def _small_classes(recipe: Recipe, *, encoder: M2d.Config, form: Form) -> Recipe:
    """Stage 1.1 on the labels of sound and music, one a clip; their names are read from the corpus itself."""
    domains: tuple[Domain, ...] = ("sound", "music")
    train = {domain: small.source(form, "train", domain) for domain in domains}
    val = {domain: small.source(form, "val", domain) for domain in domains}
    clips = {domain: source.build() for domain, source in train.items()}
    samples = [s for listed in clips.values() for s in listed] + [s for source in val.values() for s in source.build()]
    classes = labels_of(samples)
    (objective,) = recipe.objectives
    assert isinstance(objective, Classify.Config)
    return replace(
        recipe,
        model=replace(
            recipe.model, audio=replace(encoder, classes=len(classes), augment=SMALL_AUGMENT), width=encoder.width
        ),
        objectives=(replace(objective, classes=classes, kind="single-label", complete_to=None),),
        data=Mixture.Config(
            parts=tuple(Part(train[domain], balanced_draws=len(clips[domain]) // 2) for domain in domains)
        ),
        checks=tuple(Check(domain, val[domain], Classification(classes, "single-label")) for domain in domains),
        optimizer=ADAMW,  # LARS at 2.0 learns more slowly in so few steps
    )


def _shrunk(objective: ObjectiveConfig, *, steps: int) -> ObjectiveConfig:
    """With a small predictor, an average as fast as so few steps want, and captions counted for all their clips."""
    contrast = Softmax.Config(positives="caption")
    if isinstance(objective, Duo.Config):
        return replace(
            objective, width=128, depth=2, heads=4, decay=0.98, last_decay=0.996, steps=steps, visible=contrast
        )
    assert isinstance(objective, Visible.Config)
    return replace(objective, objective=contrast, complete_to=None)
