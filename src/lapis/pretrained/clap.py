"""CLAP of LAION (arXiv 2211.06687) as transformers keeps it: deterministic, for any duration, the same in any batch.

The library crops sound longer than the model's window at random, and for models with fusion it marks a clip of every
batch, at random too, as longer than it is. Here nothing is random: longer sound is cut into equal pieces that fit the
window, the pieces' vectors are averaged by their durations, and no piece is ever marked. Sound that fits gets what the
original code gives in evaluation.
"""

import contextlib
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from lapis.model import check_texts, check_waveforms
from lapis.pretrained.fetch import snapshot
from lapis.pretrained.frozen import Frozen
from lapis.pretrained.official import Official
from lapis.shapes import Vectors, Waveform, Waveforms

if TYPE_CHECKING:
    from transformers import ClapModel, ClapProcessor

PIECES_AT_ONCE = 16
TEXTS_AT_ONCE = 64


def _official(name: str, *, warning: str | None = None) -> Official:
    return Official(licence="Apache-2.0", homepage=f"https://huggingface.co/{name}", warning=warning)


OFFICIAL: Mapping[str, Official] = {
    "laion/clap-htsat-unfused": _official("laion/clap-htsat-unfused"),
    "laion/clap-htsat-fused": _official("laion/clap-htsat-fused"),
    "laion/larger_clap_general": _official("laion/larger_clap_general"),
    "laion/larger_clap_music": _official(
        "laion/larger_clap_music",
        warning="the text tower of this checkpoint has collapsed: unrelated texts get nearly one vector (mean cosine "
        "0.999), and searches and zero-shot labels are at chance (embeddings-benchmark/mteb issue 5069). Take "
        "laion/larger_clap_general or laion/larger_clap_music_and_speech",
    ),
    "laion/larger_clap_music_and_speech": _official("laion/larger_clap_music_and_speech"),
}


def recognises_folder(folder: Path) -> bool:
    """Whether a folder holds a CLAP in transformers' layout; one with a modules.json is sentence-transformers'.

    Raises:
        ValueError: its config.json is not JSON.
    """
    path = folder / "config.json"
    if not path.is_file() or (folder / "modules.json").exists():
        return False
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    return isinstance(config, dict) and config.get("model_type") == "clap"


def from_folder(folder: Path) -> "Clap":
    """The model of a folder, for the hub."""
    return Clap.from_folder(folder)


class Clap(Frozen):
    """A `ClapModel` of transformers and its processor: an `Embedder`."""

    def __init__(self, model: "ClapModel", processor: "ClapProcessor") -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.tokenizer: Any = processor.tokenizer
        self.feature_extractor: Any = processor.feature_extractor
        self.sample_rate = int(self.feature_extractor.sampling_rate)
        self.width = int(model.config.projection_dim)
        self.window_samples = int(self.feature_extractor.nb_max_samples)
        text: Any = model.config.text_config
        # RoBERTa numbers positions from the padding token's number plus one.
        self.max_tokens = min(self.tokenizer.model_max_length, text.max_position_embeddings - text.pad_token_id - 1)

    @classmethod
    def from_folder(cls, folder_or_hub_name: str | Path, *, revision: str | None = None) -> "Clap":
        """The model of a folder, or of a name on the hub; weights in float32, safetensors where there are any.

        A `pytorch_model.bin` is read by `torch.load(weights_only=True)`, which runs no code.

        Raises:
            ValueError: there is no such model, it is not a CLAP, or its files are damaged or incomplete.
        """
        try:
            import transformers
        except ImportError as error:
            raise ValueError("CLAP needs an extra: pip install 'lapis-audio[transformers]'") from error
        folder = Path(folder_or_hub_name)
        if not folder.is_dir():
            folder = snapshot(str(folder_or_hub_name), revision=revision)
        if not recognises_folder(folder):
            raise ValueError(f"{folder_or_hub_name}: expected a CLAP, with a config.json of model_type 'clap'")
        try:
            if not sys.stderr.isatty():
                transformers.utils.logging.disable_progress_bar()
            processor = transformers.ClapProcessor.from_pretrained(folder, trust_remote_code=False)
            # Annotated, because the library's own types know only the return without loading information.
            model_and_loading: Any = transformers.ClapModel.from_pretrained(
                folder,
                use_safetensors=_has_safetensors(folder),
                dtype=torch.float32,
                output_loading_info=True,
                trust_remote_code=False,
            )
        # Which of these it is depends on the file; the reader's own words stay in the message.
        except (OSError, ValueError, RuntimeError, UnpicklingError, SafetensorError) as error:
            raise ValueError(f"{folder_or_hub_name} cannot be read as a CLAP: {error}") from error
        model, loaded = model_and_loading
        # Tables of numbers that follow from the sizes may be left out of a file; weights may not.
        state = model.state_dict()
        missing = sorted(name for name in loaded["missing_keys"] if state[name].is_floating_point())
        if missing:
            raise ValueError(f"{folder_or_hub_name} lacks {len(missing)} of CLAP's tensors, first {missing[:5]}")
        return cls(model, processor)

    @property
    def identity(self) -> str:
        """How sound is padded and filtered, and a digest of the weights; the same wherever the files lie."""
        return f"clap:{self.feature_extractor.truncation}:{self.feature_extractor.padding}+{self.digest}"

    @torch.inference_mode()
    def embed_audio(self, waveforms: Waveforms) -> Vectors:
        """Unit vectors of mono clips at `sample_rate`.

        Raises:
            ValueError: a clip has no samples, or one that is not a finite number.
        """
        check_waveforms(waveforms)
        if not len(waveforms):
            return np.zeros((0, self.width), np.float32)
        clips = [np.array_split(waveform, -(-len(waveform) // self.window_samples)) for waveform in waveforms]
        pieces = [piece for clip in clips for piece in clip]
        of_pieces = np.concatenate([self._embed_pieces(some) for some in _slices(pieces, size=PIECES_AT_ONCE)])
        lengths = np.array([len(piece) for piece in pieces], dtype=np.float64)
        first_pieces = np.cumsum([0] + [len(clip) for clip in clips[:-1]])
        of_clips = np.add.reduceat(of_pieces * lengths[:, None], first_pieces)
        return (of_clips / np.linalg.norm(of_clips, axis=1, keepdims=True)).astype(np.float32)

    def _embed_pieces(self, pieces: Sequence[Waveform]) -> Vectors:
        with _numpy_random_state_kept():
            features = self.feature_extractor(pieces, sampling_rate=self.sample_rate, return_tensors="pt")
        weight = self.model.logit_scale_a
        spectrograms = features["input_features"].to(weight.device, weight.dtype)
        is_longer = torch.zeros(len(pieces), 1, dtype=torch.bool, device=weight.device)
        answer: Any = self.model.get_audio_features(input_features=spectrograms, is_longer=is_longer)
        return _numpy(answer.pooler_output)

    @torch.inference_mode()
    def embed_text(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of texts; one longer than `max_tokens` is cut there, since the model has no further positions.

        Raises:
            ValueError: a text is empty.
        """
        check_texts(texts)
        vectors = np.zeros((len(texts), self.width), np.float32)
        if not len(texts):
            return vectors
        ids = self.tokenizer(list(texts), truncation=True, max_length=self.max_tokens)["input_ids"]
        # Only texts of one length go together: nothing is padded, and no text can feel its neighbours.
        by_length: dict[int, list[int]] = defaultdict(list)
        for number, tokens in enumerate(ids):
            by_length[len(tokens)].append(number)
        for numbers in by_length.values():
            for some in _slices(numbers, size=TEXTS_AT_ONCE):
                together = torch.tensor([ids[number] for number in some], device=self.model.device)
                answer: Any = self.model.get_text_features(input_ids=together, attention_mask=torch.ones_like(together))
                vectors[some] = _numpy(answer.pooler_output)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _numpy(vectors: Tensor) -> Vectors:
    return vectors.float().cpu().numpy()


def _slices(items: list[Any], *, size: int) -> Iterator[list[Any]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


@contextlib.contextmanager
def _numpy_random_state_kept() -> Iterator[None]:
    """With fusion the extractor draws the clip to mark from numpy's global state, which is the caller's."""
    state = np.random.get_state()
    try:
        yield
    finally:
        np.random.set_state(state)


def _has_safetensors(folder: Path) -> bool:
    return any(folder.glob("model*.safetensors"))
