"""A joint model small enough for tests, its text side computed from the letters of a text, and a corpus for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from lapis import values
from lapis.audio_encoders.slap import Slap
from lapis.calibration import LEVELS, Calibration, Decision, Fitted, Logistic
from lapis.data.batching import Batch, Draw
from lapis.data.sample import Sample
from lapis.data.sources import Tars
from lapis.model import JointModel
from lapis.ragged import Ragged

values.TRUSTED.add(__name__)


class Letters(nn.Module):
    """A trainable text tower: the mean embedding of a text's bytes and of its pairs of bytes."""

    @dataclass(frozen=True)
    class Config:
        width: int = 16

        def build(self) -> "Letters":
            return Letters(self)

        def located_in(self, folder: Path) -> "Letters.Config":
            return self

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.table = nn.EmbeddingBag(4096, config.width)

    @property
    def identity(self) -> str:
        return "letters"

    def save_assets(self, folder: Path) -> "Letters.Config":
        return self.config

    def forward(self, texts: Sequence[str]) -> Tensor:
        codes = [list(text.encode()) for text in texts]
        hashed = [code + [256 + (a * 31 + b) % 3840 for a, b in pairwise(code)] for code in codes]
        offsets = torch.tensor([0, *(len(row) for row in hashed)]).cumsum(0)[:-1]
        return self.table(torch.tensor([code for row in hashed for code in row]), offsets)


CONFIG = JointModel.Config(audio=Slap.Config(width=16, depth=2, heads=2, hidden=24), text=Letters.Config(), width=8)


def model(seed: int = 0, **changes) -> JointModel:
    torch.manual_seed(seed)
    return replace(CONFIG, **changes).build()


def calibration(of: JointModel | str, *, width: int = 8, **changes) -> Calibration:
    """A calibration of a model, or of this identity: plain numbers, no fit."""
    identity = of if isinstance(of, str) else of.identity
    fitted = Fitted(data="pairs", num_clips=3, num_texts=2, num_pairs=6, num_matches=2, losses={"a": 0.1}, chosen="a")
    plain = Calibration(
        identity=identity,
        curve=Logistic(8.0, -2.0),
        background_weight=-0.5,
        centre=tuple(0.1 * place for place in range(width)),
        unrelated=tuple(2 * level - 1 for level in LEVELS),
        prior=0.1,
        decision=Decision(),
        least_score=0.0,
        fitted=fitted,
    )
    return replace(plain, **changes)


def batch(samples: Sequence[Sample] | Tars, *, first: int = 0) -> Batch:
    """All samples as one batch, with the first caption of each."""
    from lapis import audio

    listed = samples.build() if isinstance(samples, Tars) else samples
    waveforms = [torch.from_numpy(audio.read(sample.audio.open(), sample_rate=16_000)) for sample in listed]
    captions = tuple(next(iter(sample.captions.values()))[0] for sample in listed)
    draws = tuple(Draw(first + number, sample) for number, sample in enumerate(listed))
    return Batch(Ragged.pack(waveforms), captions, draws, first + len(draws))
