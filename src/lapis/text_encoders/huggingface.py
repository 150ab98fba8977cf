"""Any Hugging Face text encoder, by name or by path: trainable, its pooling named, padding kept inside this file.

Tokenizer and architecture come from the hub or a folder; neither is fetched before a text needs it where the caller
gives the architecture himself, as checkpoints do that bring the weights.
"""

import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lapis.layers.pooling import AttentionPooling
from lapis.ragged import Ragged

TOKENIZER_FOLDER = "text"
ROWS_AT_ONCE = 4096


class HuggingFace(nn.Module):
    """Texts to one vector each, through `AutoModel` and `AutoTokenizer`."""

    @dataclass(frozen=True)
    class Config:
        """Which model, and how its tokens become one vector.

        `pooling`: the mean of the real tokens, the first token, or attention pooling with a learned probe (SLAP).
        `fresh` builds the architecture without its trained weights. `architecture` is the model's configuration by
        value (`model_type` and the rest), where it is not to be asked of the hub; it goes with `fresh`.
        """

        name: str
        revision: str | None = None
        pooling: Literal["mean", "first", "attention"] = "mean"
        max_tokens: int = 128
        trainable: bool = True
        fresh: bool = False
        architecture: Mapping[str, Any] = field(default_factory=dict)

        def located_in(self, folder: Path) -> "HuggingFace.Config":
            """The same, with the tokenizer's name read as a path below `folder`."""
            return replace(self, name=str(folder / self.name))

        def build(self) -> "HuggingFace":
            """The encoder, its weights read from the hub's cache or from the folder."""
            return HuggingFace(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        transformers = _import_transformers()
        self.config = config
        if config.architecture and not config.fresh:
            raise ValueError(f"{config.name}: an architecture by value has no trained weights; it goes with fresh=True")
        if config.fresh:
            # Not on the meta device: the library keeps tables beside the weights that no checkpoint brings.
            with torch.device("cpu"):
                self.encoder = transformers.AutoModel.from_config(self._architecture(), trust_remote_code=False)
        else:
            self.encoder = transformers.AutoModel.from_pretrained(
                config.name, revision=config.revision, use_safetensors=True, trust_remote_code=False
            )
        self.encoder.requires_grad_(config.trainable)
        self.width: int = self.encoder.config.hidden_size
        self.pooling: AttentionPooling | None = None
        if config.pooling == "attention":
            heads = self.encoder.config.num_attention_heads
            self.pooling = AttentionPooling(self.width, heads=heads, hidden=4 * self.width)

    def _architecture(self) -> Any:
        transformers = _import_transformers()
        if not self.config.architecture:
            return transformers.AutoConfig.from_pretrained(
                self.config.name, revision=self.config.revision, trust_remote_code=False
            )
        values = dict(self.config.architecture)
        return transformers.AutoConfig.for_model(values.pop("model_type"), **values)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the model's name, read when first asked for.

        Raises:
            ValueError: it is not there, and cannot be fetched.
        """
        return read_tokenizer(self.config)

    def save_assets(self, folder: Path) -> "HuggingFace.Config":
        """Put the tokenizer into `folder`; returns the config that finds it there and needs no hub."""
        self.tokenizer.save_pretrained(folder / TOKENIZER_FOLDER)
        architecture = self.encoder.config.to_diff_dict()
        return replace(self.config, name=TOKENIZER_FOLDER, revision=None, fresh=True, architecture=architecture)

    def train(self, mode: bool = True) -> "HuggingFace":
        """As for any module; but an encoder that is not trained never drops anything out."""
        super().train(mode)
        self.encoder.train(mode and self.config.trainable)
        return self

    @property
    def identity(self) -> str:
        """Names the architecture and what becomes of the tokens; the weights are the model's to name.

        Not where the tokenizer lies: a saved model is the same wherever its folder is.
        """
        return f"{self.encoder.config.model_type}:{self.config.pooling}:{self.config.max_tokens}"

    def forward(self, texts: Sequence[str]) -> Float[Tensor, "texts width"]:
        """One vector a text. Texts longer than `max_tokens` are cut there, as the tokenizer does."""
        ids = self.tokenizer(list(texts), truncation=True, max_length=self.config.max_tokens)["input_ids"]
        device = self.encoder.device
        return self.encode(Ragged.pack([torch.tensor(row, device=device) for row in ids]))

    def encode(self, ids: Ragged) -> Float[Tensor, "texts width"]:
        """One vector a text from its token ids, the special tokens among them."""
        hidden: list[Tensor] = [torch.empty(0)] * len(ids)
        with torch.set_grad_enabled(self.config.trainable and torch.is_grad_enabled()):
            for texts, together, mask in self._batches(ids):
                rows = self.encoder(input_ids=together, attention_mask=mask).last_hidden_state
                for text, row in zip(texts, rows, strict=True):
                    hidden[text] = row[: ids.lengths[text]]
        return self._pool(Ragged.pack(hidden))

    def _batches(self, ids: Ragged) -> Iterator[tuple[list[int], Tensor, Tensor]]:
        """Numbers, ids and mask of texts that go through together.

        Where gradients are wanted all texts go at once, padded. Otherwise texts of one length at a time: nothing is
        computed for padding, and no text can feel its neighbours.
        """
        items = ids.split()
        if torch.is_grad_enabled():
            groups = [list(range(len(ids)))]
        else:
            order = sorted(range(len(ids)), key=ids.lengths.__getitem__)
            groups = [
                together
                for length, texts in itertools.groupby(order, key=ids.lengths.__getitem__)
                for together in _slices(list(texts), size=max(1, ROWS_AT_ONCE // max(1, length)))
            ]
        for texts in groups:
            together = nn.utils.rnn.pad_sequence([items[text] for text in texts], batch_first=True)
            lengths = torch.tensor([ids.lengths[text] for text in texts], device=together.device)
            yield texts, together, (torch.arange(together.shape[1], device=together.device) < lengths[:, None]).long()

    def _pool(self, tokens: Ragged) -> Float[Tensor, "texts width"]:
        if self.pooling is not None:
            return self.pooling(tokens)
        if self.config.pooling == "first":
            return tokens.rows[tokens.offsets[:-1].long()]
        return tokens.mean()


def read_tokenizer(config: HuggingFace.Config) -> Any:
    """The tokenizer that a config names.

    Raises:
        ValueError: it is not there, and cannot be fetched.
    """
    transformers = _import_transformers()
    try:
        return transformers.AutoTokenizer.from_pretrained(
            config.name, revision=config.revision, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"the tokenizer of the text tower, {config.name}, cannot be had: {reason}") from error


def _slices(items: list[int], *, size: int) -> list[list[int]]:
    return [items[begin : begin + size] for begin in range(0, len(items), size)]


def _import_transformers():  # noqa: ANN202  (the module itself)
    try:
        import transformers
    except ImportError as error:
        raise ValueError("Hugging Face text encoders need an extra: pip install 'lapis-audio[transformers]'") from error
    if not sys.stderr.isatty():
        transformers.utils.logging.disable_progress_bar()
    return transformers
