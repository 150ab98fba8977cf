"""Words to numbers and back for a decoder: the text tower's own tokenizer, or bytes where it has none."""

from collections.abc import Sequence
from dataclasses import dataclass

from lapis.model import JointModel
from lapis.text_encoders.huggingface import HuggingFace


@dataclass(frozen=True)
class Bytes:
    """The bytes of UTF-8: any text of any language, with nothing to fetch.

    `size` numbers, two of which, `start` and `end`, stand before and after a text.
    """

    size: int = 258
    start: int = 256
    end: int = 257

    def encode(self, texts: Sequence[str], *, max_tokens: int) -> list[list[int]]:
        """A number a byte, at most so many of each text, without start and end."""
        return [list(text.encode())[:max_tokens] for text in texts]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text; bytes that are none, as of a letter cut in two, become the replacement character."""
        return bytes(token for token in tokens if token < 256).decode(errors="replace")


class OfTower:
    """The tokenizer of a Hugging Face text tower, read when the first text needs it."""

    def __init__(self, tower: HuggingFace) -> None:
        self._tower = tower
        # What the tower was built for: more than the tokenizer has where the table was rounded up.
        self.size: int = tower.encoder.config.vocab_size

    @property
    def start(self) -> int:
        """The tower's first special token ([CLS] in ModernBERT)."""
        return self._special("cls_token_id", "bos_token_id")

    @property
    def end(self) -> int:
        """The tower's last special token ([SEP] in ModernBERT)."""
        return self._special("sep_token_id", "eos_token_id")

    def _special(self, *names: str) -> int:
        found = [getattr(self._tower.tokenizer, name) for name in names]
        known = [token for token in found if token is not None]
        if not known:
            raise ValueError(f"{self._tower.config.name}: expected a tokenizer with {' or '.join(names)}, it has none")
        return known[0]

    def encode(self, texts: Sequence[str], *, max_tokens: int) -> list[list[int]]:
        """The tokenizer's numbers, at most so many of each text, without start and end.

        Raises:
            ValueError: a number is beyond the tower's table.
        """
        rows = self._tower.tokenizer(
            list(texts), add_special_tokens=False, truncation=True, max_length=max_tokens, return_attention_mask=False
        )["input_ids"]
        if (highest := max((max(row, default=0) for row in rows), default=0)) >= self.size:
            raise ValueError(f"{self._tower.config.name}: token {highest} is beyond the tower's {self.size}")
        return rows

    def decode(self, tokens: Sequence[int]) -> str:
        """The tokenizer's text."""
        return self._tower.tokenizer.decode(list(tokens), skip_special_tokens=True).strip()


Vocabulary = Bytes | OfTower
"""What turns texts to numbers from 0 to `size` and back."""


def vocabulary_of(model: JointModel) -> Vocabulary:
    """The vocabulary that a model's captions are written in."""
    return OfTower(model.text_encoder) if isinstance(model.text_encoder, HuggingFace) else Bytes()
