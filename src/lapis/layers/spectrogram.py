"""Log-mel spectrograms of ragged waveforms, with the constants of Dasheng, M2D and SLAP.

`LogMel` frames all clips of a batch at once and transforms them in one FFT; `log_mel_plain` takes one clip through
`torch.stft`. Each clip is padded by reflection at its own ends, so its frames do not depend on its neighbours.
"""

import functools
import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from torch import Tensor, nn

from lapis.ragged import Ragged

FRAMES_AT_ONCE = 4096
"""Of one FFT call: an hour of sound has 360,000 frames, whose samples and bins would fill gigabytes."""


def mel_filters(
    *,
    num_mels: int,
    fft_samples: int,
    sample_rate: int,
    min_hertz: float,
    max_hertz: float,
    scale: Literal["htk", "slaney"],
    equal_area: bool,
) -> Float[Tensor, "bins mels"]:
    """Triangles, evenly spaced on a mel scale, over the bins of an FFT.

    htk: mel = 2595 log10(1 + f / 700) (O'Shaughnessy 1987). slaney: linear below 1 kHz (200/3 Hz a mel), then
    logarithmic, 27 steps for a factor of 6.4 (Auditory Toolbox, 1998). `equal_area` divides each triangle by half its
    width in hertz, so that wide bands do not weigh more.
    """
    # Where the official filters were rounded: those on the HTK scale at every step, which moves a pure tone between two
    # bands by up to 0.02 decibels; those on Slaney's only at the end.
    kind = torch.float32 if scale == "htk" else torch.float64
    edges = _from_mel(
        torch.linspace(_to_mel(min_hertz, scale), _to_mel(max_hertz, scale), num_mels + 2, dtype=kind), scale
    )
    bins = torch.linspace(0, sample_rate / 2, fft_samples // 2 + 1, dtype=kind)[:, None]
    widths, slopes = edges.diff(), edges - bins
    triangles = torch.minimum(-slopes[:, :-2] / widths[:-1], slopes[:, 2:] / widths[1:]).clamp(min=0)
    if equal_area:
        triangles = triangles * 2 / (edges[2:] - edges[:-2])
    return triangles.float()


_SLANEY_BREAK_HERTZ, _SLANEY_HERTZ_A_MEL, _SLANEY_LOG_STEP = 1000.0, 200.0 / 3, math.log(6.4) / 27


def _to_mel(hertz: float, scale: str) -> float:
    if scale == "htk":
        return 2595 * math.log10(1 + hertz / 700)
    if hertz < _SLANEY_BREAK_HERTZ:
        return hertz / _SLANEY_HERTZ_A_MEL
    return _SLANEY_BREAK_HERTZ / _SLANEY_HERTZ_A_MEL + math.log(hertz / _SLANEY_BREAK_HERTZ) / _SLANEY_LOG_STEP


def _from_mel(mel: Float[Tensor, "edges"], scale: str) -> Float[Tensor, "edges"]:
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    break_mel = _SLANEY_BREAK_HERTZ / _SLANEY_HERTZ_A_MEL
    above = _SLANEY_BREAK_HERTZ * torch.exp(_SLANEY_LOG_STEP * (mel - break_mel))
    return torch.where(mel < break_mel, mel * _SLANEY_HERTZ_A_MEL, above)


class LogMel(nn.Module):
    """Waveforms to log-mel frames, normalised by two constants; no parameters."""

    @dataclass(frozen=True)
    class Config:
        """The analysis, in samples and hertz; `mean` and `deviation` normalise the log values.

        `log` is "natural" (ln(x + floor)) or "decibels" (10 log10(max(x, floor)), then not further than
        `top_decibels` below the loudest value of the clip).
        """

        sample_rate: int
        fft_samples: int
        window_samples: int
        hop_samples: int
        num_mels: int
        min_hertz: float
        max_hertz: float
        scale: Literal["htk", "slaney"]
        equal_area: bool
        log: Literal["natural", "decibels"]
        floor: float
        top_decibels: float | None = None
        mean: float = 0.0
        deviation: float = 1.0

        @property
        def silence(self) -> float:
            """The normalised value of a band without energy."""
            lowest = math.log(self.floor) if self.log == "natural" else 10 * math.log10(self.floor)
            return (lowest - self.mean) / self.deviation

        @property
        def min_samples(self) -> int:
            """What reflection needs; a shorter clip gets zeros at its end up to this."""
            return self.fft_samples // 2 + 1

        def num_frames(self, num_samples: int) -> int:
            """Frames of a clip: one a hop, the first centred on the first sample."""
            return max(num_samples, self.min_samples) // self.hop_samples + 1

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @torch.no_grad()
    def forward(self, waveforms: Ragged) -> Ragged:
        """Rows are samples in, frames of shape (frames, mels) out; float32 whatever the model's precision."""
        config = self.config
        window, filters = constants(config, waveforms.rows.device)
        half, hop = config.fft_samples // 2, config.hop_samples
        padded, num_frames, first_frames, position = [], [], [], 0
        for clip in waveforms.split():
            long_enough = F.pad(clip.float(), (0, max(0, config.min_samples - len(clip))))
            reflected = F.pad(long_enough[None], (half, half), mode="reflect")[0]
            # Every clip begins at a multiple of the hop, so that one strided view holds the frames of all of them.
            aligned = F.pad(reflected, (0, -len(reflected) % hop))
            padded.append(aligned)
            num_frames.append(len(long_enough) // hop + 1)
            first_frames.append(position // hop)
            position += len(aligned)
        flat = F.pad(torch.cat(padded), (0, config.fft_samples))
        wanted = torch.cat([torch.arange(first, first + count) for first, count in zip(first_frames, num_frames)])
        frames = flat.unfold(0, config.fft_samples, hop)
        energies = [
            self._energies(frames[some] * window, filters) for some in wanted.to(flat.device).split(FRAMES_AT_ONCE)
        ]
        return self._compress(Ragged(torch.cat(energies), tuple(num_frames)))

    @staticmethod
    def _energies(
        frames: Float[Tensor, "frames fft_samples"], filters: Float[Tensor, "bins mels"]
    ) -> Float[Tensor, "frames mels"]:
        power = torch.view_as_real(torch.fft.rfft(frames)).square().sum(-1)
        with torch.autocast(power.device.type, enabled=False):
            return power @ filters

    def _compress(self, energies: Ragged) -> Ragged:
        config = self.config
        if config.log == "natural":
            levels = energies.map(lambda rows: (rows + config.floor).log())
        else:
            levels = energies.map(lambda rows: 10 * rows.clamp(min=config.floor).log10())
        if config.top_decibels is not None:
            # The loudest value of each clip alone: one clip's level must not move another's floor.
            levels = Ragged.pack([clip.clamp(min=clip.max() - config.top_decibels) for clip in levels.split()])
        return levels.map(lambda rows: (rows - config.mean) / config.deviation)


@functools.lru_cache(maxsize=32)
def constants(
    config: LogMel.Config, device: torch.device
) -> tuple[Float32[Tensor, "fft_samples"], Float32[Tensor, "bins mels"]]:
    """The window, with zeros up to the FFT's length on both sides, and the mel filters.

    Not buffers of the module, where `model.bfloat16()` would round them with the weights.
    """
    with torch.inference_mode(False):
        before = (config.fft_samples - config.window_samples) // 2
        after = config.fft_samples - config.window_samples - before
        filters = mel_filters(
            num_mels=config.num_mels,
            fft_samples=config.fft_samples,
            sample_rate=config.sample_rate,
            min_hertz=config.min_hertz,
            max_hertz=config.max_hertz,
            scale=config.scale,
            equal_area=config.equal_area,
        )
        window = F.pad(torch.hann_window(config.window_samples, periodic=True), (before, after))
        return window.to(device), filters.to(device)


@torch.no_grad()
def log_mel_plain(waveform: Float[Tensor, "samples"], config: LogMel.Config) -> Float[Tensor, "frames mels"]:
    """One clip through `torch.stft`, as a user would write it: the twin that `LogMel` is held against."""
    window, filters = constants(config, waveform.device)
    waveform = F.pad(waveform, (0, max(0, config.min_samples - len(waveform))))
    spectrum = torch.stft(
        waveform,
        n_fft=config.fft_samples,
        hop_length=config.hop_samples,
        window=window,
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    energies = spectrum.abs().square().T @ filters
    if config.log == "natural":
        levels = torch.log(energies + config.floor)
    else:
        levels = 10 * torch.log10(torch.clamp(energies, min=config.floor))
    if config.top_decibels is not None:
        levels = torch.clamp(levels, min=float(levels.max()) - config.top_decibels)
    return (levels - config.mean) / config.deviation


DASHENG = LogMel.Config(
    sample_rate=16_000,
    fft_samples=512,
    window_samples=512,
    hop_samples=160,
    num_mels=64,
    min_hertz=0.0,
    max_hertz=8_000.0,
    scale="htk",
    equal_area=False,
    log="decibels",
    floor=1e-10,
    top_decibels=120.0,
)
"""The front end of Dasheng and GLAP, before its batch norm. The 120 dB are counted per clip, not per batch."""

M2D = LogMel.Config(
    sample_rate=16_000,
    fft_samples=400,
    window_samples=400,
    hop_samples=160,
    num_mels=80,
    min_hertz=50.0,
    max_hertz=8_000.0,
    scale="slaney",
    equal_area=True,
    log="natural",
    floor=1.1920929e-07,
    mean=-7.1,
    deviation=4.2,
)
"""The front end of M2D at 16 kHz (arXiv 2210.14648); 2025 checkpoints bring their own mean and deviation."""

M2D_32K = replace(M2D, sample_rate=32_000, fft_samples=800, window_samples=800, hop_samples=320, max_hertz=16_000.0)
"""The front end of M2D's models at 32 kHz: the same 25 ms and 10 ms."""

SLAP = LogMel.Config(
    sample_rate=16_000,
    fft_samples=512,
    window_samples=400,
    hop_samples=160,
    num_mels=64,
    min_hertz=50.0,
    max_hertz=8_000.0,
    scale="htk",
    equal_area=False,
    log="natural",
    floor=1e-6,
    mean=-4.0,
    deviation=4.0,
)
"""SLAP's 25 ms Hann window, 10 ms hop and 64 bands (arXiv 2601.12594, section 3). The paper states no FFT size, mel
scale, floor or statistics: those are our choice; a recipe sets the mean and deviation of its own data."""
