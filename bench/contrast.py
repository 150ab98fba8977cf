"""Softmax and sigmoid contrast, forward and backward: the plain form with its matrix of logits, and in blocks.

Each form runs in a process of its own, which measures how far its memory rises above its inputs (Linux). The plain
form is left out where its matrices alone would pass 8 GB. First the forms are compared on `--check` clips, values and
gradients.
"""

import argparse
import json
import multiprocessing
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lapis.objectives.contrast import sigmoid_contrast, softmax_contrast
from lapis.objectives.positives import Positives
from lapis.objectives.streaming import streamed_sigmoid, streamed_softmax

KINDS = ("softmax", "sigmoid")
MOST_PLAIN_BYTES = 8 << 30
PLAIN_MATRICES = 6
"""Of float32, at the least: similarities, logits, targets, their gradients."""


def inputs(size: int, width: int) -> tuple[Tensor, Tensor, Positives]:
    """Unit vectors, each text somewhat near its sound, made in place; every tenth caption is the same."""
    generator = torch.Generator().manual_seed(0)
    audio, text = torch.empty(size, width), torch.empty(size, width)
    for first in range(0, size, 1024):
        part = slice(first, first + 1024)
        audio[part].normal_(generator=generator)
        text[part].normal_(generator=generator).add_(audio[part], alpha=0.5)
        for rows in (audio[part], text[part]):
            rows.div_(rows.norm(dim=1, keepdim=True))
    clips = torch.arange(size)
    drawn = torch.where(clips % 10 == 0, 0, clips)
    return audio.requires_grad_(), text.requires_grad_(), Positives(clips, drawn[:, None].contiguous(), clips, drawn)


def loss_of(kind: str, audio: Tensor, text: Tensor, positives: Positives, chunk: int | None) -> tuple[Tensor, Tensor]:
    """A loss and the parameter that it multiplies cosines by."""
    scale, bias = torch.tensor(1 / 0.07, requires_grad=True), torch.tensor(-10.0)
    forms: dict[tuple[str, bool], Callable[[], Tensor]] = {
        ("softmax", True): lambda: softmax_contrast(audio, text, positives.matrix(), scale=scale),
        ("sigmoid", True): lambda: sigmoid_contrast(audio, text, positives.matrix(), scale=scale, bias=bias),
        ("softmax", False): lambda: streamed_softmax(audio, text, positives, scale=scale, chunk=chunk),
        ("sigmoid", False): lambda: streamed_sigmoid(audio, text, positives, scale=scale, bias=bias, chunk=chunk),
    }
    return forms[kind, chunk is None](), scale


def largest_difference(kind: str, size: int, width: int, chunk: int) -> float:
    """Between the plain form and the blocks, over the loss and all gradients, each relative to its largest entry."""
    found = []
    for form in (None, chunk):
        audio, text, positives = inputs(size, width)
        loss, scale = loss_of(kind, audio, text, positives, form)
        loss.backward()
        found.append([loss.detach(), audio.grad, text.grad, scale.grad])
    return max(((one - other).abs().max() / one.abs().max()).item() for one, other in zip(*found, strict=True))


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _measured(connection: Any, *, kind: str, size: int, width: int, chunk: int | None, threads: int) -> None:
    torch.set_num_threads(threads)
    audio, text, positives = inputs(size, width)
    before, began = _resident_bytes(), time.perf_counter()
    loss, _ = loss_of(kind, audio, text, positives, chunk)
    loss.backward()
    connection.send(
        {
            "kind": kind,
            "form": "plain" if chunk is None else f"blocks of {chunk}",
            "loss": loss.item(),
            "seconds": time.perf_counter() - began,
            "extra_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before,
        }
    )


def measured(**settings: Any) -> dict[str, Any]:
    """Time, loss, and how far memory rose above the inputs, gradients included."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(sending,), kwargs=settings)
    process.start()
    sending.close()
    try:
        return receiving.recv()
    except EOFError as error:
        raise RuntimeError(f"the process ended early: {settings}") from error
    finally:
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="512 clips of width 64")
    parser.add_argument("--size", type=int, default=16_384, help="clips in the batch")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--chunk", type=int, default=2048)
    parser.add_argument("--check", type=int, default=2048, help="clips on which the forms are compared")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=Path("bench/results/contrast.json"))
    options = parser.parse_args()
    if options.quick:
        options.size, options.width, options.chunk, options.check = 512, 64, 128, 256
    plain_fits = PLAIN_MATRICES * 4 * options.size**2 <= MOST_PLAIN_BYTES
    forms = ([None] if plain_fits else []) + [options.chunk]
    results = []
    print(f"{options.size} clips of width {options.width}, {options.threads} threads")
    for kind in options.kinds:
        difference = largest_difference(kind, options.check, options.width, max(1, options.check // 3))
        assert difference < 1e-4, f"{kind} in blocks differs from the plain form by {difference}"
        print(f"{kind}: at {options.check} clips the blocks differ from the plain form by {difference:.1e}")
        if not plain_fits:
            gigabytes = PLAIN_MATRICES * 4 * options.size**2 / 1e9
            print(f"{kind:8} plain            left out: its matrices take {gigabytes:.0f} GB")
        for chunk in forms:
            result = measured(
                kind=kind, size=options.size, width=options.width, chunk=chunk, threads=options.threads
            ) | {"difference": difference}
            results.append(result)
            print(
                f"{kind:8} {result['form']:16} {result['seconds']:8.2f} s  "
                f"{result['extra_bytes'] / 1e9:6.3f} GB above the inputs  loss {result['loss']:.6f}",
                flush=True,
            )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    settings = {name: getattr(options, name) for name in ("size", "width", "chunk", "check", "threads")}
    options.out.write_text(json.dumps(settings | {"results": results}, indent=2))


if __name__ == "__main__":
    main()
