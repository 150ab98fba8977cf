"""A training step of the SLAP tower: packed against padded to the longest clip, same clips, same loss; and its anatomy.

Both forms take whole steps (forward, backward, clipping, AdamW) from equal weights, and their losses and gradients are
compared before anything is timed. Shares are of the device's own matrix product, measured in the same run; only what
real tokens need is counted as work, so that padding lowers the share.

On a GPU: `--device cuda --precision bfloat16 --full`, with `--largest` to search for the largest batch that fits.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lapis.audio_encoders.slap import Slap
from lapis.objectives.contrast import softmax_contrast
from lapis.ragged import Ragged
from lapis.train.compiled import compiled_blocks
from lapis.train.meter import matmul_flops_per_second
from lapis.train.optim import AdamW
from packing import padded

SIZES = {
    "tiny": {"width": 32, "depth": 3, "heads": 2, "hidden": 48},
    "small": {"width": 384, "depth": 6, "heads": 6, "hidden": 768},
    "full": {},
}
SHORTEST, LONGEST = 0.3, 30.0
"""Seconds; durations between them are log-uniform, as in a folder of sounds: most are short, some are long."""


@dataclass
class Setting:
    """What a step works on."""

    device: torch.device
    dtype: torch.dtype
    clips: list[Tensor]
    texts: Tensor

    def synchronize(self) -> None:
        """Wait for what the device was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass
class Form:
    """A tower of its own, from equal weights, and how it hears a batch."""

    encoder: Slap
    hear: Callable[[Slap, list[Tensor]], Tensor]
    compiled: bool = False
    """As `Training.compile` does it."""
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.optimizer = AdamW().build(self.encoder)

    def loss(self, setting: Setting) -> Tensor:
        """Softmax contrast with the texts."""
        with torch.autocast(setting.device.type, setting.dtype, enabled=setting.dtype != torch.float32):
            audio = torch.nn.functional.normalize(self.hear(self.encoder, setting.clips).float(), dim=-1)
        positive = torch.eye(len(audio), dtype=torch.bool, device=setting.device)
        return softmax_contrast(audio, setting.texts, positive, scale=torch.tensor(1 / 0.07, device=setting.device))

    def step(self, setting: Setting) -> float:
        """Take a step; returns its loss."""
        with compiled_blocks(self.encoder, enabled=self.compiled):
            loss = self.loss(setting)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()


def packed(encoder: Slap, clips: list[Tensor]) -> Tensor:
    return encoder.pool(encoder(Ragged.pack(clips)))


def useful_flops(encoder: Slap, clips: list[Tensor]) -> float:
    """Of the products that real tokens need in forward and backward (three times the forward's)."""
    config, bands = encoder.config, encoder.patches.bands
    reach = config.window_columns // 2 * bands
    total = 0.0
    for clip in clips:
        tokens = encoder.num_tokens(len(clip))
        for layer in range(config.depth):
            local = (layer + 1) % (config.local_layers + 1) != 0
            seen = tokens**2
            if local:
                seen = sum(min(row + reach, tokens - 1) - max(row - reach, 0) + 1 for row in range(tokens))
            of_weights = tokens * (4 * config.width**2 + 3 * config.width * config.hidden)
            total += 2 * of_weights + 4 * seen * config.width
        total += 2 * tokens * config.patch_frames * config.patch_mels * config.width
    return 3 * total


def anatomy(form: Form, setting: Setting) -> dict[str, float]:
    """Seconds of the parts of one packed step."""
    encoder, parts, began = form.encoder, {}, 0.0

    def mark(name: str) -> None:
        nonlocal began
        setting.synchronize()
        now = time.perf_counter()
        parts[name] = now - began
        began = now

    setting.synchronize()
    began = time.perf_counter()
    with torch.autocast(setting.device.type, setting.dtype, enabled=setting.dtype != torch.float32):
        waveforms = Ragged.pack(setting.clips)
        mark("packing")
        spectrogram = encoder.log_mel(waveforms)
        mark("spectrogram")
        patches = encoder.patches(spectrogram)
        mark("patches")
        tokens = encoder.encode_patches(patches)
        mark("transformer")
        audio = torch.nn.functional.normalize(encoder.pool(tokens).float(), dim=-1)
        mark("pooling")
    positive = torch.eye(len(audio), dtype=torch.bool, device=setting.device)
    loss = softmax_contrast(audio, setting.texts, positive, scale=torch.tensor(1 / 0.07, device=setting.device))
    mark("loss")
    loss.backward()
    mark("backward")
    torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
    mark("clipping")
    form.optimizer.step()
    form.optimizer.zero_grad()
    mark("optimizer")
    return parts


def largest_batch(form: Form, setting: Setting) -> int:
    """How many times the batch fits at once, doubling until memory is full."""
    clips, texts, most = setting.clips, setting.texts, 0
    times = 1
    while True:
        try:
            form.step(Setting(setting.device, setting.dtype, clips * times, texts.repeat(times, 1)))
        except torch.cuda.OutOfMemoryError:
            form.optimizer.zero_grad()
            torch.cuda.empty_cache()
            return most
        most, times = times * len(clips), times * 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few clips, a tiny tower, one run")
    parser.add_argument("--full", action="store_true", help="the paper's tower of 113 million parameters")
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--compile", action="store_true", help="a third form: the packed one with its blocks compiled")
    parser.add_argument("--largest", action="store_true", help="search for the largest batch that fits (GPU)")
    parser.add_argument("--out", type=Path, default=Path("bench/results/train.json"))
    options = parser.parse_args()
    if options.largest and options.device == "cpu":
        parser.error("--largest needs --device cuda")
    if options.quick:
        options.clips, options.runs = 4, 1
    size = "tiny" if options.quick else "full" if options.full else "small"
    torch.manual_seed(0)
    device, dtype = torch.device(options.device), getattr(torch, options.precision)
    encoder = Slap(Slap.Config(**SIZES[size], augment=None)).to(device)
    low, high = torch.log(torch.tensor([SHORTEST, LONGEST])).tolist()
    durations = torch.exp(torch.empty(options.clips).uniform_(low, high)).tolist()
    clips = [torch.randn(round(seconds * encoder.sample_rate)).to(device) * 0.1 for seconds in durations]
    texts = torch.nn.functional.normalize(torch.randn(options.clips, encoder.width), dim=-1).to(device)
    setting = Setting(device, dtype, clips, texts)

    def another() -> Slap:
        copy = Slap(encoder.config).to(device)
        copy.load_state_dict(encoder.state_dict())
        return copy

    forms = {"packed": Form(another(), packed), "padded": Form(another(), padded)}
    if options.compile:
        forms["packed, compiled"] = Form(another(), packed, compiled=True)
    check(forms, setting)
    peak = matmul_flops_per_second(device, dtype)
    for _ in range(options.runs):
        for form in forms.values():
            setting.synchronize()
            began = time.perf_counter()
            form.step(setting)
            setting.synchronize()
            form.seconds.append(time.perf_counter() - began)
    peak = max(peak, matmul_flops_per_second(device, dtype))
    result = report(forms, setting, durations=durations, peak=peak)
    if options.largest:
        result["largest_batch_clips"] = largest_batch(forms["packed"], setting)
        print(f"largest batch that fits: {result['largest_batch_clips']} clips")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"size": size, **result}, indent=2))


def report(forms: dict[str, Form], setting: Setting, *, durations: list[float], peak: float) -> dict[str, Any]:
    """Print what was measured, and what a step's time goes by on."""
    encoder = forms["packed"].encoder
    tokens = sum(encoder.num_tokens(len(clip)) for clip in setting.clips)
    work = useful_flops(encoder, setting.clips)
    medians = {name: statistics.median(form.seconds) for name, form in forms.items()}
    print(
        f"{len(durations)} clips, {sum(durations):.0f} s, {tokens} tokens, width {encoder.width}, {setting.dtype}, "
        f"{setting.device}; matrix product {peak / 1e9:.0f} GFLOP/s"
    )
    for name, seconds in medians.items():
        print(
            f"{name:16} {seconds:8.3f} s a step  {tokens / seconds:10.0f} useful tokens/s  "
            f"{work / seconds / peak:6.1%} of the matrix product  {seconds / medians['packed']:.2f} x packed"
        )
    parts = anatomy(forms["packed"], setting)
    print("anatomy of a packed step: " + ", ".join(f"{n} {t / sum(parts.values()):.1%}" for n, t in parts.items()))
    return {
        "precision": str(setting.dtype),
        "device": str(setting.device),
        "durations": durations,
        "tokens": tokens,
        "useful_flops": work,
        "matmul_flops_per_second": peak,
        "seconds": {name: form.seconds for name, form in forms.items()},
        "anatomy_seconds": parts,
    }


def check(forms: dict[str, Form], setting: Setting) -> None:
    """All forms have the packed one's loss and gradients."""
    tolerance = 1e-4 if setting.dtype == torch.float32 else 3e-2
    wanted, of_packed = None, []
    for name, form in forms.items():
        loss = form.loss(setting)
        loss.backward()
        gradients = torch.cat([p.grad.flatten() for p in form.encoder.parameters() if p.grad is not None])
        if wanted is None:
            wanted, of_packed = loss.item(), gradients
        away = abs(loss.item() - wanted) / abs(wanted)
        slope = float((gradients - of_packed).norm() / of_packed.norm())
        assert away < tolerance and slope < tolerance * 10, f"{name} differs from packed by {away}, slope {slope}"
        print(f"{name}: loss {loss.item():.6f}, {away:.1e} from packed; gradient {slope:.1e} from packed")
        form.optimizer.zero_grad()


if __name__ == "__main__":
    main()
