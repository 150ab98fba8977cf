"""A folder of sounds as a table of vectors, one row a window of a file, kept up to date and searched.

The table is LanceDB's, in a local folder or an object store (`place.py`), with a small JSON beside it that says which
model made the vectors. A file's rows come and go in one commit, so that a crash keeps whole files; path and window are
the table's key, so that no second run and no second process leaves a row twice (`columns.py`, `updating.py`).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from lapis import audio
from lapis.data.storage import is_url
from lapis.model import Embedder
from lapis.search import approximate
from lapis.search.columns import Labels, shown
from lapis.search.filters import Filter
from lapis.search.hearing_files import FileHearing
from lapis.search.hits import Hit, IndexedFile, nothing_matches, with_probabilities
from lapis.search.neighbours import COLUMNS, Neighbours
from lapis.search.opening import Wanted, check_identity, create_or_open, open_table
from lapis.search.place import METADATA_NAME, TABLE_NAME, Metadata, Place, explained
from lapis.search.query import Query, mean_of_windows
from lapis.search.updating import IndexReport, Task, Update
from lapis.search.vector_map import STAMP_NAME, MapStamp
from lapis.search.windows_table import WindowsTable

__all__ = ["METADATA_NAME", "TABLE_NAME", "Hit", "Index", "IndexReport", "nothing_matches"]


@dataclass(frozen=True)
class Index:
    """An open index. Made by `Index.open` or `Index.create_or_open`; `table` is LanceDB's."""

    folder: Path | str
    """An address, where the index lies in an object store."""
    metadata: Metadata
    table: Any

    @classmethod
    def open(cls, folder: Path | str, *, embedder_identity: str | None = None) -> "Index":
        """Open an index, and check that it belongs to an embedder where one is named.

        Args:
            folder: of this machine, or an address such as `s3://bucket/index`.
            embedder_identity: of the model that must have made it.

        Raises:
            ValueError: there is no index, it is damaged, another model made it, or LanceDB is not installed.
        """
        return cls(Place(folder).folder, *open_table(Place(folder), embedder_identity=embedder_identity))

    @classmethod
    def create_or_open(
        cls,
        folder: Path | str,
        *,
        embedder_identity: str,
        width: int,
        window_seconds: float | None = None,
        hop_seconds: float | None = None,
        model: str = "",
        rebuild: bool = False,
    ) -> "Index":
        """Open an index, or make an empty one where none is.

        Args:
            folder: where the index lies, or an address; not the folder of the sounds.
            embedder_identity: of the model that makes the vectors.
            width: of the vectors.
            window_seconds: of sound a row; what the index has, 10 for a new one.
            hop_seconds: from one window's start to the next; what the index has, the window for a new one.
            model: where the model lies, noted in a new index.
            rebuild: throw away what is there and begin anew.

        Raises:
            ValueError: as `open`; or the index has another width, window or hop than asked for, or these make no sense.
        """
        wanted = Wanted(embedder_identity, width, window_seconds, hop_seconds, model)
        return cls(Place(folder).folder, *create_or_open(Place(folder), wanted, rebuild=rebuild))

    @property
    def model(self) -> str:
        """Where the model lies whose vectors these are.

        Raises:
            ValueError: whoever made the index did not note it.
        """
        if not self.metadata.model:
            raise ValueError(
                f"{self.folder}: the index does not tell where its model ({self.metadata.embedder_identity}) lies: "
                f"expected --model"
            )
        return self.metadata.model

    @property
    def num_windows(self) -> int:
        """The rows of the table."""
        with explained(self.folder, doing="read"):
            return self.table.count_rows()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files in the index, in order."""
        return tuple(sorted(self._windows.stamps()))

    def files(self, *, where: Filter | None = None) -> Iterator[IndexedFile]:
        """What the index says of its files, in no order, read piece by piece."""
        columns = ["path", "duration_seconds", "size", "modified", "audio_hash", "tags", "text"]
        condition = " AND ".join(filter(None, ["window = 0", where.sql() if where else None]))
        with explained(self.folder, doing="read"):
            for batch in self.table.search().where(condition).select(columns).to_batches():
                for row in batch.to_pylist():
                    yield IndexedFile(**row | {"path": Path(row["path"]), "tags": tuple(row["tags"])})

    def update(
        self,
        folder: Path | str,
        *,
        embedder: Embedder,
        labels: Mapping[Path, Labels] | None = None,
        batch_seconds: float = 60.0,
        commit_windows: int = 512,
        progress: Callable[[int, int], None] | None = None,
    ) -> IndexReport:
        """Bring the index up to date with a folder of sounds; files indexed from elsewhere are left alone.

        Long files are streamed: memory holds about `batch_seconds` of sound, and the vectors of `commit_windows`
        windows and of the file in hand. Other processes may update the same index meanwhile, with the same folder too.

        Args:
            folder: of the sounds, with all its subfolders.
            embedder: the model that made the index.
            labels: what is said of files, by full path (`labels.read_labels`).
            batch_seconds: of sound the model gets at once.
            commit_windows: write when so many rows are ready; a crash loses at most these and the file in hand.
            progress: called with the number of files done and of those that had to be read.

        Raises:
            ValueError: another model made the index, it is damaged, or the folder is not there.
        """
        self._check_embedder(embedder)
        root = Path(folder).resolve()
        if not root.is_dir():
            raise ValueError(f"expected a folder of sounds, and {folder} is not one")
        task = Task(audio.find_audio(root), root=root, labels=labels)
        return self._run(
            task, embedder=embedder, batch_seconds=batch_seconds, commit_windows=commit_windows, progress=progress
        )

    def add(
        self, paths: Iterable[Path | str], *, embedder: Embedder, labels: Mapping[Path, Labels] | None = None
    ) -> IndexReport:
        """Bring the index up to date with these files alone; one that is not there counts as failed.

        Raises:
            ValueError: another model made the index, or it is damaged.
        """
        self._check_embedder(embedder)
        found = sorted({Path(path).parent.resolve() / Path(path).name for path in paths})
        return self._run(Task(found, labels=labels), embedder=embedder)

    def remove(self, paths: Sequence[Path | str]) -> int:
        """Take files, and all files of folders, out of the index, there or not; gives how many files they were.

        An address that was imported is one file.

        Raises:
            ValueError: the index is damaged.
        """
        with self._place.claims.adding():
            found: set[Path] = set()
            addresses: set[str] = set()
            for told in paths:
                address = shown(told) if isinstance(told, Path) else told
                if is_url(address):
                    addresses |= {address} if self._windows.stamps(paths=[address]) else set()
                    continue
                path = Path(told)
                whole = path.parent.resolve() / path.name
                found |= self._windows.stamps(paths=[whole]).keys() | self._windows.stamps(below=path.resolve()).keys()
            self._windows.delete(found)
            self._windows.delete(addresses)
        return len(found) + len(addresses)

    def update_map(self, *, anew: bool = False) -> MapStamp:
        """Bring the map of the vectors (`vector_map.py`, extra `map`) up to date, or make it where there is none.

        Searches are answered by it as long as the table stays as it is, and by the table after that.

        Args:
            anew: make it in place of one that is there, however that one is.

        Returns what was measured of it.

        Raises:
            ValueError: the index has no rows, another process is writing the map, it is damaged, or usearch is not
                installed.
        """
        from lapis.search.mapping import build_map, refresh_map

        folder, table = self._place.map_folder, open_table(self._place)[1]
        with self._place.claims.adding():  # so that nobody compacts the version away that is being read
            if not anew and self.has_map:
                return refresh_map(folder, table=table).stamp
            identity = self.metadata.embedder_identity
            return build_map(folder, table=table, embedder_identity=identity, columns=COLUMNS).stamp

    @property
    def has_map(self) -> bool:
        """Whether there is a map of the vectors, of the table as it stands or as it was."""
        return (self._place.map_folder / STAMP_NAME).exists()

    def compact(
        self,
        *,
        approximately: bool = False,
        build: Callable[[Any], approximate.Approximation] = approximate.build,
    ) -> "approximate.Approximation | None":
        """Make few files of many, and bring LanceDB's indices up to date; `update` does it when it has written.

        Args:
            approximately: build the index for approximate search too (`approximate.build`), which is trained anew
                later when the table has doubled.
            build: builds it; `ray_index.build_with_ray` does it on a cluster.

        Returns what is known of the index for approximate search, if there is one.

        Raises:
            ValueError: another process is writing the index, it is damaged, or has too few rows to be trained on.
        """
        with self._place.claims.alone():
            self._windows.compact()
            with explained(self.folder, doing="written"):
                return build(self.table) if approximately else approximate.refresh(self.table)

    def search(
        self,
        vector: Float[np.ndarray, "_width"],
        *,
        limit: int = 10,
        per_file: bool = True,
        where: Filter | None = None,
        exactly: bool = False,
    ) -> list[Hit]:
        """The stretches nearest to a vector, the best first; with `per_file` only the best of each file.

        Args:
            vector: what to be near to.
            limit: how many.
            per_file: one a file.
            where: of which files.
            exactly: compare with every row, where there is a quicker way too: a map, or an approximate index.

        Raises:
            ValueError: the vector has another width, is zero or not finite; or the index is damaged.
        """
        if vector.shape != (self.metadata.width,):
            raise ValueError(f"expected a vector of width {self.metadata.width}, got shape {vector.shape}")
        norm = float(np.linalg.norm(vector))
        if not math.isfinite(norm) or norm == 0:
            raise ValueError(f"expected a finite vector that is not zero, got one of length {norm}")
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        condition = where.sql() if where else None
        return self._neighbours.best(vector / norm, limit=limit, per_file=per_file, where=condition, exactly=exactly)

    def search_text(
        self,
        text: str,
        *,
        embedder: Embedder,
        limit: int = 10,
        per_file: bool = True,
        where: Filter | None = None,
        exactly: bool = False,
    ) -> list[Hit]:
        """The stretches that sound like what a text says, with its probability where the model has a calibration.

        The order is that of the cosine either way: of one text, the probability rises with it.

        Raises:
            ValueError: the text is empty, another model made the index, or it is damaged; or the model's calibration is
                of other weights.
        """
        self._check_embedder(embedder)
        if not text.strip():
            raise ValueError("expected words to search for, got an empty text")
        vectors = embedder.embed_text([text])
        hits = self.search(vectors[0], limit=limit, per_file=per_file, where=where, exactly=exactly)
        return with_probabilities(hits, text=vectors, embedder=embedder, identity=self.metadata.embedder_identity)

    def search_like(
        self,
        source: audio.File,
        *,
        embedder: Embedder,
        limit: int = 10,
        per_file: bool = True,
        where: Filter | None = None,
        exactly: bool = False,
    ) -> list[Hit]:
        """The stretches that sound like a clip; one longer than a window is the mean of its windows' vectors.

        Raises:
            ValueError: the clip cannot be read, another model made the index, or it is damaged.
        """
        self._check_embedder(embedder)
        vector = mean_of_windows(source, embedder=embedder, window_seconds=self.metadata.window_seconds)
        return self.search(vector, limit=limit, per_file=per_file, where=where, exactly=exactly)

    def search_query(
        self,
        query: Query,
        *,
        embedder: Embedder,
        limit: int = 10,
        per_file: bool = True,
        where: Filter | None = None,
        exactly: bool = False,
    ) -> list[Hit]:
        """The stretches nearest to a query of words and sounds, wanted and unwanted; see `Query.vector`.

        Of words alone, one text of them, the hits have a probability, as those of `search_text`.

        Raises:
            ValueError: nothing is wanted, a sound cannot be read, another model made the index, or it is damaged.
        """
        if query.is_one_text:
            return self.search_text(
                query.texts[0], embedder=embedder, limit=limit, per_file=per_file, where=where, exactly=exactly
            )
        self._check_embedder(embedder)
        vector = query.vector(embedder, window_seconds=self.metadata.window_seconds)
        return self.search(vector, limit=limit, per_file=per_file, where=where, exactly=exactly)

    @property
    def _place(self) -> Place:
        return Place(self.folder)

    @cached_property
    def _neighbours(self) -> Neighbours:
        return Neighbours(self.table, place=self._place, identity=self.metadata.embedder_identity)

    @property
    def _windows(self) -> WindowsTable:
        return WindowsTable(self.table, place=self._place)

    def _run(
        self,
        task: Task,
        *,
        embedder: Embedder,
        batch_seconds: float = 60.0,
        commit_windows: int = 512,
        progress: Callable[[int, int], None] | None = None,
    ) -> IndexReport:
        of = self.metadata
        hearing = FileHearing(embedder, of.width, of.window_seconds, of.hop_seconds, batch_seconds)
        return Update(self._windows, hearing, self._place.claims, commit_windows, progress).run(task)

    def _check_embedder(self, embedder: Embedder) -> None:
        check_identity(self._place, self.metadata, asked=embedder.identity)
