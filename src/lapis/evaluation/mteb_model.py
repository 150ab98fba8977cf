"""Any `Embedder` inside mteb (arXiv 2602.16008 for its audio benchmark, MAEB), so that it runs mteb's tasks unchanged.

Sound is read by `lapis.audio` from the bytes that a data set holds, as our own protocols read it: the same resampling,
and neither torchcodec nor torchaudio is needed. mteb keeps results by a model's name and revision, so the revision
says which weights they are of.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from lapis import __version__, audio
from lapis.evaluation.embeddings import embed_texts
from lapis.model import Embedder, JointModel
from lapis.shapes import Vectors, Waveform

MODALITIES = ("audio", "text")


class MtebModel:
    """An embedder as mteb's `EncoderProtocol` asks for it: `mteb.evaluate(MtebModel(model, name=...), tasks)`."""

    def __init__(
        self, embedder: Embedder, *, name: str, languages: Sequence[str] | None = None, **further: Any
    ) -> None:
        """Wrap a model.

        Args:
            embedder: the model.
            name: `organisation/model`, as mteb files its results.
            languages: that it was trained for, as FLORES-200 codes; None where that is not known.
            further: other fields of mteb's `ModelMeta`, and others for those that are filled in here.

        Raises:
            ValueError: mteb does not take the name, a language or a field.
        """
        self.embedder = embedder
        self.sampling_rate = embedder.sample_rate
        self.mteb_model_meta = model_meta(embedder, name=name, languages=languages, **further)

    def encode(
        self, inputs: Any, *, task_metadata: Any, hf_split: str, hf_subset: str, prompt_type: Any = None, **kwargs: Any
    ) -> Vectors:
        """Vectors of the rows of mteb's loader; of a row with sound and text the mean of both, of unit length.

        An empty text says nothing: its vector is zero, as near to everything as to anything else.

        Raises:
            ValueError: the rows have neither sound nor text, a sound cannot be read, a vector is not finite, or the
                vectors are wanted in another precision.
        """
        if kwargs.get("precision") not in (None, "float32"):
            raise ValueError(f"precision must be float32, got {kwargs['precision']!r}: the vectors are what they are")
        there = [name for name in MODALITIES if name in inputs.dataset.column_names]
        if not there:
            raise ValueError(f"expected a column of {' or '.join(MODALITIES)}, got {inputs.dataset.column_names}")
        progress = kwargs.get("show_progress_bar", False)
        vectors = [self._sounds(inputs, progress) if name == "audio" else self._texts(inputs) for name in there]
        for name, of in zip(there, vectors):
            if not (finite := np.isfinite(of).all(axis=1)).all():
                raise ValueError(f"the vector of {name} {int(np.argmin(finite))} is not finite")
        if len(vectors) == 1:
            return vectors[0]
        both = np.sum(vectors, axis=0)
        return both / np.maximum(np.linalg.norm(both, axis=1, keepdims=True), np.finfo(np.float32).tiny)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of all pairs, as mteb computes them."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of rows that stand beside each other, as mteb computes them."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)

    def _sounds(self, inputs: Any, progress: bool) -> Vectors:
        from torch.utils.data import DataLoader
        from tqdm.auto import tqdm

        from datasets import Audio

        rows = inputs.dataset.with_format(None).select_columns(["audio"])
        if isinstance(rows.features["audio"], Audio):
            rows = rows.cast_column("audio", Audio(decode=False))
        loader = DataLoader(
            rows, batch_size=inputs.batch_size, collate_fn=Reader(self.sampling_rate), num_workers=inputs.num_workers
        )
        return np.concatenate(
            [
                np.zeros((0, self.embedder.width), np.float32),
                *(self.embedder.embed_audio(waveforms) for waveforms in tqdm(loader, disable=not progress)),
            ]
        )

    def _texts(self, inputs: Any) -> Vectors:
        texts = list(inputs.dataset.with_format(None)["text"])
        said = np.array([bool(text.strip()) for text in texts], dtype=bool)
        vectors = np.zeros((len(texts), self.embedder.width), np.float32)
        vectors[said] = embed_texts(self.embedder, texts=[text for text in texts if text.strip()])
        return vectors


@dataclass(frozen=True)
class Reader:
    """Rows of a data set to clips at one sample rate; runs in the loader's processes."""

    sample_rate: int

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> list[Waveform]:
        """The sound of each row: the bytes of a file, its path, or samples of shape (samples) or (channels, samples).

        Raises:
            ValueError: a sound is missing or cannot be read.
        """
        return [self._read(row["audio"]) for row in rows]

    def _read(self, sound: Any) -> Waveform:
        if sound is None:
            raise ValueError("a row has no sound where its task asks for one")
        if isinstance(sound, Mapping) and "bytes" in sound:
            return audio.read(sound["bytes"] or sound["path"], sample_rate=self.sample_rate)
        samples = np.asarray(sound["array"])
        return audio.read(samples.T, sample_rate=self.sample_rate, array_rate=int(sound["sampling_rate"]))


def model_meta(embedder: Embedder, *, name: str, languages: Sequence[str] | None = None, **further: Any) -> Any:
    """What mteb files beside a model's results: its `ModelMeta`.

    The revision is 40 digits of the identity's digest, so that results of other weights under one name are never taken
    for these; the sample rate has no field there and is in the digest.

    Args:
        embedder: the model.
        name: `organisation/model`.
        languages: that it was trained for, as FLORES-200 codes; None where that is not known.
        further: other fields (`license`, `training_datasets`, `reference`, `loader`...), and others for those given.

    Raises:
        ValueError: mteb does not take the name, a language or a field.
    """
    from mteb.models.model_meta import ModelMeta

    told = f"{embedder.identity}\0{embedder.sample_rate}\0{embedder.width}\0{__version__}"
    hears_only = isinstance(embedder, JointModel) and embedder.text_encoder is None
    size = sum(weight.numel() for weight in embedder.parameters()) if isinstance(embedder, nn.Module) else None
    known = {
        "loader": None,
        "revision": hashlib.sha256(told.encode()).hexdigest()[:40],
        "release_date": None,
        "languages": None if languages is None else [language.replace("_", "-") for language in languages],
        "modalities": ["audio"] if hears_only else ["audio", "text"],
        "n_parameters": size,
        "memory_usage_mb": None,
        "max_tokens": None,
        "embed_dim": embedder.width,
        "license": None,
        "open_weights": None,
        "public_training_code": None,
        "public_training_data": None,
        "framework": ["PyTorch"],
        "similarity_fn_name": "cosine",
        "use_instructions": False,
        "training_datasets": None,
    }
    return ModelMeta(name=name, **(known | further))
