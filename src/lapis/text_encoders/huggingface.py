"""Any Hugging Face text encoder, by name or by path: trainable, its pooling named, padding kept inside this file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lapis.layers.pooling import AttentionPooling
from lapis.ragged import Ragged


class HuggingFace(nn.Module):
    """Texts to one vector each, through `AutoModel` and `AutoTokenizer`."""

    @dataclass(frozen=True)
    class Config:
        """Which model, and how its tokens become one vector.

        `pooling`: the mean of the real tokens, the first token, or attention pooling with a learned probe (SLAP).
        `fresh` builds the architecture without its trained weights.
        """

        name: str
        revision: str | None = None
        pooling: Literal["mean", "first", "attention"] = "mean"
        max_tokens: int = 128
        trainable: bool = True
        fresh: bool = False

        def build(self) -> "HuggingFace":
            """The encoder, its weights read from the hub's cache or from the folder."""
            return HuggingFace(self)

    def __init__(self, config: Config) -> None:
        super().__init__()
        transformers = _import_transformers()
        self.config = config
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(config.name, revision=config.revision)
        if config.fresh:
            architecture = transformers.AutoConfig.from_pretrained(config.name, revision=config.revision)
            self.encoder = transformers.AutoModel.from_config(architecture)
        else:
            self.encoder = transformers.AutoModel.from_pretrained(
                config.name, revision=config.revision, use_safetensors=True
            )
        self.encoder.requires_grad_(config.trainable)
        self.width: int = self.encoder.config.hidden_size
        self.pooling: AttentionPooling | None = None
        if config.pooling == "attention":
            heads = self.encoder.config.num_attention_heads
            self.pooling = AttentionPooling(self.width, heads=heads, hidden=4 * self.width)

    def train(self, mode: bool = True) -> "HuggingFace":
        """As for any module; but an encoder that is not trained never drops anything out."""
        super().train(mode)
        self.encoder.train(mode and self.config.trainable)
        return self

    @property
    def identity(self) -> str:
        """Names the architecture and what becomes of the tokens; the weights are the model's to name."""
        return f"{self.config.name}:{self.config.pooling}:{self.config.max_tokens}"

    def forward(self, texts: Sequence[str]) -> Float[Tensor, "texts width"]:
        """One vector a text. Texts longer than `max_tokens` are cut there, as the tokenizer does."""
        encoded = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.config.max_tokens, return_tensors="pt"
        ).to(self.encoder.device)
        with torch.set_grad_enabled(self.config.trainable and torch.is_grad_enabled()):
            hidden = self.encoder(**encoded).last_hidden_state
        mask = encoded["attention_mask"].bool()
        tokens = Ragged(hidden[mask], tuple(mask.sum(1).tolist()))
        if self.pooling is not None:
            return self.pooling(tokens)
        if self.config.pooling == "first":
            return tokens.rows[tokens.offsets[:-1].long()]
        return tokens.mean()


def _import_transformers():  # noqa: ANN202  (the module itself)
    try:
        import transformers
    except ImportError as error:
        raise ValueError("Hugging Face text encoders need an extra: pip install 'lapis-audio[transformers]'") from error
    return transformers
