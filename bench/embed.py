"""GLAP's and M2D-CLAP's towers on a folder of mixed durations, against straightforward ways and the machine's limit.

The limit is the rate of the machine's matrix products, measured before and after every timed run: the share says how
much of that rate the products of the real tokens reached, so what is computed for padding, or waited for, lowers it.
"""

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F

from lapis import audio
from lapis.audio_encoders.dasheng import Dasheng
from lapis.audio_encoders.m2d import M2d
from lapis.layers import transformer
from lapis.layers.attention import attend_plain
from lapis.layers.pooling import SemanticPooling
from lapis.ragged import Ragged

Tower = Dasheng | M2d
BATCH_SECONDS = 240.0
PADDED_CLIPS = 8


@dataclass
class Form:
    """A way to embed all clips, and what it took each time."""

    run: Callable[[list[torch.Tensor]], torch.Tensor]
    rate_of: str = "float32"
    seconds: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    cosine: float = 1.0


def packed(tower: Tower, clips: list[torch.Tensor]) -> torch.Tensor:
    """As `JointModel.embed_audio` does: clips of like length together, as much sound as fits a batch."""
    order = sorted(range(len(clips)), key=lambda clip: len(clips[clip]))
    groups, seconds = [[]], 0.0
    for clip in order:
        if seconds + len(clips[clip]) / tower.sample_rate > BATCH_SECONDS:
            groups.append([])
            seconds = 0.0
        groups[-1].append(clip)
        seconds += len(clips[clip]) / tower.sample_rate
    device = next(tower.parameters()).device
    vectors = [tower.pool(tower(Ragged.pack([clips[clip] for clip in group]).to(device))) for group in groups if group]
    return torch.cat(vectors)[torch.tensor(order, device=device).argsort()]


def one_by_one(tower: Tower, clips: list[torch.Tensor]) -> torch.Tensor:
    device = next(tower.parameters()).device
    return torch.cat([tower.pool(tower(Ragged.pack([clip]).to(device))) for clip in clips])


@contextmanager
def plain_attention() -> Iterator[None]:
    """Scores, softmax and sum as three products, one item at a time: what the official towers do."""
    fused = transformer.attend
    transformer.attend = attend_plain
    try:
        yield
    finally:
        transformer.attend = fused


def one_by_one_plainly(tower: Tower, clips: list[torch.Tensor]) -> torch.Tensor:
    with plain_attention():
        return one_by_one(tower, clips)


def padded(tower: Tower, clips: list[torch.Tensor]) -> torch.Tensor:
    """Batches of clips in their order, all padded to the longest, with a key mask: the usual way."""
    batches = [clips[begin : begin + PADDED_CLIPS] for begin in range(0, len(clips), PADDED_CLIPS)]
    return torch.cat([_padded_batch(tower, batch) for batch in batches])


def _padded_batch(tower: Tower, clips: list[torch.Tensor]) -> torch.Tensor:
    device = next(tower.parameters()).device
    waveforms = Ragged.pack(clips).to(device)
    lengths = tuple(tower.num_tokens(len(clip)) for clip in clips)
    chunks = tower.embedded(waveforms).items if isinstance(tower, M2d) else tower._embedded(waveforms)[0]
    longest = max(chunks.lengths)
    of_clip: list[list[torch.Tensor]] = [[] for _ in clips]
    clip, left = -1, 0
    for chunk in chunks.split():
        if left <= 0:
            clip += 1
            left = lengths[clip]
        of_clip[clip].append(chunk)
        left -= len(chunk) - (1 if isinstance(tower, M2d) else 0)
    most = max(map(len, of_clip))
    # Every clip has as many chunks as the longest has, every chunk as many rows: silence is computed like sound.
    padding = [[chunks.rows.new_zeros(0, chunks.rows.shape[1])] * (most - len(own)) for own in of_clip]
    items = [chunk for own, empty in zip(of_clip, padding, strict=True) for chunk in (*own, *empty)]
    rows = torch.nn.utils.rnn.pad_sequence([F.pad(item, (0, 0, 0, longest - len(item))) for item in items], True)
    real = torch.arange(longest, device=device)[None, :] < torch.tensor([len(i) for i in items], device=device)[:, None]
    seen = (real | (torch.arange(longest, device=device) == 0))[:, None, None, :]
    for block in tower.transformer.blocks:
        normed, attention = block.attention_norm(rows), block.attention
        heads = [
            layer(normed).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            for layer in (attention.query, attention.key, attention.value)
        ]
        attended = F.scaled_dot_product_attention(*heads, attn_mask=seen)
        rows = rows + attention.out(attended.transpose(1, 2).flatten(2))
        rows = rows + block.feedforward(block.feedforward_norm(rows))
    tokens = Ragged(tower.transformer.norm(rows)[real], chunks.lengths)
    without = tokens.without_first() if isinstance(tower, M2d) else tokens
    return tower.pool(Ragged(without.rows, lengths))


def product_flops(tower: Tower, clips: list[torch.Tensor]) -> float:
    """Of the matrix products for real tokens: patches, blocks and attention; no padding, no front end."""
    config, total = tower.config, 0.0
    chunk = config.chunk_tokens if isinstance(config, Dasheng.Config) else config.columns * tower.bands
    extra = 1 if isinstance(tower, M2d) else 0
    weights = 4 * config.width**2 + 2 * config.width * config.hidden
    patch = tower.patches.projection.weight.numel()
    for clip in clips:
        tokens = tower.num_tokens(len(clip))
        lengths = [chunk] * (tokens // chunk) + ([tokens % chunk] if tokens % chunk else [])
        total += 2 * patch * tokens
        total += sum(config.depth * (2 * weights * (n + extra) + 4 * config.width * (n + extra) ** 2) for n in lengths)
        if isinstance(tower, M2d) and isinstance(tower.semantic, SemanticPooling):
            total += 2 * 2 * config.width**2 * tokens
    return total


def product_rate(dtype: torch.dtype, device: str, *, width: int, hidden: int) -> float:
    """FLOP a second of this machine, now: 2048 rows through the tower's largest matrix, the median of several."""
    rows = torch.randn(2048, width, device=device).to(dtype)
    matrix = torch.randn(hidden, width, device=device).to(dtype)
    times = []
    for _ in range(9):
        began = _now(device)
        F.linear(rows, matrix)
        times.append(_now(device) - began)
    return 2.0 * 2048 * width * hidden / statistics.median(times)


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def quantised(tower: Tower) -> Tower:
    """The tower with int8 weights in its blocks, and activations quantised as they come (the processor only)."""
    from torch.ao.quantization import quantize_dynamic

    twin = copy.deepcopy(tower)
    quantize_dynamic(twin.transformer, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)
    return twin


def compiled(tower: Tower) -> Tower:
    """The tower with each block's feed-forward compiled for any number of rows."""
    twin = copy.deepcopy(tower)
    for block in twin.transformer.blocks:
        block.feedforward = torch.compile(block.feedforward, dynamic=True)
    return twin


def forms(tower: Tower, *, device: str, options: argparse.Namespace) -> dict[str, Form]:
    """The ways, ours first; the first one's answers are what the others are compared with."""
    half = copy.deepcopy(tower).to(torch.bfloat16)
    ways = {
        "ours, float32": Form(lambda clips: packed(tower, clips)),
        "ours, bfloat16": Form(lambda clips: packed(half, clips), rate_of="bfloat16"),
        "padded batches, float32": Form(lambda clips: padded(tower, clips)),
        "padded batches, bfloat16": Form(lambda clips: padded(half, clips), rate_of="bfloat16"),
        "one by one, float32": Form(lambda clips: one_by_one(tower, clips)),
        "one by one, plain attention": Form(lambda clips: one_by_one_plainly(tower, clips)),
    }
    if options.compile:
        fast, fast_half = compiled(tower), compiled(half)
        ways["ours, compiled, float32"] = Form(lambda clips: packed(fast, clips))
        ways["ours, compiled, bfloat16"] = Form(lambda clips: packed(fast_half, clips), rate_of="bfloat16")
    if options.int8 and device == "cpu":
        small = quantised(tower)
        ways["ours, int8"] = Form(lambda clips: packed(small, clips))
    return ways


def measure(tower: Tower, clips: list[torch.Tensor], *, device: str, runs: int, options: argparse.Namespace) -> dict:
    """Every form in turn, `runs` times; answers compared, times and shares collected."""
    ways = forms(tower, device=device, options=options)
    flops = product_flops(tower, clips)
    width, hidden = tower.config.width, tower.config.hidden
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    exact = next(iter(ways.values())).run(clips).float()
    for name, form in ways.items():
        form.cosine = float(F.cosine_similarity(form.run(clips).float(), exact).min())
        assert form.cosine > 0.99, f"{name} gives other vectors: cosine {form.cosine}"
    for _ in range(runs):
        for form in ways.values():
            before = product_rate(dtypes[form.rate_of], device, width=width, hidden=hidden)
            began = _now(device)
            form.run(clips)
            form.seconds.append(_now(device) - began)
            after = product_rate(dtypes[form.rate_of], device, width=width, hidden=hidden)
            form.shares.append(flops / form.seconds[-1] / statistics.mean((before, after)))
    sound = sum(map(len, clips)) / tower.sample_rate
    first = statistics.median(next(iter(ways.values())).seconds)
    print(f"{'':30}{'x real time':>12}{'share of products':>20}{'time':>10}{'cosine':>10}")
    for name, form in ways.items():
        median = statistics.median(form.seconds)
        share = statistics.median(form.shares)
        print(f"{name:30}{sound / median:12.1f}{share:19.1%} {median / first:8.2f} x{form.cosine:10.5f}")
    return {
        name: {"seconds": form.seconds, "shares": form.shares, "cosine": form.cosine, "sound_seconds": sound}
        for name, form in ways.items()
    }


def folder_of_clips(folder: Path, *, count: int, longest_seconds: float) -> list[torch.Tensor]:
    """Files as in a folder of sounds, most short, some long (log-uniform from 0.3 s), written and read again."""
    random = np.random.RandomState(0)
    clips = []
    for number in range(count):
        seconds = float(np.exp(random.uniform(np.log(0.3), np.log(longest_seconds))))
        path = folder / f"{number:03}.flac"
        soundfile.write(path, random.uniform(-0.3, 0.3, round(16_000 * seconds)), 16_000)
        clips.append(torch.from_numpy(audio.read(path, sample_rate=16_000)))
    return clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few clips, small towers, one run")
    parser.add_argument("--compile", action="store_true", help="compiled forms too: a minute more")
    parser.add_argument("--int8", action="store_true", help="int8 too, on the processor")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("bench/results/embed.json"))
    options = parser.parse_args()
    small = {"width": 64, "depth": 2, "heads": 1, "hidden": 128} if options.quick else {}
    towers: dict[str, Tower] = {
        "GLAP's (Dasheng-base)": Dasheng.Config(**small).build(),
        "M2D-CLAP 2025's": M2d.Config(**small, columns=62, chunk_frames=1001, pooling="semantic").build(),
    }
    results = {}
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        clips = folder_of_clips(
            Path(folder), count=4 if options.quick else options.clips, longest_seconds=12.0 if options.quick else 30.0
        )
        sound = sum(map(len, clips)) / 16_000
        print(f"{len(clips)} clips, {sound:.0f} s of sound; {options.device}, {torch.get_num_threads()} threads")
        for name, tower in towers.items():
            torch.manual_seed(0)
            print(f"\n{name} tower, {sum(p.numel() for p in tower.parameters()) / 1e6:.1f} M parameters")
            results[name] = measure(
                tower.eval().to(options.device),
                clips,
                device=options.device,
                runs=1 if options.quick else options.runs,
                options=options,
            )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
