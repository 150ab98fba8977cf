"""M2D's audio tower (arXiv 2210.14648; M2D-CLAP, arXiv 2503.22104): a vision transformer over log-mel patches.

Sound longer than the positions reach is cut into chunks that do not see each other, positions beginning anew in each.
One class token goes through with every chunk and is dropped from every answer, as in the official code.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lapis.layers import renaming, spectrogram
from lapis.layers.augment import SpecAugment
from lapis.layers.patches import Chunks, Patches
from lapis.layers.pooling import SemanticPooling
from lapis.layers.positions import SinCos
from lapis.layers.spectrogram import LogMel
from lapis.layers.transformer import Transformer
from lapis.ragged import Ragged
from lapis.values import check_choice

Pooling = Literal["mean", "frames", "semantic"]
Chunking = Literal["published", "complete"]


class M2d(nn.Module):
    """Waveforms to patch tokens, to frame features of all bands together, and to one vector a clip."""

    @dataclass(frozen=True)
    class Config:
        """ViT-Base over 80 mels: M2D-CLAP 2024 is `columns=38, chunk_frames=608`, 2025 `columns=62, chunk_frames=1001`.

        Args:
            front_end: the log-mel analysis; its mean and deviation are those of the weights.
            patch_frames: frames of a patch; released are 16, 4 and 2.
            patch_mels: bands of a patch; 16, or all 80.
            columns: patch columns the positions reach.
            chunk_frames: frames of a chunk with "published" chunking.
            pooling: how tokens become one vector: their mean, the mean of the frame features (wider by the number of
                bands of patches), or the semantic block of M2D-CLAP 2025.
            chunking: "published" cuts chunks of `chunk_frames` and loses the frames that do not fill a column: 9 of
                1001, 90 ms every 10 s. "complete" cuts chunks of exactly `columns` columns and loses none. With the
                name-seeded weights of the tests, cosines between the two are 1 up to 992 frames, 0.9995 at 10 s and
                0.9984 at 23 s; `lapis.pretrained.m2d_clap.chunking_shift` measures it for the
                weights and sounds at hand.
            classes: of an AudioSet head (527); None for none.
            trainable: whether patches, class token and transformer learn; the pooling and the head do in any case.
            augment: what is silenced while training; None for nothing.
        """

        front_end: LogMel.Config = spectrogram.M2D
        patch_frames: int = 16
        patch_mels: int = 16
        columns: int = 38
        chunk_frames: int = 608
        width: int = 768
        depth: int = 12
        heads: int = 12
        hidden: int = 3072
        pooling: Pooling = "mean"
        chunking: Chunking = "published"
        classes: int | None = None
        trainable: bool = True
        augment: SpecAugment.Config | None = None

        @property
        def transformer(self) -> Transformer.Config:
            """Of the blocks over patches."""
            return Transformer.Config(width=self.width, depth=self.depth, heads=self.heads, hidden=self.hidden)

        def build(self) -> "M2d":
            """The module of this value, with fresh parameters."""
            return M2d(self)

    positions: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        check_choice(config.pooling, Pooling, name="pooling")
        check_choice(config.chunking, Chunking, name="chunking")
        self.config = config
        self.sample_rate = config.front_end.sample_rate
        self.log_mel = LogMel(config.front_end)
        self.augment = SpecAugment(config.augment, silence=config.front_end.silence) if config.augment else None
        self.patches = Patches(
            frames=config.patch_frames,
            mels=config.patch_mels,
            num_mels=config.front_end.num_mels,
            width=config.width,
            bias=True,
            silence=0.0,  # a column that is not full ends with zeros of the normalised spectrogram
        )
        self.bands = self.patches.bands
        self.width = config.width * self.bands if config.pooling == "frames" else config.width
        self.class_token = nn.Parameter(torch.randn(config.width) * 0.02)
        # Fixed, but stored with the weights: models tuned at another length hold a stretched table.
        self.register_buffer("positions", self.placing(config.width))
        self.transformer = config.transformer.build()
        self.semantic = SemanticPooling(config.width) if config.pooling == "semantic" else None
        # All linear layers begin as those of masked autoencoders (arXiv 2111.06377, appendix A.1).
        self.apply(xavier)
        self.head = ClassHead(config.width, config.classes) if config.classes else None
        if not config.trainable:
            self.class_token.requires_grad_(False)
            self.patches.requires_grad_(False)
            self.transformer.requires_grad_(False)

    def placing(self, width: int) -> Float[Tensor, "positions width"]:
        """Sines and cosines of every place: half of the width tells the column, half the band."""
        grid = torch.cartesian_prod(torch.arange(self.config.columns), torch.arange(self.bands))
        return SinCos(axes=2, width=width)(grid)

    def num_tokens(self, num_samples: int) -> int:
        """Tokens of a clip of so many samples."""
        return sum(self._columns(num_samples)) * self.bands

    def frame_seconds(self, num_samples: int) -> Float[np.ndarray, "frames 2"]:
        """When each column of patches begins and ends in the sound; exact with both ways of chunking."""
        frames = [
            chunk * self._chunk_frames + column * self.config.patch_frames
            for chunk, columns in enumerate(self._columns(num_samples))
            for column in range(columns)
        ]
        begins = np.array(frames) * self.config.front_end.hop_samples / self.sample_rate
        seconds = self.config.patch_frames * self.config.front_end.hop_samples / self.sample_rate
        return np.stack([begins, begins + seconds], axis=1)

    def token_seconds(self, num_samples: int) -> Float[np.ndarray, "tokens 2"]:
        """When each token begins and ends; the bands of a column have the same."""
        return np.repeat(self.frame_seconds(num_samples), self.bands, axis=0)

    def forward(self, waveforms: Ragged) -> Ragged:
        """Rows are samples in; tokens of shape (rows, width) out, time first, `num_tokens` a clip."""
        chunks = self.embedded(waveforms)
        return chunks.joined(self.transformer.in_groups(chunks.items))

    def layers(self, waveforms: Ragged) -> list[Ragged]:
        """The tokens after every layer; the last one's are normalised, and are what `forward` answers with."""
        chunks = self.embedded(waveforms)
        return [chunks.joined(layer) for layer in self.transformer.layers(chunks.items)]

    def frames(self, tokens: Ragged) -> Ragged:
        """Tokens as frame features: all bands of a column side by side, 3840 wide at 16 x 16, one row each 160 ms."""
        rows = tokens.rows.reshape(-1, self.bands * self.config.width)
        return Ragged(rows, tuple(length // self.bands for length in tokens.lengths))

    def pool(self, tokens: Ragged) -> Float[Tensor, "clips width"]:
        """One vector a clip."""
        if self.semantic is not None:
            return self.semantic(tokens)
        return self.frames(tokens).mean() if self.config.pooling == "frames" else tokens.mean()

    def classify(self, tokens: Ragged) -> Float[Tensor, "clips classes"]:
        """Logits of the head's classes for each clip.

        Raises:
            ValueError: these weights have no head.
        """
        return self._head()(tokens.mean())

    def classify_frames(self, tokens: Ragged) -> Ragged:
        """Logits of the head's classes for each column of patches, rows of shape (columns, classes).

        Raises:
            ValueError: these weights have no head.
        """
        columns = tuple(length // self.bands for length in tokens.lengths)
        return Ragged(self._head()(tokens.rows.unflatten(0, (-1, self.bands)).mean(1)), columns)

    def _head(self) -> "ClassHead":
        if self.head is None:
            raise ValueError("these weights have no head of classes")
        return self.head

    def embedded(
        self, waveforms: Ragged, *, complete_to: int | None = None, numbers: Sequence[int] | None = None
    ) -> Chunks:
        """What the transformer is given: patches at their positions, a class token before those of each chunk.

        Args:
            waveforms: rows are samples.
            complete_to: complete shorter clips to so many frames with the value 0 before normalisation, as M2D-CLAP's
                released training code does; silence lies at -15.9 there, so that it hears a loud noise. None: not.
            numbers: of the clips, as `SpecAugment` takes them.
        """
        spectrogram = self.log_mel(waveforms)
        if complete_to is not None:
            value = -self.config.front_end.mean / self.config.front_end.deviation
            missing = [(0, 0, 0, max(0, complete_to - length)) for length in spectrogram.lengths]
            clips = zip(spectrogram.split(), missing, strict=True)
            spectrogram = Ragged.pack([F.pad(clip, padding, value=value) for clip, padding in clips])
        if self.augment is not None:
            spectrogram = self.augment(spectrogram, numbers)
        chunks = spectrogram.cut(self._chunk_frames)
        most = self.config.columns * self.config.patch_frames
        patches = self.patches(chunks.first([min(length, most) for length in chunks.lengths]))
        placed = patches.map(lambda rows: rows + self.positions[patches.index_in_item].to(rows.dtype))
        of_clip = tuple(len(self._columns_of(frames)) for frames in spectrogram.lengths)
        return Chunks(placed.prepend(self.class_token), of_clip, leading=1)

    def angles(self, items: Ragged, *, head_width: int) -> None:
        """Nothing turns: positions have been added to the patches."""

    def _columns(self, num_samples: int) -> list[int]:
        return self._columns_of(self.config.front_end.num_frames(num_samples))

    def _columns_of(self, num_frames: int) -> list[int]:
        """Columns of each chunk of so many frames."""
        starts = range(0, num_frames, self._chunk_frames)
        chunks = [min(self._chunk_frames, num_frames - start) for start in starts]
        return [min(self.config.columns, math.ceil(chunk / self.config.patch_frames)) for chunk in chunks]

    @property
    def _chunk_frames(self) -> int:
        complete = self.config.columns * self.config.patch_frames
        return self.config.chunk_frames if self.config.chunking == "published" else complete


def xavier(module: nn.Module) -> None:
    """The start of a linear layer in masked autoencoders: as `nn.Module.apply` takes it."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class ClassHead(nn.Module):
    """Batch norm without scale, then a linear layer: the head of M2D's fine-tuned weights."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width, affine=False)
        self.linear = nn.Linear(width, classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, rows: Float[Tensor, "rows width"]) -> Float[Tensor, "rows classes"]:
        """Logits. One row alone has no deviation: while training, too, it is normalised by the running statistics."""
        if len(rows) > 1:
            return self.linear(self.norm(rows))
        normed = F.batch_norm(rows, self.norm.running_mean, self.norm.running_var, eps=self.norm.eps)
        return self.linear(normed)


def with_columns(
    positions: Float[Tensor, "places width"], *, bands: int, columns: int
) -> Float[Tensor, "other_places width"]:
    """A table of positions for another number of columns, as M2D makes it between stages of training.

    More columns stretch it in time (bicubic), fewer take the first ones.
    """
    grid = positions.unflatten(0, (-1, bands))
    if columns <= len(grid):
        return grid[:columns].flatten(0, 1)
    by_width = grid.permute(2, 1, 0)[None]
    stretched = F.interpolate(by_width, size=(bands, columns), mode="bicubic", antialias=False)
    return stretched[0].permute(2, 1, 0).flatten(0, 1)


def geometry(official: Mapping[str, Tensor], *, sample_rate: int) -> M2d.Config:
    """The sizes of an official encoder, read from the shapes of its tensors and its stored statistics.

    `official` has no prefix. The sample rate stands in no shape but that of the mel filters, which some files carry;
    elsewhere it is the caller's word.
    """
    width, _, patch_mels, patch_frames = official["patch_embed.proj.weight"].shape
    if "to_spec.mel_basis" in official:
        sample_rate = 16_000 if official["to_spec.mel_basis"].shape[1] == 201 else 32_000
    front_ends = {16_000: spectrogram.M2D, 32_000: spectrogram.M2D_32K}
    if sample_rate not in front_ends:
        raise ValueError(f"sample_rate must be 16000 or 32000, got {sample_rate}")
    front_end = front_ends[sample_rate]
    if "norm_stats" in official:
        mean, deviation = official["norm_stats"].tolist()
        front_end = replace(front_end, mean=mean, deviation=deviation)
    columns = (official["pos_embed"].shape[1] - 1) // (front_end.num_mels // patch_mels)
    frames = columns * patch_frames
    blocks = {name.split(".")[1] for name in official if name.startswith("blocks.")}
    return M2d.Config(
        front_end=front_end,
        patch_frames=patch_frames,
        patch_mels=patch_mels,
        columns=columns,
        # 10 s are 1001 frames, of which 62 columns of 16 hold 992: the only released length that leaves some over.
        chunk_frames=1001 if frames == 992 else frames,
        width=width,
        depth=len(blocks),
        heads=width // 64,
        hidden=official["blocks.0.mlp.fc1.weight"].shape[0],
    )


def renamed(official: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Official encoder tensors, without prefix, under the names of this file.

    Left out: the statistics, which `geometry` puts into the front end, and the front end's own tables.
    """
    ours: dict[str, Tensor] = {}
    for name, tensor in official.items():
        if name == "norm_stats" or name.startswith("to_spec."):
            continue
        if name == "cls_token":
            # Its position is a row of zeros; added all the same, for a file where it is not.
            ours["class_token"] = (tensor + official["pos_embed"][:, :1]).flatten()
        elif name == "pos_embed":
            bands = 80 // official["patch_embed.proj.weight"].shape[2]
            by_band = tensor[0, 1:].unflatten(0, (bands, -1))  # official order: all columns of the lowest band first
            ours["positions"] = by_band.transpose(0, 1).flatten(0, 1).contiguous()
        elif name == "patch_embed.proj.weight":
            ours["patches.projection.weight"] = renaming.patch_projection(tensor)
        elif name == "patch_embed.proj.bias":
            ours["patches.projection.bias"] = tensor
        elif name.startswith("blocks."):
            block = renaming.block_tensors(name, tensor)
            ours |= {f"transformer.{part}": values for part, values in block.items()}
        elif name.startswith("norm."):
            ours[f"transformer.{name}"] = tensor
        else:
            ours[name] = tensor
    return ours
