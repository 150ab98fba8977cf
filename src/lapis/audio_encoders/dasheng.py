"""Dasheng's audio tower (arXiv 2406.06992; GLAP, arXiv 2506.11350, section 2): 64 mel bands, one token every 40 ms.

Long sound is cut into chunks of 252 tokens (10.08 s) that do not see each other, positions beginning anew in each, as
the official code does. A chunk is an item of a `Ragged`, so that all chunks of all clips go through as one batch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lapis import distributed
from lapis.layers import renaming, spectrogram
from lapis.layers.patches import Patches
from lapis.layers.positions import Learned
from lapis.layers.spectrogram import LogMel
from lapis.layers.transformer import Transformer
from lapis.ragged import Ragged
from lapis.values import check_choice

Pooling = Literal["published", "release-2026"]

WEIGHTS_ADDRESS = "https://zenodo.org/records/11511780/files/dasheng_base.pt"
"""Dasheng-base as it is published."""


class Dasheng(nn.Module):
    """Waveforms to tokens of full height, 25 a second, and their mean as one vector a clip."""

    @dataclass(frozen=True)
    class Config:
        """Dasheng-base: 85,447,808 parameters with the batch norm's and the positions.

        `pooling` tells two behaviours of the official code apart, for sound longer than 10.08 s. "published": the mean
        over the tokens of all chunks, as when the paper's figures were made. "release-2026": the normalised
        spectrogram is first filled with zeros to whole chunks, and the tokens of the filling count in the mean. Up to
        1008 frames both are one.

        `band_momentum`: how much of the running statistics of the bands a batch replaces; None makes them the mean over
        all batches, which fits a fresh tower trained for a few hundred steps.
        """

        front_end: LogMel.Config = spectrogram.DASHENG
        patch_frames: int = 4
        chunk_tokens: int = 252
        width: int = 768
        depth: int = 12
        heads: int = 12
        hidden: int = 3072
        pooling: Pooling = "published"
        band_momentum: float | None = 0.01

        def build(self) -> "Dasheng":
            """The module of this value, with fresh parameters."""
            return Dasheng(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        check_choice(config.pooling, Pooling, name="pooling")
        self.config = config
        self.sample_rate = config.front_end.sample_rate
        self.width = config.width
        mels = config.front_end.num_mels
        self.log_mel = LogMel(config.front_end)
        self.band_norm = BandNorm(mels, momentum=config.band_momentum)
        self.patches = Patches(
            frames=config.patch_frames, mels=mels, num_mels=mels, width=config.width, bias=True, silence=0.0
        )
        self.positions = Learned(sizes=(config.chunk_tokens, 1), width=config.width)
        self.transformer = Transformer.Config(
            width=config.width, depth=config.depth, heads=config.heads, hidden=config.hidden
        ).build()

    @property
    def min_samples(self) -> int:
        """Of one token, 30 ms; a shorter clip gets zeros at its end up to this."""
        hops = self.config.patch_frames - 1
        return max(hops * self.config.front_end.hop_samples, self.config.front_end.min_samples)

    def num_tokens(self, num_samples: int) -> int:
        """Tokens of a clip of so many samples, those of the filling counted in."""
        return self._num_frames(num_samples) // self.config.patch_frames

    def token_seconds(self, num_samples: int) -> Float[np.ndarray, "tokens 2"]:
        """When each token of a clip begins and ends. Frames are centred on their time, so the first begins at 0."""
        hop = self.config.patch_frames * self.config.front_end.hop_samples / self.sample_rate
        begins = np.arange(self.num_tokens(num_samples)) * hop
        return np.stack([begins, begins + hop], axis=1)

    def forward(self, waveforms: Ragged) -> Ragged:
        """Rows are samples in; tokens of shape (rows, width) out, `num_tokens` a clip."""
        chunks, lengths = self._embedded(waveforms)
        return Ragged(self.transformer.in_groups(chunks).rows, lengths)

    def layers(self, waveforms: Ragged) -> list[Ragged]:
        """The tokens after every layer; the last one's are normalised, and are what `forward` answers with."""
        chunks, lengths = self._embedded(waveforms)
        return [Ragged(layer.rows, lengths) for layer in self.transformer.layers(chunks)]

    def pool(self, tokens: Ragged) -> Float[Tensor, "clips width"]:
        """The mean token of each clip."""
        return tokens.mean()

    def _embedded(self, waveforms: Ragged) -> tuple[Ragged, tuple[int, ...]]:
        """Chunks with their positions, and the tokens of each clip."""
        waveforms = waveforms.at_least(self.min_samples)
        spectrogram = self.log_mel(waveforms).map(self.band_norm)
        wanted = [self._num_frames(length) for length in waveforms.lengths]
        filled = [F.pad(clip, (0, 0, 0, length - len(clip))) for clip, length in zip(spectrogram.split(), wanted)]
        patches = self.patches(Ragged.pack(filled))
        chunks = patches.cut(self.config.chunk_tokens)
        positions = self.patches.positions(chunks)
        return chunks.map(lambda rows: rows + self.positions(positions)), patches.lengths

    def _num_frames(self, num_samples: int) -> int:
        """Frames that become tokens: whole patches, and with "release-2026" whole chunks where there are several."""
        frames = self.config.front_end.num_frames(max(num_samples, self.min_samples))
        chunk = self.config.chunk_tokens * self.config.patch_frames
        if self.config.pooling == "release-2026" and frames > chunk:
            return -(-frames // chunk) * chunk
        return frames // self.config.patch_frames * self.config.patch_frames


class BandNorm(nn.BatchNorm1d):
    """Batch norm over the bands of a spectrogram, whose statistics stay float32 in a model of half precision.

    Its means lie around -30 decibels: bfloat16 would move them by a tenth of a decibel. While training, a batch is that
    of all processes: the frames of one process alone would make its copy of the tower hear otherwise.
    """

    def forward(self, input: Float[Tensor, "frames bands"]) -> Float[Tensor, "frames bands"]:
        """The bands, each with mean 0 and variance 1 over the batch, or by the running statistics, scaled and moved."""
        if not (self.training and distributed.is_running()):
            return super().forward(input)
        bands = input.float()
        frames = distributed.gather(torch.tensor([len(bands)], device=bands.device)).sum()
        mean = distributed.gather(bands.sum(0)[None]).sum(0) / frames
        variance = distributed.gather((bands - mean).square().sum(0)[None]).sum(0) / frames
        assert self.num_batches_tracked is not None and self.running_mean is not None and self.running_var is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * frames / (frames - 1), share)
        normal = (bands - mean) * (variance + self.eps).rsqrt()
        return (normal * self.weight + self.bias).to(input.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "BandNorm":
        def keep_precision(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            if moved.dtype == tensor.dtype or not tensor.is_floating_point():
                return moved
            return tensor.to(moved.device, torch.float32)

        return super()._apply(keep_precision, recurse)


HEADS = {1280: 16}
"""By width, which no shape tells: 64 values a head, but for the tower of 0.6 B parameters, where it is 80."""


def geometry(official: Mapping[str, Tensor]) -> Dasheng.Config:
    """The sizes of an official tower, read from the shapes of its tensors. `official` has no prefix."""
    width, _, mels, patch_frames = official["patch_embed.proj.weight"].shape
    front_end = spectrogram.DASHENG
    if mels != front_end.num_mels:
        raise ValueError(f"expected patches of all {front_end.num_mels} bands, got {mels} bands")
    return Dasheng.Config(
        patch_frames=patch_frames,
        chunk_tokens=official["time_pos_embed"].shape[-1],
        width=width,
        depth=len({name.split(".")[1] for name in official if name.startswith("blocks.")}),
        heads=HEADS.get(width, width // 64),
        hidden=official["blocks.0.mlp.fc1.weight"].shape[0],
    )


def bare(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official tensors without the prefix that the hub's layout has."""
    return {name.removeprefix("encoder."): tensor for name, tensor in official.items()}


def renamed(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official Dasheng tensors under the names of this file, with the hub's prefix or without.

    The mel filters and the window of the front end are left out: they are computed here.
    """
    ours: dict[str, Tensor] = {}
    for name, tensor in bare(official).items():
        if name.startswith("front_end."):
            continue
        if name in ("time_pos_embed", "freq_pos_embed"):
            axis = 0 if name.startswith("time") else 1
            ours[f"positions.tables.{axis}"] = tensor[0].flatten(1).T.contiguous()
        elif name.startswith("init_bn.1."):
            statistic = tensor.float() if tensor.is_floating_point() else tensor
            ours[f"band_norm.{name.removeprefix('init_bn.1.')}"] = statistic
        elif name == "patch_embed.proj.weight":
            ours["patches.projection.weight"] = renaming.patch_projection(tensor)
        elif name == "patch_embed.proj.bias":
            ours["patches.projection.bias"] = tensor
        elif name.startswith("blocks."):
            block = renaming.block_tensors(name, tensor)
            ours |= {f"transformer.{part}": values for part, values in block.items()}
        else:
            ours[f"transformer.{name}"] = tensor
    return ours
