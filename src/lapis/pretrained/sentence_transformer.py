"""Any sentence-transformers model that takes sound and text, behind our contract.

The library runs the model as its authors saved it: their prompts, their pooling, their way with sound longer than the
model's window (cut at the end, shrunk, or, for CLAP, cropped at random). Code that comes with a model is never run.
"""

import hashlib
import itertools
import json
import warnings
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from torch import Tensor, nn

from lapis.model import check_texts, check_waveforms
from lapis.pretrained.fetch import snapshot
from lapis.pretrained.frozen import Frozen
from lapis.pretrained.official import Official
from lapis.shapes import Vectors, Waveforms

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

OFFICIAL: Mapping[str, Official] = {}
"""None by name: any name on the hub may be one."""

ASSUMED_HERTZ = 16_000
BATCH_SECONDS = 120.0
TEXTS_AT_ONCE = 32


def recognises_folder(folder: Path) -> bool:
    """Whether a folder is one that sentence-transformers saved, and not one of ours that it can open.

    Raises:
        ValueError: its modules.json does not list modules.
    """
    path = folder / "modules.json"
    if not path.is_file():
        return False
    try:
        types = [str(module["type"]) for module in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not list modules with their types: {error!r}") from error
    return not any(name.startswith("lapis.") for name in types)


def from_folder(folder: Path) -> "SentenceEmbedder":
    """The model of a folder, for the hub."""
    return SentenceEmbedder.from_folder(folder)


class SentenceEmbedder(Frozen):
    """A `SentenceTransformer` for sound and text: an `Embedder`.

    Texts are embedded as queries and sounds as documents, which differs only for models that were trained with prompts.

    Raises:
        ValueError: the model does not take both, or does not say how wide its vectors are.
    """

    def __init__(self, model: "SentenceTransformer", *, name: str) -> None:
        super().__init__()
        for modality in ("text", "audio"):
            if not model.supports(modality):
                raise ValueError(
                    f"{name} takes {model.modalities}, and not {modality}: it cannot compare sound and text"
                )
        width = model.get_embedding_dimension()
        if width is None:
            raise ValueError(f"{name} does not say how wide its vectors are")
        self.model = model.eval().requires_grad_(False)
        self.name = name
        self.width = width
        sample_rate = _sample_rate(model)
        if sample_rate is None:
            warnings.warn(
                f"{name} does not say at which rate it takes sound: {ASSUMED_HERTZ} Hz is assumed", stacklevel=2
            )
        self.sample_rate = sample_rate or ASSUMED_HERTZ
        model[0].register_forward_pre_hook(_in_its_precision)

    @classmethod
    def from_folder(cls, folder_or_hub_name: str | Path, *, revision: str | None = None) -> "SentenceEmbedder":
        """The model of a folder, or of a name on the hub; weights in the precision of the file.

        Raises:
            ValueError: the library cannot open it without running its code, or it does not take sound and text.
        """
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ValueError(f"{folder_or_hub_name} needs an extra: pip install 'lapis-audio[sentence]'") from error
        name = str(folder_or_hub_name)
        folder = Path(name) if Path(name).is_dir() else snapshot(name, revision=revision)
        try:
            model = SentenceTransformer(
                str(folder),
                device="cpu",
                trust_remote_code=False,
                local_files_only=True,
            )
        # Which of these it is depends on the file; the library's own words stay in the message.
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as error:
            raise ValueError(
                f"sentence-transformers cannot open {name} (code that comes with a model is never run): {error}"
            ) from error
        return cls(model, name=name)

    @property
    def identity(self) -> str:
        """The library, a digest of the modules' settings and prompts, and one of the weights."""
        settings = f"{self.model!r} {sorted(self.model.prompts.items())} {self.model.truncate_dim}"
        return f"sentence-transformers:{hashlib.sha256(settings.encode()).hexdigest()[:8]}+{self.digest}"

    def embed_audio(self, waveforms: Waveforms) -> Vectors:
        """Unit vectors of mono clips at `sample_rate`. Sound longer than the model's window is treated as it does.

        Raises:
            ValueError: a clip has no samples, or one that is not a finite number.
        """
        check_waveforms(waveforms)
        vectors = np.zeros((len(waveforms), self.width), np.float32)
        # Only clips of one length go together: the model pads none, so that none can feel its neighbours.
        order = sorted(range(len(waveforms)), key=lambda clip: len(waveforms[clip]))
        for length, clips in itertools.groupby(order, key=lambda clip: len(waveforms[clip])):
            at_once = max(1, int(BATCH_SECONDS * self.sample_rate) // length)
            numbers = list(clips)
            inputs = [{"array": waveforms[clip], "sampling_rate": self.sample_rate} for clip in numbers]
            vectors[numbers] = self._unit(
                self.model.encode_document(inputs, batch_size=at_once, show_progress_bar=False)
            )
        return vectors

    def embed_text(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of texts; the model cuts a text that is too long for it.

        Raises:
            ValueError: a text is empty.
        """
        check_texts(texts)
        if not len(texts):
            return np.zeros((0, self.width), np.float32)
        inputs = [_as_text(text) for text in texts]
        return self._unit(self.model.encode_query(inputs, batch_size=TEXTS_AT_ONCE, show_progress_bar=False))

    def _unit(self, vectors: np.ndarray) -> Vectors:
        if vectors.shape[1] != self.width:
            raise ValueError(f"{self.name} said that its vectors are {self.width} wide, and gave {vectors.shape[1]}")
        wide = vectors.astype(np.float32)
        return wide / np.linalg.norm(wide, axis=1, keepdims=True).clip(min=1e-12)


def _as_text(text: str) -> "str | dict[str, str]":
    """The text, marked as one where the library would take it for the address of an image or a sound and fetch that."""
    from sentence_transformers.base.modality import infer_modality

    return text if infer_modality(text) == "text" else {"text": text}


def _sample_rate(model: nn.Module) -> int | None:
    """What the first feature extractor says, wherever the processors of the library keep theirs."""
    for module in model.modules():
        processor = getattr(module, "processor", None)
        for extractor in (
            getattr(processor, "feature_extractor", None),
            getattr(processor, "audio_processor", None),
            processor,
        ):
            rate = getattr(extractor, "sampling_rate", None)
            if rate is not None:
                return int(rate)
    return None


def _in_its_precision(module: nn.Module, inputs: tuple[MutableMapping[str, Any]]) -> None:
    """Features of the library are float32; not every model takes them so when its weights are not."""
    weight = next(module.parameters(), None)
    (features,) = inputs
    for name, value in features.items():
        if weight is not None and isinstance(value, Tensor) and value.is_floating_point():
            features[name] = value.to(weight.dtype)
