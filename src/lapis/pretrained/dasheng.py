"""Dasheng (arXiv 2406.06992): the audio tower that GLAP begins with, by itself. It hears, and knows no texts.

Reads both layouts of the official weights: the original `.pt`, and the hub's safetensors (under `encoder.`).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lapis.audio_encoders import dasheng
from lapis.audio_encoders.dasheng import Pooling
from lapis.model import JointModel
from lapis.pretrained.official import Official, OfficialFile
from lapis.weights import Tensors, load_strictly, require


def _zenodo(file: str) -> Official:
    address = f"{dasheng.WEIGHTS_ADDRESS.rpartition('/')[0]}/{file}"
    page = "https://github.com/XiaoMi/dasheng"
    return Official(licence="Apache-2.0 by its page", homepage=page, files=(OfficialFile(file, address=address),))


OFFICIAL: Mapping[str, Official] = {
    "Dasheng-base": _zenodo("dasheng_base.pt"),
    "Dasheng-0.6B": _zenodo("dasheng_06b.pt"),
    "Dasheng-1.2B": _zenodo("dasheng_12b.pt"),
}

_AXES = {"patch_embed.proj.weight": 4, "time_pos_embed": 4, "freq_pos_embed": 4, "blocks.0.mlp.fc1.weight": 2}


def recognises(keys: frozenset[str]) -> bool:
    """Whether these are the names of Dasheng's encoder alone, in either layout."""
    bare = frozenset(key.removeprefix("encoder.") for key in keys)
    return {"time_pos_embed", "patch_embed.proj.weight"} <= bare


def build(tensors: Tensors, *, source: str, folder: Path | None = None, pooling: Pooling = "published") -> JointModel:
    """The tower of these weights as a model without a text side; its vectors are the mean tokens.

    Args:
        tensors: of an official file.
        source: what messages call the file.
        folder: not used: nothing lies beside the file.
        pooling: of sound longer than 10.08 s, see `Dasheng.Config`.

    Raises:
        ValueError: tensors are missing, too many (a head of classes, say), or of another shape.
    """
    bare = dasheng.bare(tensors)
    require(bare, _AXES, source=source)
    audio = replace(dasheng.geometry(bare), pooling=pooling)
    config = JointModel.Config(
        audio=audio, text=None, width=audio.width, chunk_seconds=None, audio_projection=None, text_projection=None
    )
    model = config.build_empty()
    ours = {f"audio_encoder.{name}": tensor for name, tensor in dasheng.renamed(bare).items()}
    load_strictly(model, ours, source=source)
    return model
