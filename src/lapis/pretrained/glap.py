"""GLAP (arXiv 2506.11350): Dasheng-base and SONAR, each with a perceptron to 1024 dimensions.

Reads both layouts of the official weights: the original `.pt` (towers under `audio_encoder.model.` and
`text_encoder.model.`) and the hub's safetensors (without `model.`).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from lapis.audio_encoders import dasheng
from lapis.audio_encoders.dasheng import Pooling
from lapis.layers.projection import Perceptron
from lapis.model import JointModel
from lapis.pretrained.official import Official, OfficialFile
from lapis.text_encoders import sonar
from lapis.weights import Tensors, load_strictly, require

_LICENCE = (
    "Apache-2.0 by its page; the text tower comes from SONAR, whose weights are CC-BY-NC-4.0: ask before commercial use"
)

OFFICIAL: Mapping[str, Official] = {
    "mispeech/GLAP": Official(
        licence=_LICENCE,
        homepage="https://huggingface.co/mispeech/GLAP",
        files=(
            # Of the repository's state 79b1301, told by one project that uses it; the size fits the 552 tensors.
            OfficialFile(
                "model.safetensors",
                sha256="ee8fd92bba30d03b4c31c624739b1599a222506f0e045cde7cb51c34e3223864",
                size_bytes=3_422_036_400,
            ),
            OfficialFile(sonar.TOKENIZER_NAME, sha256=sonar.TOKENIZER_SHA256, size_bytes=4_852_054),
        ),
    ),
    "GLAP-zenodo": Official(
        licence=_LICENCE,
        homepage="https://zenodo.org/records/15493136",
        files=(
            OfficialFile("glap_checkpoint.pt", address="https://zenodo.org/records/15493136/files/glap_checkpoint.pt"),
        ),
    ),
}

_AUDIO_AXES = {"patch_embed.proj.weight": 4, "time_pos_embed": 4, "freq_pos_embed": 4, "blocks.0.mlp.fc1.weight": 2}
_TEXT_AXES = {"encoder_frontend.embed.weight": 2, "encoder.layers.0.ffn.inner_proj.weight": 2}
_PROJECTIONS = {
    "audio_proj.0": "audio_projection.up",
    "audio_proj.2": "audio_projection.down",
    "text_proj.0": "text_projection.up",
    "text_proj.2": "text_projection.down",
}


def recognises(keys: frozenset[str]) -> bool:
    """Whether these are the names of a GLAP checkpoint, in either layout."""
    layers = ("text_encoder.model.encoder.layers.", "text_encoder.encoder.layers.")
    return all(any(key.startswith(start) for key in keys) for start in (layers, "audio_encoder.", "text_proj."))


def build(
    tensors: Tensors,
    *,
    source: str,
    folder: Path | None = None,
    pooling: Pooling = "published",
    language: str = "eng_Latn",
    tokenizer: str = "",
) -> JointModel:
    """The model of these weights.

    Args:
        tensors: of an official file.
        source: what messages call the file.
        folder: where the tokenizer may lie; else it is downloaded when a text is first embedded.
        pooling: of sound longer than 10.08 s, see `Dasheng.Config`.
        language: the code before every text, see `Sonar.Config`.
        tokenizer: path of the SentencePiece model, where it lies elsewhere.

    Raises:
        ValueError: tensors are missing, too many, or of another shape.
    """
    beside = folder / sonar.TOKENIZER_NAME if folder else None
    if not tokenizer and beside is not None and beside.is_file():
        tokenizer = str(beside)
    config = _config(tensors, source=source, pooling=pooling, language=language, tokenizer=tokenizer)
    model = config.build_empty()
    load_strictly(model, renamed(tensors), source=source)
    return model


def _config(
    tensors: Mapping[str, Tensor], *, source: str, pooling: Pooling, language: str, tokenizer: str
) -> JointModel.Config:
    towers = {tower: _under(tensors, tower) for tower in ("audio_encoder", "text_encoder")}
    require(towers["audio_encoder"], _AUDIO_AXES, source=f"{source}, audio_encoder")
    require(towers["text_encoder"], _TEXT_AXES, source=f"{source}, text_encoder")
    require(
        tensors, {f"{tower}_proj.{layer}.weight": 2 for tower in ("audio", "text") for layer in (0, 2)}, source=source
    )
    text = replace(sonar.geometry(towers["text_encoder"]), language=language, tokenizer=tokenizer)
    return JointModel.Config(
        audio=replace(dasheng.geometry(towers["audio_encoder"]), pooling=pooling),
        text=text,
        width=tensors["audio_proj.2.weight"].shape[0],
        chunk_seconds=None,
        audio_projection=Perceptron.Config(hidden=tensors["audio_proj.0.weight"].shape[0]),
        text_projection=Perceptron.Config(hidden=tensors["text_proj.0.weight"].shape[0]),
    )


def renamed(tensors: Mapping[str, Tensor]) -> Tensors:
    """Official tensors under the names of `JointModel`; names that are not GLAP's stay as they are."""
    ours: Tensors = {}
    for tower, rename in (("audio_encoder", dasheng.renamed), ("text_encoder", sonar.renamed)):
        ours |= {f"{tower}.{name}": tensor for name, tensor in rename(_under(tensors, tower)).items()}
    for name, tensor in tensors.items():
        if name.startswith(("audio_encoder.", "text_encoder.")):
            continue
        part, _, leaf = name.rpartition(".")
        ours[f"{_PROJECTIONS.get(part, part)}.{leaf}"] = tensor
    return ours


def _under(tensors: Mapping[str, Tensor], tower: str) -> Tensors:
    """A tower's tensors without its prefix, that of the original layout too."""
    found = {name.removeprefix(f"{tower}."): tensor for name, tensor in tensors.items() if name.startswith(f"{tower}.")}
    return {name.removeprefix("model."): tensor for name, tensor in found.items()}
