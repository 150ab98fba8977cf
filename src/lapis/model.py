"""Two towers that meet in one space, and the contract that evaluation, search and serving rely on."""

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Concatenate, Literal, ParamSpec, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lapis.calibration import Calibration
from lapis.layers.projection import Linear, Perceptron
from lapis.ragged import Ragged
from lapis.shapes import Vectors, Waveforms
from lapis.values import to_values
from lapis.weights import digest

BATCH_SECONDS = 120.0
"""Of sound that `embed_audio` gives at once to a tower that takes any length; a longer clip goes alone."""

LOUDEST = 1e8
"""A sample beyond this is no sound, and its power may be none that float32 holds."""

Projection = Linear.Config | Perceptron.Config | None
"""From a tower's vector to the common width; None where the tower's vector is there already."""

P = ParamSpec("P")
R = TypeVar("R")


@runtime_checkable
class Embedder(Protocol):
    """Anything that puts sounds and texts into one space. All that evaluation, search and serving know of a model."""

    @property
    def identity(self) -> str:
        """Names the weights: two embedders with one identity give the same vectors."""
        ...

    @property
    def sample_rate(self) -> int:
        """Of the waveforms it takes, in hertz."""
        ...

    @property
    def width(self) -> int:
        """Of its vectors."""
        ...

    def embed_audio(self, waveforms: Waveforms) -> Vectors:
        """Unit vectors of clips of any durations; a clip's vector does not depend on its neighbours."""
        ...

    def embed_text(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of texts in any language the model knows."""
        ...


@runtime_checkable
class AudioEncoder(Protocol):
    """What an audio tower offers: dense tokens, and one vector a clip made from them."""

    sample_rate: int
    width: int

    def __call__(self, waveforms: Ragged) -> Ragged:
        """Samples to tokens of shape (rows, width)."""
        ...

    def pool(self, tokens: Ragged) -> Float[Tensor, "clips width"]:
        """Tokens to one vector a clip."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """What a text tower offers: one vector a text."""

    width: int

    @property
    def identity(self) -> str:
        """Names what turns a text into the tower's answer, its own weights excepted."""
        ...

    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "texts width"]:
        """Texts to vectors, before the projection."""
        ...

    def save_assets(self, folder: Path) -> "TextEncoderConfig":
        """Write what is not in the weights (a tokenizer) below `folder`; the config that finds it from there."""
        ...


@runtime_checkable
class AudioEncoderConfig(Protocol):
    """A frozen value that can build an audio tower."""

    def build(self) -> AudioEncoder: ...  # noqa: D102


@runtime_checkable
class TextEncoderConfig(Protocol):
    """A frozen value that can build a text tower."""

    def build(self) -> TextEncoder: ...  # noqa: D102

    def located_in(self, folder: Path) -> "TextEncoderConfig":
        """The same, with the paths that `save_assets` made relative read as paths below `folder`."""
        ...


def _evaluating(method: Callable[Concatenate["JointModel", P], R]) -> Callable[Concatenate["JointModel", P], R]:
    """Run a method without gradients and without what is random in training, whatever mode the model is in."""

    @functools.wraps(method)
    def run(model: "JointModel", *args: P.args, **kwargs: P.kwargs) -> R:
        modes = {module: module.training for module in model.modules()}
        model.eval()
        try:
            with torch.inference_mode():
                return method(model, *args, **kwargs)
        finally:
            for module, training in modes.items():
                module.training = training

    return run


@dataclass(frozen=True)
class Logits:
    """How the loss that a model learned from makes a logit of a cosine: `scale * cosine + bias`.

    The logistic function of a "sigmoid" logit is what the loss took for the probability that a pair belongs together;
    "softmax" logits are comparable within one batch only.
    """

    loss: Literal["softmax", "sigmoid"]
    scale: float
    bias: float = 0.0


class JointModel(nn.Module):
    """An audio tower and a text tower that meet in one width, normalised. An `Embedder`."""

    @dataclass(frozen=True)
    class Config:
        """The towers and the width they meet in.

        `text` is None for weights that hear only. `chunk_seconds`: `embed_audio` cuts a longer clip into equal pieces
        no longer than this and answers with the mean of their vectors; None where the tower itself takes sound of any
        length in bounded memory (Dasheng and M2D, whose chunks do not see each other).
        """

        audio: AudioEncoderConfig
        text: TextEncoderConfig | None
        width: int = 768
        chunk_seconds: float | None = 120.0
        audio_projection: Projection = Linear.Config()
        text_projection: Projection = Linear.Config()

        def build(self) -> "JointModel":
            """The module of this value."""
            return JointModel(self)

        def build_empty(self) -> "JointModel":
            """The same without memory for its weights, on the meta device, to be given them by `load_strictly`."""
            with torch.device("meta"):
                return JointModel(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.audio_encoder = config.audio.build()
        self.text_encoder = config.text.build() if config.text else None
        self.sample_rate = self.audio_encoder.sample_rate
        self.logits: Logits | None = None  # set by a run whose objectives learned them; saved with the model
        self.calibration: Calibration | None = None  # set by `lapis.load`; saved while it is of these weights
        self.audio_projection = _projection(config.audio_projection, "sounds", self.audio_encoder.width, config.width)
        if self.text_encoder is not None:
            self.text_projection = _projection(config.text_projection, "texts", self.text_encoder.width, config.width)

    def audio_tokens(self, waveforms: Ragged) -> Ragged:
        """Dense features: rows are samples in, tokens out."""
        return self.audio_encoder(waveforms)

    def project_audio(self, tokens: Ragged) -> Float[Tensor, "clips width"]:
        """Unit vectors of clips from their tokens."""
        return F.normalize(self.audio_projection(self.audio_encoder.pool(tokens)).float(), dim=-1)

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "texts width"]:
        """Unit vectors of texts, with gradients.

        Raises:
            ValueError: these weights hear only.
        """
        if self.text_encoder is None:
            raise ValueError("this model has no text tower: its weights turn sounds into vectors, not texts")
        return F.normalize(self.text_projection(self.text_encoder(texts)).float(), dim=-1)

    @property
    def identity(self) -> str:
        """The text tower's name and a digest of all weights and of what is done with sound beside them."""
        config = self.config
        beside = (config.audio, config.chunk_seconds, config.audio_projection, config.text_projection)
        texts = self.text_encoder.identity if self.text_encoder else "no texts"
        return f"{texts}+{digest(self.state_dict(), beside=json.dumps(to_values(beside)))}"

    @_evaluating
    def embed_audio(self, waveforms: Waveforms) -> Vectors:
        """Unit vectors of mono clips at `sample_rate`.

        Raises:
            ValueError: see `check_waveforms`.
        """
        vectors = torch.from_numpy(self.audio_features(waveforms, of=self.project_audio, width=self.width))
        return F.normalize(vectors, dim=-1).numpy()

    def audio_features(
        self, waveforms: Waveforms, *, of: Callable[[Ragged], Float[Tensor, "clips width"]], width: int
    ) -> Vectors:
        """What a function makes of the tokens of each clip, `width` wide; the mean where a clip goes in pieces.

        Raises:
            ValueError: see `check_waveforms`.
        """
        return self.clip_features(waveforms, of=lambda clips: of(self.audio_tokens(clips)), width=width)

    @_evaluating
    def clip_features(
        self, waveforms: Waveforms, *, of: Callable[[Ragged], Float[Tensor, "clips width"]], width: int
    ) -> Vectors:
        """As `audio_features`, of the samples of each clip in place of its tokens: of what lies within the tower.

        Raises:
            ValueError: see `check_waveforms`.
        """
        check_waveforms(waveforms)
        if not len(waveforms):
            return np.zeros((0, width), np.float32)
        pieces = [self._pieces(waveform) for waveform in waveforms]
        clips = [torch.from_numpy(np.ascontiguousarray(piece, dtype=np.float32)) for clip in pieces for piece in clip]
        # Clips of like length side by side: what takes them by equal length finds more to take at once.
        order = sorted(range(len(clips)), key=lambda clip: len(clips[clip]))
        at_once = round((self.config.chunk_seconds or BATCH_SECONDS) * self.sample_rate)
        groups = _groups([clips[clip] for clip in order], at_once)
        packed = (Ragged.pack(group).to(self.device) for group in groups)
        features = torch.cat([of(clips) for clips in packed])
        in_order = features[torch.tensor(order, device=features.device).argsort()]
        return Ragged(in_order, tuple(len(clip) for clip in pieces)).mean().float().cpu().numpy()

    def _pieces(self, waveform: np.ndarray) -> list[np.ndarray]:
        if self.config.chunk_seconds is None:
            return [waveform]
        longest = round(self.config.chunk_seconds * self.sample_rate)
        return np.array_split(waveform, -(-len(waveform) // longest))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @_evaluating
    def embed_text(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of texts.

        Raises:
            ValueError: a text is empty or no string, or the model hears only.
        """
        check_texts(texts)
        if not len(texts):
            return np.zeros((0, self.width), np.float32)
        return self.encode_text(texts).float().cpu().numpy()


def check_waveforms(waveforms: Waveforms) -> None:
    """Refuse what no model can embed.

    Raises:
        ValueError: the clips are not in a list; or one is not mono, not of floating point, empty, or has a sample that
            is no finite number or far beyond any sound.
    """
    if isinstance(waveforms, np.ndarray) and waveforms.ndim == 1:
        raise ValueError(f"expected a list of clips, got one of {len(waveforms)} samples: put it into a list")
    for number, waveform in enumerate(waveforms):
        if not isinstance(waveform, np.ndarray):
            raise ValueError(f"clip {number} must be a numpy array, got {type(waveform).__name__}")
        if waveform.ndim != 1 or not np.issubdtype(waveform.dtype, np.floating):
            came = f"{waveform.dtype} of shape {waveform.shape}"
            raise ValueError(f"clip {number} must be mono, floating point numbers in [-1, 1] on one axis; got {came}")
        if not len(waveform) or not np.isfinite(waveform).all():
            raise ValueError(f"clip {number} must have samples, all of them finite numbers; it has {len(waveform)}")
        if np.abs(waveform).max() > LOUDEST:
            raise ValueError(
                f"clip {number} must be sound in about [-1, 1]; it has a sample of {abs(waveform).max():g}"
            )


def check_texts(texts: Sequence[str]) -> None:
    """Refuse what no model can embed.

    Raises:
        ValueError: the texts are not in a list, or one is no string or empty.
    """
    if isinstance(texts, str):
        raise ValueError(f"expected a list of texts, got {texts!r}: put it into a list")
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"text {number} must be a string, got {type(text).__name__}")
        if not text.strip():
            raise ValueError(f"text {number} is empty")


def _projection(config: Projection, what: str, width: int, to: int) -> nn.Module:
    if config is not None:
        return config.build(width, to=to)
    if width != to:
        raise ValueError(f"{what} of width {width} need a projection to width {to}")
    return nn.Identity()


def _groups(clips: Sequence[Tensor], most_samples: int) -> Iterator[list[Tensor]]:
    """The clips in their order, in groups of at most so many samples."""
    group: list[Tensor] = []
    for clip in clips:
        if group and sum(map(len, group)) + len(clip) > most_samples:
            yield group
            group = []
        group.append(clip)
    yield group
