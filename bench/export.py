"""Exported audio towers on ONNX Runtime beside the same towers in torch: how near, how large, how fast, in one run.

Weights are random, from a seed; times do not depend on them. The forms take turns in every round, so that whatever else
the machine does meets all of them; the median of the rounds counts. (The file is not called after the format: a script
`onnx.py` would stand in the way of the package of that name.)
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from lapis.audio_encoders.dasheng import Dasheng
from lapis.audio_encoders.m2d import M2d
from lapis.audio_encoders.slap import Slap
from lapis.model import AudioEncoderConfig, Embedder, JointModel
from lapis.onnx import runtime
from lapis.onnx.folder import PRECISIONS
from lapis.onnx.making import ParityError, export
from lapis.onnx.parity import SECONDS, sounds


def towers(*, quick: bool) -> dict[str, AudioEncoderConfig]:
    sizes: dict[str, int] = {"width": 32, "depth": 2, "heads": 2, "hidden": 48} if quick else {}
    return {
        "slap": Slap.Config(**sizes),
        "dasheng": Dasheng.Config(**sizes),
        "m2d": M2d.Config(**sizes, pooling="semantic", columns=62, chunk_frames=1001),
    }


def built(config: AudioEncoderConfig, *, width: int) -> JointModel:
    torch.manual_seed(0)
    chunk_seconds = 120.0 if isinstance(config, Slap.Config) else None
    model = JointModel.Config(audio=config, text=None, width=width, chunk_seconds=chunk_seconds).build().eval()
    if isinstance(model.audio_encoder, Dasheng):
        norm = model.audio_encoder.band_norm
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.fill_(-30.0)
        norm.running_var.fill_(200.0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.01)  # biases and tokens that begin at zero
    return model


def timed(forms: dict[str, Embedder], *, seconds: float, clips: int, rounds: int) -> dict[str, float]:
    waveforms = (sounds(seconds, sample_rate=16_000) * clips)[:clips]
    taken: dict[str, list[float]] = {name: [] for name in forms}
    for number in range(rounds + 1):
        for name, form in forms.items():
            began = time.perf_counter()
            form.embed_audio(waveforms)
            if number:  # the first round warms up
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in taken.items()}


def measured(name: str, model: JointModel, *, durations: tuple[float, ...], rounds: int, quick: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        forms: dict[str, Embedder] = {"torch float32": model}
        exports: dict[str, Any] = {}
        for precision in PRECISIONS:
            out = Path(folder) / precision
            try:
                parity = export(model, out, precision=precision, seconds=SECONDS[:4] if quick else SECONDS)
            except ParityError as error:
                parity = error.parity
            megabytes = sum(path.stat().st_size for path in out.glob("audio.onnx*")) / 1e6
            exports[precision] = {**parity.to_values(), "megabytes": megabytes}
            print(f"{name:8} {precision:8} cosine at least {parity.cosine:.6f}, {megabytes:8.1f} MB", flush=True)
            if precision != "float16" and parity.holds:  # a processor computes halves in float32, and converts
                forms[f"ONNX {precision}"] = runtime.open(out)
        speeds = []
        for seconds in durations:
            clips = max(1, min(4, round(20 / seconds)))
            taken = timed(forms, seconds=seconds, clips=clips, rounds=rounds)
            speeds.append({"seconds": seconds, "clips": clips, "taken_seconds": taken})
            against = taken["torch float32"]
            told = ", ".join(f"{form} {1000 * took:.0f} ms ({against / took:.2f}x)" for form, took in taken.items())
            print(f"{name:8} {clips} clips of {seconds:g} s: {told}", flush=True)
    return {"exports": exports, "speeds": speeds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny towers and short sounds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--out", type=Path, default=None, help="JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    durations = (0.5,) if arguments.quick else (1.0, 10.0, 60.0)
    results: dict[str, Any] = {"threads": arguments.threads, "torch": torch.__version__}
    for name, config in towers(quick=arguments.quick).items():
        if arguments.only is None or name in arguments.only:
            model = built(config, width=16 if arguments.quick else 768)
            rounds = 1 if arguments.quick else 5
            results[name] = measured(name, model, durations=durations, rounds=rounds, quick=arguments.quick)
            del model
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
