"""Official checkpoints with name-seeded weights, under the official names: tests renaming and sums at once."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from golden.deterministic import parameter, sound

FOLDER = Path(__file__).parent
NORM_STATS_2025 = (-7.261779308319092, 4.3511505126953125)
GLAP_SECONDS = (0.03, 0.5, 1.0, 3.7, 10.0, 10.07, 10.5, 22.5)
M2D_SECONDS = (0.1, 1.0, 2.5, 6.08, 10.0, 10.01, 23.0)


def shapes(name: str) -> dict[str, tuple[int, ...]]:
    """The names and shapes of an official file, in its order."""
    lines = (FOLDER / f"{name}_keys.txt").read_text().splitlines()
    named = [line.split("\t") for line in lines]
    return {name: () if shape in ("", "scalar") else tuple(map(int, shape.split("x"))) for name, shape in named}


def filled(wanted: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Each tensor by the rule of its name; those that have none are left out."""
    values = {name: parameter(name, shape) for name, shape in wanted.items()}
    return {name: torch.from_numpy(value) for name, value in values.items() if value is not None}


def glap(*, text_layers: int = 2, vocabulary: int = 4096) -> dict[str, Tensor]:
    """GLAP in the layout of the original file, front end included."""
    wanted = shapes("glap")
    for name in list(wanted):
        if name.startswith("text_encoder.model.encoder.layers.") and int(name.split(".")[4]) >= text_layers:
            del wanted[name]
    wanted["text_encoder.model.encoder_frontend.embed.weight"] = (vocabulary, 1024)
    constants = np.load(FOLDER / "glap_constants.npz")
    front_end = "audio_encoder.model.front_end.0"
    return filled(wanted) | {
        f"{front_end}.spectrogram.window": torch.from_numpy(constants["window"]),
        f"{front_end}.mel_scale.fb": torch.from_numpy(constants["fb"]),
        "audio_encoder.model.init_bn.1.num_batches_tracked": torch.tensor(0),
    }


def m2d_clap(year: int) -> dict[str, Tensor]:
    """M2D-CLAP of a year, in the layout of its release."""
    tensors = filled(shapes(f"m2d_clap_{year}")) | {"logit_scale": torch.tensor(4.6052)}
    if year == 2025:
        tensors["backbone.norm_stats"] = torch.tensor(NORM_STATS_2025)
    return tensors


def sounds(seconds: tuple[float, ...]) -> list[np.ndarray]:
    """The sounds of the golden figures: the i-th has the seed 1 + i."""
    return [sound(duration, 1 + number) for number, duration in enumerate(seconds)]
