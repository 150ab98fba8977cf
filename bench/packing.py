"""The SLAP tower on clips of mixed durations: packed as Lapis does, one clip at a time, and padded to the longest.

The padded batch is what a straightforward implementation does: the same blocks over a dense batch with a key mask. All
three run in turn in one process on the same clips; read the ratios.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F

from lapis.audio_encoders.slap import Slap
from lapis.layers.positions import rotate
from lapis.ragged import Ragged


def padded(encoder: Slap, clips: list[torch.Tensor]) -> torch.Tensor:
    """One vector a clip from a batch padded to its longest clip, with masks."""
    spectrogram = encoder.patches(encoder.log_mel(Ragged.pack(clips)))
    angles = encoder.rotary(encoder.patches.positions(spectrogram))
    items = spectrogram.split()
    rows = torch.nn.utils.rnn.pad_sequence(items, batch_first=True)
    turns = torch.nn.utils.rnn.pad_sequence(list(angles.split(spectrogram.lengths)), batch_first=True)
    num_items, longest, _ = rows.shape
    index = torch.arange(longest, device=rows.device)
    real = index[None, :] < torch.tensor(spectrogram.lengths, device=rows.device)[:, None]
    for block in encoder.transformer.blocks:
        normed, attention = block.attention_norm(rows), block.attention
        query, key, value = (
            layer(normed).unflatten(-1, (attention.heads, -1))
            for layer in (attention.query, attention.key, attention.value)
        )
        query, key = (
            rotate(part.flatten(0, 1), turns.flatten(0, 1)).unflatten(0, (num_items, -1)) for part in (query, key)
        )
        seen = real[:, None, None, :]
        if block.window is not None:
            seen = seen & ((index[:, None] - index[None, :]).abs() <= block.window)
        # A padded query that sees nothing would be NaN; it sees itself.
        seen = seen | torch.eye(longest, dtype=torch.bool, device=rows.device)
        attended = F.scaled_dot_product_attention(
            *(part.transpose(1, 2) for part in (query, key, value)), attn_mask=seen
        )
        rows = rows + attention.out(attended.transpose(1, 2).flatten(2))
        rows = rows + block.feedforward(block.feedforward_norm(rows))
    rows = encoder.transformer.norm(rows)
    return encoder.pool(Ragged(rows[real], spectrogram.lengths))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few clips, a small tower, one run")
    parser.add_argument("--out", type=Path, default=Path("bench/results/packing.json"))
    options = parser.parse_args()
    torch.manual_seed(0)
    size = (
        {"width": 32, "depth": 3, "heads": 2, "hidden": 48}
        if options.quick
        else {"width": 384, "heads": 6, "hidden": 768}
    )
    encoder = Slap(Slap.Config(**size)).eval()
    # Durations as in a folder of sounds: most are short, some are long (log-uniform from 0.3 to 30 s).
    count, runs = (4, 1) if options.quick else (32, 7)
    durations = torch.exp(torch.empty(count).uniform_(-1.2, 3.4)).tolist()
    clips = [torch.randn(round(seconds * encoder.sample_rate)) * 0.1 for seconds in durations]
    forms: dict[str, Callable[[], torch.Tensor]] = {
        "packed": lambda: encoder.pool(encoder(Ragged.pack(clips))),
        "one by one": lambda: torch.cat([encoder.pool(encoder(Ragged.pack([clip]))) for clip in clips]),
        "padded": lambda: padded(encoder, clips),
    }
    with torch.inference_mode():
        answers = {name: form() for name, form in forms.items()}
        for name, answer in answers.items():
            error = (answer - answers["packed"]).abs().max().item()
            assert error < 1e-4, f"{name} differs from packed by {error}"
        times: dict[str, list[float]] = {name: [] for name in forms}
        for _ in range(runs):
            for name, form in forms.items():
                began = time.perf_counter()
                form()
                times[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(values) for name, values in times.items()}
    total = sum(durations)
    print(
        f"{count} clips, {total:.0f} s of sound, the longest {max(durations):.1f} s; {torch.get_num_threads()} threads"
    )
    for name, value in medians.items():
        rate, ratio = total / value, value / medians["packed"]
        print(f"{name:12} {value:7.3f} s  {rate:8.0f} s of sound a second  {ratio:.2f} x packed")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"durations": durations, "seconds": times}, indent=2))


if __name__ == "__main__":
    main()
