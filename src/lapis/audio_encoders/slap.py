"""SLAP's audio tower (arXiv 2601.12594, section 3): log-mel patches of any duration through local and global attention.

No clip is padded or cut: a clip of 0.05 s is one column of patches, and positions are rotations, so there is no longest
clip. No official weights exist; the paper's sizes are the defaults, and what it leaves open is marked as our choice.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from lapis.layers import spectrogram
from lapis.layers.augment import SpecAugment
from lapis.layers.patches import Chunks, Patches
from lapis.layers.pooling import AttentionPooling
from lapis.layers.positions import Rotary
from lapis.layers.spectrogram import LogMel
from lapis.layers.transformer import RMSNorm, SwiGLU, Transformer
from lapis.ragged import Ragged


class Slap(nn.Module):
    """Waveforms to patch tokens (25 a second at the default size), and tokens to one vector a clip."""

    @dataclass(frozen=True)
    class Config:
        """Section 3.1: 64 mels, 16 x 16 patches, 12 layers of width 768, two local layers before each global one.

        113,462,016 parameters without the pooling: 12 blocks of 4 x 768 x 768 (attention) + 3 x 768 x 3072 (SwiGLU) +
        2 x 768 (norms) are 113,264,640; patches of 256 x 768 and the final norm are the rest. A survey counts about
        250 M for SLAP, which fits this beside ModernBERT-base's 149 M, and not 3072 as the width of both products
        together (70.8 M). Attention pooling has 9,438,720 more.

        `window_columns` is the whole window of a local layer in patch columns, half on each side: the paper says "24
        frames", which we read as 24 columns of 160 ms. `hidden` is the width of each of SwiGLU's two products.
        `augment` works while training only; the paper names SpecAugment without its widths.
        """

        front_end: LogMel.Config = spectrogram.SLAP
        patch_frames: int = 16
        patch_mels: int = 16
        width: int = 768
        depth: int = 12
        heads: int = 12
        hidden: int = 3072
        window_columns: int = 24
        local_layers: int = 2
        rotary_base: float = 10_000.0
        norm_heads: bool = False
        augment: SpecAugment.Config | None = SpecAugment.Config()

        def build(self) -> "Slap":
            """The module of this value, with fresh parameters."""
            return Slap(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.sample_rate = config.front_end.sample_rate
        self.width = config.width
        self.log_mel = LogMel(config.front_end)
        silence = config.front_end.silence
        self.augment = SpecAugment(config.augment, silence=silence) if config.augment else nn.Identity()
        self.patches = Patches(
            frames=config.patch_frames,
            mels=config.patch_mels,
            num_mels=config.front_end.num_mels,
            width=config.width,
            bias=False,
            silence=silence,
        )
        self.bands = self.patches.bands
        self.rotary = Rotary(head_width=config.width // config.heads, axes=2, base=config.rotary_base)
        reach_rows = config.window_columns // 2 * self.bands
        self.transformer = Transformer.Config(
            width=config.width,
            depth=config.depth,
            heads=config.heads,
            hidden=config.hidden,
            norm=RMSNorm,
            feedforward=SwiGLU,
            bias=False,
            norm_heads=config.norm_heads,
            windows=(reach_rows,) * config.local_layers + (None,),
        ).build()
        self.pooling = AttentionPooling(config.width, heads=config.heads, hidden=config.hidden)

    def num_tokens(self, num_samples: int) -> int:
        """Tokens of a clip of so many samples."""
        return self.patches.num_patches(self.config.front_end.num_frames(num_samples))

    def token_seconds(self, num_samples: int) -> Float[np.ndarray, "tokens 2"]:
        """When each token of a clip begins and ends; the bands of a column have the same."""
        column = self.config.patch_frames * self.config.front_end.hop_samples / self.sample_rate
        begins = np.arange(self.num_tokens(num_samples)) // self.patches.bands * column
        return np.stack([begins, begins + column], axis=1)

    def forward(self, waveforms: Ragged) -> Ragged:
        """Rows are samples in; tokens of shape (rows, width) out, time first, `num_tokens` a clip."""
        return self.encode_patches(self.embed_patches(waveforms))

    def embed_patches(self, waveforms: Ragged) -> Ragged:
        """What enters the transformer: rows are samples in, a projected patch of shape (width) a token out."""
        return self.patches(self.augment(self.log_mel(waveforms)))

    def encode_patches(self, patches: Ragged) -> Ragged:
        """Projected patches, some of them perhaps replaced by something learned, to tokens; positions are theirs."""
        return self.transformer(patches, angles=self.rotary(self.patches.positions(patches)))

    def layers(self, waveforms: Ragged) -> list[Ragged]:
        """The tokens after every layer; the last one's are normalised, and are what `forward` answers with."""
        patches = self.embed_patches(waveforms)
        return list(self.transformer.layers(patches, angles=self.rotary(self.patches.positions(patches))))

    def embedded(self, waveforms: Ragged) -> Chunks:
        """What the transformer is given when patches are to be left out: whole clips, without SpecAugment."""
        return Chunks(self.patches(self.log_mel(waveforms)), (1,) * len(waveforms))

    def angles(self, items: Ragged, *, head_width: int) -> Float[Tensor, "rows half_head_width"]:
        """By how much queries and keys of so wide heads turn for each patch of whole clips.

        Raises:
            ValueError: the width of a head cannot be shared by columns and bands.
        """
        rotary = Rotary(head_width=head_width, axes=2, base=self.config.rotary_base)
        return rotary(self.patches.positions(items))

    def placing(self, width: int) -> None:
        """Nothing is added: positions are angles."""

    def pool(self, tokens: Ragged) -> Float[Tensor, "clips width"]:
        """One vector a clip by attention pooling."""
        return self.pooling(tokens)
