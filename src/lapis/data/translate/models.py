"""A model that translates, from a folder or the hub, through transformers."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lapis.data.answers import Answer
from lapis.data.translate.options import Options
from lapis.files import sha256_of

OTHERS_SETTINGS = ("max_length", "forced_eos_token_id", "temperature", "top_p", "top_k")
"""What a checkpoint says of how to generate that has no place here: nothing is sampled, and what does not end is to be
seen not to."""
WEIGHTS = (".safetensors", ".bin", ".json", ".model", ".spm", ".txt", ".jinja")


@runtime_checkable
class Translator(Protocol):
    """What a job asks for translations. Languages are FLORES-200 codes."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """What the answers depend on, ready for JSON."""
        ...

    def check(self, *, source: str, target: str) -> None:
        """See that the model has both languages.

        Raises:
            ValueError: it has not.
        """
        ...

    def lengths(self, texts: Sequence[str], *, source: str) -> list[int]:
        """The number of tokens of each."""
        ...

    def translate(self, texts: Sequence[str], *, source: str, target: str) -> list[Answer]:
        """A translation of each; none, where the text is longer than the model takes."""
        ...


def load_translator(name: str, options: Options | None = None) -> Translator:
    """The model in a folder, or of the hub.

    Raises:
        ValueError: it is not there, or needs an extra, or the device is not there.
    """
    options = options or Options()
    try:
        import torch
        import transformers
    except ImportError as error:
        raise ValueError("translation needs an extra: pip install 'lapis-audio[transformers]'") from error
    try:
        torch.zeros(1, device=options.device).item()
    except (RuntimeError, AssertionError) as error:  # the latter from a torch without CUDA
        why = str(error).partition("\n")[0]
        raise ValueError(f"device: expected cpu, cuda or mps, got {options.device!r}: {why}") from error
    given: dict[str, Any] = {"revision": options.revision, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(name, **given)
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **given)
        kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModelForCausalLM
        model: Any = kind.from_pretrained(name, dtype=getattr(torch, options.precision), **given)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{name}: no model for translation can be had from there: {str(error).strip()}") from error
    from lapis.data.translate.language_model import LanguageModel
    from lapis.data.translate.sequence_model import SequenceModel

    for name_of in OTHERS_SETTINGS:
        setattr(model.generation_config, name_of, None)
    model = model.eval().requires_grad_(False).to(options.device)
    identity = {"model": Path(name).name if Path(name).is_dir() else name, "weights": _mark(name, config)}
    identity |= {"beams": options.beams, "precision": options.precision}
    if config.is_encoder_decoder:
        return SequenceModel(model, tokenizer, options, identity)
    return LanguageModel(model, tokenizer, options, identity | {"prompt": options.prompt})


def _mark(name: str, config: Any) -> str:
    """What changes when the weights do: a digest of the files, or the commit of the hub."""
    folder = Path(name)
    if not folder.is_dir():
        return str(getattr(config, "_commit_hash", None))
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in WEIGHTS:
            digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    return digest.hexdigest()
