"""An exported model on ONNX Runtime: an `Embedder` like any other."""

import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lapis.calibration import Calibration
from lapis.doctor import Golden, ModelWarning
from lapis.model import BATCH_SECONDS, check_texts, check_waveforms
from lapis.onnx import folder as folders
from lapis.onnx.folder import AUDIO_NAME, TEXT_NAME, Description
from lapis.onnx.texts import SENTENCE_INPUT, TOKEN_INPUTS, padded, token_numbers
from lapis.onnx.towers import AUDIO_INPUTS
from lapis.shapes import Vectors, Waveforms
from lapis.text_encoders.sentence import Sentence

LEAST_FILLED = 0.8
"""The share of the longest clip of a batch that each of its clips has: what completes them is computed, too."""
TOKENS_AT_ONCE = 4096
GOLDEN_NAME = "golden.safetensors"


class OnnxEmbedder:
    """Unit vectors from the graphs of a folder.

    `identity` is that of the model it was made from where the export is in float32, whose vectors are the model's to
    rounding; another precision adds its name, so that an index of one is not searched by the other.
    """

    def __init__(
        self, folder: Path, description: Description, *, device: str = "cpu", threads: int | None = None
    ) -> None:
        self.folder, self.description = folder, description
        self.width = description.model.width
        self.sample_rate = description.sample_rate
        self.calibration: Calibration | None = None  # set by `lapis.load`
        suffix = "" if description.precision == "float32" else f"+{description.precision}"
        self.identity = description.identity + suffix
        self._options = (device, threads or torch.get_num_threads())
        self._audio = _session(folder / AUDIO_NAME, *self._options)

    @property
    def device(self) -> str:
        """Where it works: cpu or cuda, as ONNX Runtime says, not as was asked for."""
        return "cuda" if "CUDAExecutionProvider" in self._audio.get_providers() else "cpu"

    @property
    def texts_are_elsewhere(self) -> bool:
        """Whether the text tower's weights are those of a frozen model, loaded when first asked."""
        return isinstance(self.description.model.text, Sentence.Config)

    def embed_audio(self, waveforms: Waveforms) -> Vectors:
        """Unit vectors of mono clips at `sample_rate`.

        Raises:
            ValueError: see `check_waveforms`.
        """
        check_waveforms(waveforms)
        if not len(waveforms):
            return np.zeros((0, self.width), np.float32)
        pieces = [self._pieces(waveform) for waveform in waveforms]
        clips = [np.asarray(piece, np.float32) for of_clip in pieces for piece in of_clip]
        vectors = np.empty((len(clips), self.width), np.float32)
        for together in _groups([len(clip) for clip in clips], round(BATCH_SECONDS * self.sample_rate)):
            vectors[together] = self.embed_together([clips[clip] for clip in together])
        begins = np.cumsum([0, *map(len, pieces)])
        means = np.stack([vectors[begin:end].mean(0) for begin, end in pairwise(begins)])
        return _unit(means)

    def embed_together(self, clips: Sequence[np.ndarray]) -> Vectors:
        """Unit vectors of clips in one run of the graph, completed to the longest."""
        lengths = np.array([len(clip) for clip in clips], np.int64)
        waveforms = np.zeros((len(clips), lengths.max()), np.float32)
        for row, clip in zip(waveforms, clips, strict=True):
            row[: len(clip)] = clip
        return self._audio.run(None, dict(zip(AUDIO_INPUTS, (waveforms, lengths), strict=True)))[0]

    def embed_text(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of texts.

        Raises:
            ValueError: a text is empty or no string, or the model hears only.
        """
        check_texts(texts)
        config = self._text_config
        if not len(texts):
            return np.zeros((0, self.width), np.float32)
        if isinstance(config, Sentence.Config):
            return self.embed_sentences(self._sentence(texts).numpy())
        return self.embed_tokens(self._tokens(texts))

    def embed_tokens(self, numbers: Sequence[Sequence[int]]) -> Vectors:
        """Unit vectors of texts that are tokens already."""
        vectors = np.empty((len(numbers), self.width), np.float32)
        for together in _groups([len(row) for row in numbers], TOKENS_AT_ONCE):
            inputs = padded([numbers[text] for text in together])
            vectors[together] = self._text.run(None, dict(zip(TOKEN_INPUTS, inputs, strict=True)))[0]
        return vectors

    def embed_sentences(self, vectors: Vectors) -> Vectors:
        """Unit vectors from those of the frozen sentence model."""
        return self._text.run(None, {SENTENCE_INPUT: vectors.astype(np.float32)})[0]

    @property
    def _text_config(self) -> Any:
        if TEXT_NAME not in self.description.files:
            raise ValueError(f"{self.folder}: this export has no text tower: it turns sounds into vectors, not texts")
        assert self.description.model.text is not None
        return self.description.model.text.located_in(self.folder)

    @cached_property
    def _text(self) -> Any:
        return _session(self.folder / TEXT_NAME, *self._options)

    @cached_property
    def _tokens(self) -> Any:
        return token_numbers(self._text_config)

    @cached_property
    def _sentence(self) -> Any:
        return self._text_config.build()

    def _pieces(self, waveform: np.ndarray) -> list[np.ndarray]:
        seconds = self.description.model.chunk_seconds
        if seconds is None:
            return [waveform]
        return np.array_split(waveform, -(-len(waveform) // round(seconds * self.sample_rate)))


def open(folder: Path | str, *, device: str = "cpu", threads: int | None = None, verify: bool = True) -> OnnxEmbedder:
    """The exported model of a folder, ready to embed.

    Where a GPU is asked for that ONNX Runtime does not have, it works on the processor and warns.

    Args:
        folder: that an export wrote.
        device: cpu, cuda or cuda:1.
        threads: that work on one graph; torch's number unless told.
        verify: compare every file with its checksum first.

    Raises:
        ValueError: the folder is not that of an export, a file is missing or another one, or ONNX Runtime is missing.
    """
    folder = Path(folder).resolve()
    description = folders.describe(folder)
    if verify:
        folders.verify(folder, description.files)
    return OnnxEmbedder(folder, description, device=device, threads=threads)


def golden(folder: Path) -> Golden:
    """What the export answered to the doctor's probes when it was made."""
    from lapis import weights

    try:
        return Golden.from_tensors(weights.read(folder / GOLDEN_NAME))
    except ValueError as error:
        raise ValueError(f"{folder / GOLDEN_NAME}: {error}") from error


def _session(path: Path, device: str, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError("an exported model needs an extra: pip install 'lapis-audio[onnx]'") from error
    kind, _, number = device.partition(":")
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"an exported model works on cpu or cuda, got {device}")
    providers: list[Any] = ["CPUExecutionProvider"]
    offered = onnxruntime.get_available_providers()
    if kind == "cuda" and "CUDAExecutionProvider" in offered:
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": int(number or 0)}))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_mem_pattern = False  # kept for every shape there was, and lengths are many
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # the library's own kinds of error share no other base
        raise ValueError(f"{path} is no graph that ONNX Runtime {onnxruntime.__version__} runs: {error}") from error
    if kind == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        warnings.warn(
            f"{path}: RUNNING ON THE PROCESSOR, NOT ON {device.upper()}: ONNX Runtime {onnxruntime.__version__} has "
            f"{', '.join(offered)}; the GPU needs the package onnxruntime-gpu in place of onnxruntime, and its CUDA",
            ModelWarning,
            stacklevel=4,
        )
    return session


def _groups(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Numbers of items of like length, that complete each other to at most so much."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    group: list[int] = []
    for item in order:
        if group and (lengths[item] * (len(group) + 1) > most or lengths[group[0]] < LEAST_FILLED * lengths[item]):
            yield group
            group = []
        group.append(item)
    yield group


def _unit(vectors: Vectors) -> Vectors:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
