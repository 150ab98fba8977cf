"""The tower that fine-tuning trains: how it is trained, and the copy of a model's tower that is made for it."""

from dataclasses import asdict, dataclass, replace

import torch

from lapis.audio_encoders.m2d import M2d, with_columns
from lapis.audio_encoders.slap import Slap
from lapis.data.classes import Kind
from lapis.layers.augment import SpecAugment
from lapis.layers.masking import Masking
from lapis.layers.resize_crop import ResizedAugment
from lapis.model import JointModel
from lapis.train.optim import OptimizerConfig, Sgd
from lapis.train.step import Precision
from lapis.weights import load_strictly


@dataclass(frozen=True)
class Tuning:
    """How the tower is trained: so many epochs, after each of which the validation clips are asked.

    Among epochs of equal validation score the one with the lowest validation loss counts.

    Args:
        learning_rate: reached after `warmup_epochs`, then down half a cosine to 1e-7.
        epochs: passes through the training clips, or through `balanced_draws` of them.
        clips: in a batch.
        clip_seconds: of a longer training clip a random window of that length is heard. Clips are never completed, and
            those that decide and are tested are heard whole.
        mixup: parameter of the Beta distribution of shares, see `lapis.data.mixing`; 0 mixes nothing.
        masking: which patches are left out; M2D's tower only, others hear all.
        augment: what is silenced in the spectrogram of M2D's and SLAP's towers; others have nothing of it.
        resize: a random resize crop after `augment`, in the same towers.
        divided: the loss of single labels divided by the number of classes, as in EVAR's released code, whose mean goes
            over clips and classes. Its published rate of 0.5 is for such a loss: 0.01 for the usual one of 50 classes.
        frames: M2D's positions are stretched or cut to so many frames of a clip; None leaves them.
        frozen_patches: M2D's linear layer from patches to tokens does not learn.
        balanced_draws: of an epoch in which rare classes come as often as common ones; None for every clip once.
        held_out: the share of the training clips, at random by the seed, that decides where there are no others.
        as_released: where there are no validation clips the test clips decide which epoch counts, and nothing is held
            out, as EVAR's fine-tuning code does; it is too good.
    """

    learning_rate: float = 0.5
    optimizer: OptimizerConfig = Sgd()
    epochs: int = 200
    warmup_epochs: int = 5
    clips: int = 128
    clip_seconds: float = 10.0
    mixup: float = 0.0
    masking: Masking | None = None
    augment: SpecAugment.Config | None = None
    resize: bool = False
    divided: bool = False
    frames: int | None = None
    frozen_patches: bool = False
    balanced_draws: int | None = None
    precision: Precision = "float32"
    held_out: float = 0.1
    seeds: tuple[int, ...] = (43, 44, 45)
    as_released: bool = False

    def __post_init__(self) -> None:
        if min(self.clips, self.epochs) < 1 or not 0 < self.held_out < 1 or not self.seeds:
            raise ValueError(f"expected clips and epochs above zero, held_out within (0, 1), a seed; got {self}")
        if self.resize and self.augment is None:
            raise ValueError("resize comes after augment: expected what is silenced, or SpecAugment.Config of no masks")


def told(tuning: Tuning, *, kind: Kind) -> str:
    """How a tower is trained, in words, for the protocol's sentence."""
    heard = [
        f"{tuning.epochs} epochs of {tuning.optimizer} at {tuning.learning_rate:g}, {tuning.warmup_epochs} of them of "
        f"warmup, {tuning.clips} clips a batch, at most {tuning.clip_seconds:g} s of a clip, {tuning.precision}"
    ]
    if tuning.divided and kind == "single-label":
        heard.append("loss divided by the number of classes")
    if tuning.mixup:
        heard.append(f"mixup {tuning.mixup:g}")
    if tuning.augment is not None:
        heard.append(f"{_augmented(tuning)} ({_values(tuning.augment)})")
    if tuning.masking is not None:
        heard.append(f"{tuning.masking.ratio:.0%} of patches left out ({_values(tuning.masking)})")
    if tuning.frames is not None:
        heard.append(f"M2D's positions for {tuning.frames} frames")
    if tuning.frozen_patches:
        heard.append("M2D's layer of patches held")
    if tuning.balanced_draws is not None:
        heard.append(f"{tuning.balanced_draws} balanced draws an epoch")
    return ", ".join(heard)


def missing(tuning: Tuning, *, model: JointModel) -> str:
    """What of it this model's tower cannot do, as a sentence; empty where it can do all."""
    tower, without = model.audio_encoder, []
    if tuning.augment is not None and not isinstance(tower, M2d | Slap):
        without.append(f"no {_augmented(tuning)}, which this tower has not")
    if tuning.masking is not None and not isinstance(tower, M2d):
        without.append("no patches left out, as only M2D's tower can")
    return f"On this tower: {', '.join(without)}." if without else ""


def _values(config: Masking | SpecAugment.Config) -> str:
    return ", ".join(f"{name} {value}" for name, value in asdict(config).items())


def _augmented(tuning: Tuning) -> str:
    return "SpecAugment and random resize crop" if tuning.resize else "SpecAugment"


def check_trainable(embedder: object) -> JointModel:
    """The model, whose tower must be one that can be trained.

    Raises:
        ValueError: it is none of this package.
    """
    if not isinstance(embedder, JointModel):
        raise ValueError(
            f"fine-tuning needs a joint model of this package, which can be trained, got {type(embedder).__name__}"
        )
    return embedder


def trainable(model: JointModel, *, tuning: Tuning) -> JointModel:
    """A model of the audio tower alone, with weights of its own that all learn, and without its head and pooling."""
    config, encoder = model.config.audio, model.audio_encoder
    assert isinstance(encoder, torch.nn.Module)
    state = encoder.state_dict().items()
    tensors = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in state}
    if isinstance(config, M2d.Config) and isinstance(encoder, M2d):
        config = replace(config, classes=None, trainable=True, pooling="mean", augment=tuning.augment)
        if tuning.frames is not None:
            columns = tuning.frames // config.patch_frames
            config = replace(config, columns=columns, chunk_frames=tuning.frames)
            tensors["positions"] = with_columns(tensors["positions"], bands=encoder.bands, columns=columns)
    elif isinstance(config, Slap.Config):
        config = replace(config, augment=tuning.augment)
    width = config.width if isinstance(config, M2d.Config) else encoder.width
    whole = replace(model.config, audio=config, text=None, width=width, audio_projection=None).build()
    tower = whole.audio_encoder
    assert isinstance(tower, torch.nn.Module)
    own = tower.state_dict()
    load_strictly(tower, {name: tensors[name] for name in own if name in tensors}, source="the model's audio tower")
    tower.requires_grad_(True)
    if isinstance(tower, M2d):
        tower.patches.requires_grad_(not tuning.frozen_patches)
    if tuning.resize and isinstance(tower, M2d | Slap) and isinstance(tower.augment, SpecAugment):
        tower.augment = ResizedAugment(tower.augment.config, silence=tower.augment.silence)
    return whole.to(model.device)
