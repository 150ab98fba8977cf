"""An audio tower as X-ARES asks for an encoder (arXiv 2505.16369): waveforms padded to each other in, frames out.

X-ARES pads the clips of a batch with zeros, does not say how long each is, and keeps all frames of all. Here the zeros
at the end of a clip are taken for padding, and not heard: its frames are what it would get alone.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lapis.audio_encoders.dasheng import Dasheng
from lapis.audio_encoders.m2d import M2d
from lapis.audio_encoders.slap import Slap
from lapis.model import BATCH_SECONDS, JointModel
from lapis.ragged import Ragged


class XaresEncoder(nn.Module):
    """Frame features of a joint model's audio tower, before any projection; bands of a column stand side by side.

    X-ARES keeps what it has encoded under the name of the class: make a subclass for each model.
    """

    def __init__(self, model: JointModel) -> None:
        """Of a model.

        Raises:
            ValueError: its tower has no frames that are known here.
        """
        super().__init__()
        tower = model.audio_encoder
        if not isinstance(tower, Dasheng | M2d | Slap):
            raise ValueError(f"expected a tower of Dasheng, M2D or SLAP, got {type(tower).__name__}")
        self.tower = tower
        self.sampling_rate = tower.sample_rate
        self._bands = 1 if isinstance(tower, Dasheng) else tower.bands
        self.output_dim = tower.config.width * self._bands
        self._hop_samples = tower.config.patch_frames * tower.config.front_end.hop_samples
        milliseconds = 1000 * self._hop_samples / tower.sample_rate
        self.hop_size_in_ms = int(milliseconds) if milliseconds == int(milliseconds) else milliseconds
        chunk = model.config.chunk_seconds
        # Whole hops, so that the frames of the pieces stand on one grid.
        hops = None if chunk is None else int(chunk * tower.sample_rate) // self._hop_samples
        self._piece_samples = None if hops is None else hops * self._hop_samples
        self.eval()

    def forward(
        self, audio: Float[Tensor, "*clips samples"], num_samples: Sequence[int] | None = None
    ) -> Float[Tensor, "_clips frames width"]:
        """Features of clips, `hop_size_in_ms` apart.

        As many frames for each as that many samples have. Behind a clip's own stands their mean, so that the mean over
        all, by which X-ARES pools, is the clip's own mean in any batch.

        Args:
            audio: one clip, or several padded with zeros at their ends.
            num_samples: of each clip, where that is known; else up to its last sample that is not zero, and a clip of
                zeros only is heard whole.

        Raises:
            ValueError: there is no sample, one is not finite, or a length is none of the clip's.
        """
        clips = audio[None] if audio.ndim == 1 else audio
        if clips.ndim != 2 or not clips.numel():
            raise ValueError(f"audio must be of shape (clips, samples) with samples, got {tuple(audio.shape)}")
        if not torch.isfinite(clips).all():
            raise ValueError("audio must be finite numbers")
        lengths = _heard(clips) if num_samples is None else list(num_samples)
        if len(lengths) != len(clips) or not all(0 < length <= clips.shape[1] for length in lengths):
            raise ValueError(f"num_samples must be {len(clips)} numbers from 1 to {clips.shape[1]}, got {lengths}")
        self.eval()
        with torch.inference_mode():
            found = self._frames([clip[:length].float() for clip, length in zip(clips, lengths)])
            whole = self._num_frames(clips.shape[1])
            return torch.stack([torch.cat([of, of.mean(0).expand(whole - len(of), -1)]) for of in found])

    def _frames(self, clips: list[Tensor]) -> list[Float[Tensor, "_frames width"]]:
        """Of each clip, the clips side by side without padding; of a long one in pieces."""
        pieces = [self._pieces(clip) for clip in clips]
        flat = [piece for of in pieces for piece in of]
        groups = Ragged.pack(flat).groups(round(BATCH_SECONDS * self.sampling_rate))
        tokens = [item for group in groups for item in self.tower(group).split()]
        frames = iter(item.reshape(-1, self.output_dim) for item in tokens)
        joined = []
        for of in pieces:
            # A piece's last frame may reach into the next piece, which has it too.
            inner = [next(frames)[: len(piece) // self._hop_samples] for piece in of[:-1]]
            joined.append(torch.cat([*inner, next(frames)]))
        return joined

    def _pieces(self, clip: Tensor) -> list[Tensor]:
        return [clip] if self._piece_samples is None else list(clip.split(self._piece_samples))

    def _num_frames(self, num_samples: int) -> int:
        before = 0 if self._piece_samples is None else (num_samples - 1) // self._piece_samples * self._piece_samples
        return before // self._hop_samples + self.tower.num_tokens(num_samples - before) // self._bands


def _heard(clips: Float[Tensor, "clips samples"]) -> list[int]:
    """Samples of each clip up to the last that is not zero; all where all are."""
    sounding = clips != 0
    ends = clips.shape[1] - sounding.flip(1).int().argmax(1)
    return torch.where(sounding.any(1), ends, clips.shape[1]).tolist()
