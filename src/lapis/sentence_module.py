"""A saved model inside sentence-transformers: `SentenceTransformer(folder, trust_remote_code=True)`.

The folder holds no code. The flag is what the library asks for before it imports any class that is not its own, even
one of an installed package; `sentence_transformer` opens a folder without it. Importing this file needs the library.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modality import InputFormatter
from sentence_transformers.base.modules import InputModule

from lapis import audio, hub, saved
from lapis.model import JointModel
from lapis.shapes import Waveform


class LapisModule(InputModule):
    """A joint model as the only module of a `SentenceTransformer`, with the vectors of `embed_audio` and `embed_text`.

    For use, not for training: no gradient passes.
    """

    def __init__(self, model: JointModel, *, licence: str = "", source: str = "") -> None:
        super().__init__()
        self.model = model
        self.licence = licence
        self.source = source
        self.formatter = InputFormatter(model_type="lapis", supported_modalities=self.modalities)

    @property
    def modalities(self) -> list[Any]:
        """Sounds, and texts where the model has a tower for them."""
        return ["text", "audio"] if self.model.text_encoder is not None else ["audio"]

    def get_embedding_dimension(self) -> int:
        """Of the vectors."""
        return self.model.width

    def get_config_dict(self) -> dict[str, Any]:
        """What the library shows of a module."""
        return {"width": self.model.width, "sample_rate": self.model.sample_rate}

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Texts as they are, after the prompt; sounds as waveforms at the model's rate.

        Args:
            inputs: all of one kind. Sounds are paths, `{"array", "sampling_rate"}`, decoders of torchcodec, or arrays
                at the model's own rate; an array of two axes is (channels, samples), as everywhere in the library.
            prompt: put before every text.
            kwargs: what else the library says of a call (`task`); it decides nothing here.

        Raises:
            ValueError: the inputs are of several kinds, or a sound cannot be read.
        """
        parsed = [self.formatter.parse_inputs([item]) for item in inputs]
        kinds = {kind for kind, _, _ in parsed}
        if not kinds <= set(self.modalities) or len(kinds) > 1:
            raise ValueError(f"expected inputs of one kind out of {self.modalities}, got {sorted(map(str, kinds))}")
        values = [value for kind, of_kind, _ in parsed for value in of_kind[str(kind)]]
        if kinds == {"audio"}:
            rates = [extra["audio"].get("sampling_rate", self.model.sample_rate) for _, _, extra in parsed]
            return {"modality": "audio", "waveforms": [self._waveform(*each) for each in zip(values, rates)]}
        return {"modality": "text", "texts": [(prompt or "") + text for text in values]}

    def _waveform(self, source: Any, sample_rate: int) -> Waveform:
        if isinstance(source, str | Path):
            return audio.read(source, sample_rate=self.model.sample_rate)
        array = np.asarray(source.cpu() if isinstance(source, torch.Tensor) else source)
        return audio.read(array.T, sample_rate=self.model.sample_rate, array_rate=int(sample_rate))

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `sentence_embedding`, of shape (items, width), to what `preprocess` made."""
        if features["modality"] == "audio":
            vectors = self.model.embed_audio(features["waveforms"])
        else:
            vectors = self.model.embed_text(features["texts"])
        features["sentence_embedding"] = torch.from_numpy(vectors).to(self.model.device)
        return features

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """As Lapis saves a model; weights are always safetensors."""
        saved.save(self.model, output_path, licence=self.licence, source=self.source)

    @classmethod
    def load(  # pyright: ignore[reportIncompatibleMethodOverride]  (the library calls it by keyword)
        cls, model_name_or_path: str, subfolder: str = "", **kwargs: Any
    ) -> "LapisModule":
        """The model of a folder that Lapis saved, here or on the hub; called by the library.

        Raises:
            ValueError: it is not such a folder, or an option is asked for that means nothing here.
        """
        model_kwargs = dict(kwargs.get("model_kwargs") or {})
        dtypes = [model_kwargs.pop(name, None) for name in ("dtype", "torch_dtype")]
        wanted = next((dtype for dtype in dtypes if dtype not in (None, "auto")), None)
        others = [*model_kwargs, *(kwargs.get("processor_kwargs") or {}), *(kwargs.get("config_kwargs") or {})]
        if kwargs.get("backend", "torch") != "torch":
            others.append(f"backend {kwargs['backend']}")
        if others:
            raise ValueError(f"{model_name_or_path} is a model of Lapis, for which {', '.join(others)} mean nothing")
        places = {name: kwargs.get(name) for name in ("token", "cache_folder", "revision")}
        local_only = bool(kwargs.get("local_files_only"))
        path = cls.load_dir_path(model_name_or_path, subfolder=subfolder, local_files_only=local_only, **places)
        if path is None:
            raise ValueError(
                f"{model_name_or_path}: expected the folder of a model that Lapis saved, here or on the hub"
            )
        description = saved.describe(path)
        model = cast(JointModel, hub.load(path, dtype=wanted))  # `describe` refuses any other
        return cls(model, licence=description.licence, source=description.source)


def sentence_transformer(folder: Path | str, *, device: str | None = None) -> SentenceTransformer:
    """A saved model as a `SentenceTransformer`, without the flag for foreign code; prompts in the folder are not read.

    Args:
        folder: that Lapis saved.
        device: where it shall work; the library chooses unless told.

    Raises:
        ValueError: it is not the folder of a saved model.
    """
    return SentenceTransformer(modules=[LapisModule.load(str(folder))], device=device, similarity_fn_name="cosine")
