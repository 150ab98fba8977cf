"""M2D and M2D-CLAP (arXiv 2210.14648, 2406.02032, 2503.22104): the official files of all years and kinds.

Their licence lets people evaluate, not redistribute: Lapis holds no file of theirs and asks the user to fetch them.
Sizes are read from the shapes of the tensors, never from the name of a folder.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from lapis.audio_encoders import m2d
from lapis.layers import renaming
from lapis.layers.projection import Linear, Perceptron
from lapis.model import JointModel, Projection, TextEncoderConfig
from lapis.pretrained.official import Official, OfficialFile
from lapis.shapes import Waveforms
from lapis.text_encoders.huggingface import HuggingFace
from lapis.text_encoders.sentence import Sentence
from lapis.values import check_choice
from lapis.weights import Tensors, load_strictly, require

_LICENCE = "NTT's licence for evaluation: internal, non-commercial testing only; no redistribution of code or weights"
_RELEASES = "https://github.com/nttcslab/m2d/releases/download"


def _release(version: str, name: str, sha256: str | None = None) -> Official:
    """A zip of a release on the project's page."""
    file = OfficialFile(f"{name}.zip", address=f"{_RELEASES}/{version}/{name}.zip", sha256=sha256)
    return Official(licence=_LICENCE, homepage="https://github.com/nttcslab/m2d", files=(file,))


Features = Literal["clap", "general"]

OFFICIAL: Mapping[str, Official] = {
    # The checksum stands in two projects that use it, that of the file inside in four.
    "M2D-CLAP-2025": _release(
        "v0.5.0",
        "m2d_clap_vit_base-80x1001p16x16p16kpBpTI-2025",
        sha256="fd193ae591720df7f1e27ed728ce127e0309b8bd427f0f4b3e5cd17d7ee5e1e1",
    ),
    "M2D-CLAP-2024": _release("v0.1.0", "m2d_clap_vit_base-80x608p16x16-240128"),
    "M2D-CLAP-2024-AudioSet": _release("v0.3.0", "m2d_clap_vit_base-80x1001p16x16-240128_AS-FT_enconly"),
    "M2D-AS-AudioSet": _release("v0.3.0", "m2d_as_vit_base-80x1001p16x16-240213_AS-FT_enconly"),
    "M2D-AudioSet": _release("v0.3.0", "m2d_vit_base-80x1001p16x16-221006-mr7_as_46ab246d"),
    "M2D-AS-AudioSet-32kHz": _release("v0.3.0", "m2d_as_vit_base-80x1001p16x16p32k-240413_AS-FT_enconly"),
    "M2D": _release("v0.1.0", "m2d_vit_base-80x608p16x16-221006-mr7_enconly"),
    "M2D-16x4": _release("v0.1.0", "m2d_vit_base-80x200p16x4-230529"),
    "M2D-AS": _release("v0.1.0", "m2d_as_vit_base-80x608p16x16-240213"),
    "M2D-AS-32kHz": _release("v0.1.0", "m2d_as_vit_base-80x608p16x16p32k-240413_enconly"),
    "M2D-S": _release("v0.2.0", "m2d_s_vit_base-80x608p80x2-230220"),
}

_WRAPPED = "module."
"""Before every name where a checkpoint was saved out of data-parallel training."""
_AUDIO_PREFIXES = ("ar.runtime.backbone.", "backbone.", "")
_SPECTRUM_PREFIXES = ("ar.runtime.to_spec.", "to_spec.")
_TEXT_PREFIXES = ("ar.runtime.text_encoder.text_encoder.", "text_encoder.text_encoder.")
_HEAD = {"head.norm.": "head.norm.", "head.mlp.mlp.0.": "head.linear."}
_WANTED = ("patch_embed.proj.weight", "pos_embed", "blocks.0.attn.qkv.weight", "cls_token")
_AXES = {"patch_embed.proj.weight": 4, "pos_embed": 3, "cls_token": 3, "blocks.0.mlp.fc1.weight": 2}
_BERT_AXES = {
    "embeddings.word_embeddings.weight": 2,
    "embeddings.position_embeddings.weight": 2,
    "encoder.layer.0.intermediate.dense.weight": 2,
}
_TRAINING_ONLY = re.compile(r"(mask_token|decoder_|target_|offline_predictor\.|logit_scale|ar\.)")
"""What only training needs: predictor, target encoder, temperature, and the evaluation harness's own statistics."""
_SEMANTIC = "audio_proj.sem_blocks.0."
_GTE_BASE = "thenlper/gte-base"
_NV_EMBED = "nvidia/NV-Embed-v2"
_BERT_BASE = "google-bert/bert-base-uncased"
_BERT_HEAD_WIDTH = 64


def recognises(keys: frozenset[str]) -> bool:
    """Whether these are the names of an M2D checkpoint of any kind."""
    bare = frozenset(name.removeprefix(_WRAPPED) for name in keys)
    # Dasheng's file names blocks and patches alike, and keeps positions in time apart.
    return max(_present(prefix, bare) for prefix in _AUDIO_PREFIXES) >= 2 and not any(
        name.endswith("time_pos_embed") for name in bare
    )


def build(
    tensors: Tensors,
    *,
    source: str,
    folder: Path | None = None,
    chunking: m2d.Chunking = "published",
    features: Features = "clap",
    sample_rate: int = 16_000,
    chunk_frames: int | None = None,
    text: str = "",
) -> JointModel:
    """The model of these weights.

    Args:
        tensors: of an official file.
        source: what messages call the file.
        folder: where the text tower's tokenizer may lie.
        chunking: of long sound, see `M2d.Config`.
        features: "clap" for vectors that meet texts, where the file has them; "general" for the mean of the frame
            features (3840 wide), which is what encoders alone answer with.
        sample_rate: 16000 or 32000, for files that do not say: the 32 kHz encoders without front end.
        chunk_frames: the length the weights were tuned at, where it is no whole number of patches (501 frames for
            ESC-50, 821 for VoxCeleb1) and so stands in no shape; 1001 is known.
        text: name or folder of the text model, in place of the one the paper used.

    Raises:
        ValueError: tensors are missing, too many, or of another shape.
    """
    check_choice(features, Features, name="features")
    audio, text_tensors, rest = _parts(tensors)
    require(audio, _AXES, source=source)
    joint = features == "clap" and any(name.startswith("audio_proj.") for name in rest)
    semantic = "audio_proj.sem_token" in rest
    if semantic and "norm_stats" not in audio:
        raise ValueError(f"{source} does not fit the model: 1 tensor (norm_stats) missing")
    sizes = m2d.geometry(audio, sample_rate=sample_rate)
    encoder = replace(
        sizes,
        chunk_frames=chunk_frames or sizes.chunk_frames,
        chunking=chunking,
        pooling=("semantic" if semantic else "mean") if joint else "frames",
        classes=rest["head.linear.weight"].shape[0] if "head.linear.weight" in rest else None,
    )
    width = encoder.width * (encoder.front_end.num_mels // encoder.patch_mels)
    config = JointModel.Config(
        audio=encoder,
        text=_text_tower(text_tensors, rest, name=text, folder=folder, source=source) if joint else None,
        width=encoder.width if joint else width,
        chunk_seconds=None,
        audio_projection=_audio_projection(rest, source=source) if joint and not semantic else None,
        text_projection=Linear.Config(bias=True) if joint and "text_proj.weight" in rest else None,
    )
    ours = {f"audio_encoder.{name}": tensor for name, tensor in m2d.renamed(audio).items()}
    if joint:
        ours |= {f"text_encoder.encoder.{name}": tensor for name, tensor in text_tensors.items()}
    for name, tensor in rest.items():
        if joint or not name.startswith(("audio_proj.", "text_proj.")):
            ours |= _renamed(name, tensor)
    model = config.build_empty()
    load_strictly(model, ours, source=source)
    return model


def chunking_shift(model: JointModel, waveforms: Waveforms) -> Float[np.ndarray, "clips"]:
    """How far "complete" chunking moves the vectors of these clips from the published ones: 1 minus their cosine.

    Raises:
        ValueError: the model's audio tower is not M2D's.
    """
    encoder = model.audio_encoder
    if not isinstance(encoder, m2d.M2d):
        raise ValueError(f"expected a model with M2D's audio tower, got {type(encoder).__name__}")
    answers = []
    for chunking in ("published", "complete"):
        config = replace(model.config, audio=replace(encoder.config, chunking=chunking), text=None)
        twin = config.build_empty()
        ours = twin.state_dict().keys()
        twin.load_state_dict({n: t for n, t in model.state_dict().items() if n in ours}, assign=True)
        answers.append(twin.embed_audio(waveforms))
    return 1 - (answers[0] * answers[1]).sum(1)


def _parts(tensors: Mapping[str, Tensor]) -> tuple[Tensors, Tensors, Tensors]:
    """Encoder, text tower and the rest, without their prefixes and without what only training needs."""
    wrapped = all(name.startswith(_WRAPPED) for name in tensors)
    tensors = {name.removeprefix(_WRAPPED): tensor for name, tensor in tensors.items()} if wrapped else tensors
    keys = frozenset(tensors)
    prefix = max(_AUDIO_PREFIXES, key=lambda prefix: _present(prefix, keys))
    audio: Tensors = {}
    text: Tensors = {}
    rest: Tensors = {}
    for name, tensor in tensors.items():
        if spectrum := next((start for start in _SPECTRUM_PREFIXES if name.startswith(start)), None):
            audio[f"to_spec.{name.removeprefix(spectrum)}"] = tensor
        elif start := next((start for start in _TEXT_PREFIXES if name.startswith(start)), None):
            text[name.removeprefix(start)] = tensor
        elif head := next((start for start in _HEAD if name.startswith(start)), None):
            rest[_HEAD[head] + name.removeprefix(head)] = tensor
        elif name.startswith(prefix):
            bare = name.removeprefix(prefix)
            if _TRAINING_ONLY.match(bare):
                continue
            (rest if bare.startswith(("audio_proj.", "text_proj.")) else audio)[bare] = tensor
        elif not _TRAINING_ONLY.match(name):
            rest[name] = tensor
    text.pop("embeddings.position_ids", None)  # 0, 1, 2, ...: older versions of the library saved them
    return audio, text, rest


def _present(prefix: str, keys: frozenset[str]) -> int:
    return sum(prefix + name in keys for name in _WANTED)


def _audio_projection(rest: Mapping[str, Tensor], *, source: str) -> Projection:
    require(rest, {"audio_proj.0.weight": 2, "audio_proj.2.weight": 2}, source=source)
    return Perceptron.Config(hidden=rest["audio_proj.0.weight"].shape[0])


def _text_tower(
    text: Mapping[str, Tensor], rest: Mapping[str, Tensor], *, name: str, folder: Path | None, source: str
) -> TextEncoderConfig | None:
    """BERT with the weights of the file; else the sentence embeddings the weights were trained against.

    None for a semantic projector without either: the audio side of 2025, whose text tower was left out.
    """
    if text:
        require(text, _BERT_AXES, source=source)
        if not name and folder is not None and (folder / "tokenizer_config.json").is_file():
            name = str(folder)
        return HuggingFace.Config(
            name or _BERT_BASE,
            pooling="first",
            max_tokens=text["embeddings.position_embeddings.weight"].shape[0],
            fresh=True,
            architecture=_bert(text),
        )
    if "text_proj.weight" in rest:
        return Sentence.Config(name or _NV_EMBED, width=rest["text_proj.weight"].shape[1], normalise=False)
    if "audio_proj.sem_token" in rest:
        return None
    return Sentence.Config(name or _GTE_BASE, width=rest["audio_proj.2.weight"].shape[0])


def _bert(text: Mapping[str, Tensor]) -> dict[str, object]:
    """BERT's configuration, read from the shapes of its tensors."""
    vocabulary, width = text["embeddings.word_embeddings.weight"].shape
    layers = {name.split(".")[2] for name in text if name.startswith("encoder.layer.")}
    return {
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": len(layers),
        "num_attention_heads": width // _BERT_HEAD_WIDTH,
        "intermediate_size": text["encoder.layer.0.intermediate.dense.weight"].shape[0],
        "max_position_embeddings": text["embeddings.position_embeddings.weight"].shape[0],
    }


_PREFIXES = {
    "audio_proj.norm.": "audio_encoder.semantic.transformer.norm.",
    "audio_proj.0.": "audio_projection.up.",
    "audio_proj.2.": "audio_projection.down.",
    "text_proj.": "text_projection.",
    "head.": "audio_encoder.head.",
}


def _renamed(name: str, tensor: Tensor) -> Tensors:
    """A tensor of projections and head under its name in `JointModel`; another one under its own."""
    if name == "audio_proj.sem_token":
        return {"audio_encoder.semantic.token": tensor.flatten()}
    if name.startswith(_SEMANTIC):
        block = renaming.block_tensors(f"blocks.0.{name.removeprefix(_SEMANTIC)}", tensor)
        return {f"audio_encoder.semantic.transformer.{part}": values for part, values in block.items()}
    official = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), "")
    return {_PREFIXES.get(official, "") + name.removeprefix(official): tensor}
