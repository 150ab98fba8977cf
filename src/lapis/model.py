"""Two towers and the contract that evaluation, search and serving rely on."""

from typing import Protocol, runtime_checkable

from collections.abc import Sequence

from lapis.shapes import Vectors, Waveforms


@runtime_checkable
class Embedder(Protocol):
    """Anything that puts sounds and texts into one space. All that evaluation, search and serving know of a model."""

    identity: str
    """Names the weights: two embedders with one identity give the same vectors."""
    sample_rate: int
    """Of the waveforms it takes, in hertz."""
    width: int
    """Of its vectors."""

    def embed_audio(self, waveforms: Waveforms) -> Vectors:
        """Unit vectors of clips of any durations; a clip's vector does not depend on its neighbours."""
        ...

    def embed_text(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of texts in any language the model knows."""
        ...
