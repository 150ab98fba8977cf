"""What runs on the machines of a Ray cluster: a model, and how a lease of clips becomes rows with it."""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lapis.data.storage import StorageError
from lapis.model import Embedder
from lapis.search.embedding import Embedding
from lapis.search.leases import Lease
from lapis.search.rows import Row, table_of

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Told:
    """What a worker says of its model."""

    identity: str
    width: int
    sample_rate: int


@dataclass(frozen=True)
class Answer:
    """The rows of the first clips of a lease, and why there are not more, if there are not."""

    table: "pa.Table"
    failure: str = ""
    store_is_away: bool = False


@dataclass
class Worker:
    """What runs on the cluster: a model, and how sounds become rows with it."""

    make: Callable[[], Embedder]
    options: dict[str, Any]
    folder: Path
    """By which relative paths are meant."""
    embedding: Embedding | None = None

    def load(self) -> Told:
        """Make the model; not in the constructor, so that what is wrong with it is told as what it is."""
        if not self.folder.is_dir():
            raise ValueError(f"{self.folder}: {_machine()} has no such folder: start from one that all machines have")
        os.chdir(self.folder)
        embedder = self.make()
        self.embedding = Embedding(embedder, **self.options)
        return Told(embedder.identity, embedder.width, embedder.sample_rate)

    def embed(self, lease: Lease, seen: Path | None) -> Answer:
        """The rows of a lease, as far as it comes; `seen` is a file in it that the driver sees."""
        embedding = self._loaded()
        if seen is not None and not seen.exists():  # Else all this machine is given would become rows of errors.
            raise ValueError(f"{seen}: {_machine()} does not see this file, which the driver sees: mount it there too")
        with closing(embedding.rows(iter(lease.clips), others=lease.others)) as rows:
            return self._answer(rows)

    def embed_carefully(self, lease: Lease) -> Answer:
        """The row of a lease of one clip, which may have ended workers."""
        embedding = self._loaded()
        return self._answer(embedding.careful_row(clip, others=lease.others) for clip in lease.clips)

    def _loaded(self) -> Embedding:
        assert self.embedding is not None
        return self.embedding

    def _answer(self, rows: Iterator[Row]) -> Answer:
        done: list[Row] = []
        failure, store_is_away = "", False
        try:
            done.extend(rows)
        except Exception as error:  # It goes to the driver, with the rows that were made before it.
            store_is_away = isinstance(error, StorageError)
            failure = str(error) if store_is_away else f"{type(error).__name__}: {error}"
        return Answer(table_of(done, width=self._loaded().embedder.width), failure, store_is_away)


def _machine() -> str:
    return f"the machine {platform.node()}"
