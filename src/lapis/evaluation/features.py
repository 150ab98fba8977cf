"""What a classifier is given of a clip in place of the unit vector that meets texts."""

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from lapis.audio_encoders.m2d import M2d
from lapis.layers.transformer import Transformer
from lapis.model import Embedder, JointModel
from lapis.ragged import Ragged
from lapis.shapes import Vectors, Waveforms
from lapis.values import check_choice

FeatureKind = Literal["vectors", "tokens", "pooled", "frames", "logits", "layers"]
"""Unit vectors of any embedder; of a joint model the mean token, the tower's vector before the projection, the mean of
M2D's frame features (3840 wide in ViT-Base), the answers of M2D's head of classes, or the mean token after each of the
tower's layers, all of them side by side."""


@runtime_checkable
class Layered(Protocol):
    """An audio tower that tells what each of its layers answers."""

    transformer: Transformer

    def layers(self, waveforms: Ragged) -> list[Ragged]:
        """Samples to the tokens after every layer."""
        ...


class Features:
    """Gives one kind of features where vectors are expected: a `Listener`."""

    def __init__(self, embedder: Embedder, *, kind: FeatureKind) -> None:
        """Of an embedder.

        Raises:
            ValueError: it has no such features.
        """
        check_choice(kind, FeatureKind, name="features")
        self._embedder, self._kind = embedder, kind
        self.num_layers = 1
        """How many equal parts a vector has, each of which can be taken by itself."""
        self.width, self._of = embedder.width, None
        if kind != "vectors":
            if not isinstance(embedder, JointModel):
                raise ValueError(f"features {kind!r} need a joint model of this package, got {type(embedder).__name__}")
            if kind == "layers":
                self.num_layers = _layered(embedder).transformer.config.depth
            self.width, self._of = _of_tower(embedder, kind)

    @property
    def identity(self) -> str:
        """Names the weights and the kind."""
        return f"{self._embedder.identity}, {self._kind}"

    @property
    def sample_rate(self) -> int:
        """Of the waveforms, in hertz."""
        return self._embedder.sample_rate

    def embed_audio(self, waveforms: Waveforms) -> Vectors:
        """The features of clips, not normalised."""
        if self._of is None:
            return self._embedder.embed_audio(waveforms)
        assert isinstance(self._embedder, JointModel)
        return self._embedder.clip_features(waveforms, of=self._of, width=self.width)


def _of_tower(model: JointModel, kind: FeatureKind) -> tuple[int, Callable[[Ragged], Float[Tensor, "clips width"]]]:
    """Width and function of the samples of clips."""
    if kind == "layers":
        tower = _layered(model)
        size = tower.transformer.config
        return size.depth * size.width, lambda clips: torch.cat([of.mean() for of in tower.layers(clips)], dim=1)
    width, of_tokens = _of_tokens(model, kind)
    return width, lambda clips: of_tokens(model.audio_tokens(clips))


def _layered(model: JointModel) -> Layered:
    if not isinstance(model.audio_encoder, Layered):
        raise ValueError(f"features 'layers': this {type(model.audio_encoder).__name__} does not tell its layers")
    return model.audio_encoder


def _of_tokens(model: JointModel, kind: FeatureKind) -> tuple[int, Callable[[Ragged], Float[Tensor, "clips width"]]]:
    """Width and function of the tower's tokens."""
    encoder = model.audio_encoder
    if kind == "pooled":
        return encoder.width, encoder.pool
    if isinstance(encoder, M2d):
        if kind == "frames":
            return encoder.config.width * encoder.bands, lambda tokens: encoder.frames(tokens).mean()
        if kind == "logits" and encoder.config.classes:
            return encoder.config.classes, encoder.classify
        if kind == "tokens":
            return encoder.config.width, Ragged.mean
    elif kind == "tokens":
        return encoder.width, Ragged.mean
    wanted = "head of classes" if kind == "logits" else "frame features"
    raise ValueError(f"features {kind!r}: this {type(encoder).__name__} has no {wanted}")
