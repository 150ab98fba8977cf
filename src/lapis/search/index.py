"""A folder of sounds as a table of vectors, one row a window of a file, kept up to date and searched exactly.

The table is LanceDB's, in a local folder, with a small JSON beside it that says which model made the vectors. A file's
rows come and go in one commit, so that a crash keeps whole files and a second run leaves no duplicates. A file counts
as unchanged when its size and modification time are; its content is not hashed.
"""

import contextlib
import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from lapis import audio
from lapis.calibration import Calibrated
from lapis.files import atomic_write, locked
from lapis.model import Embedder
from lapis.shapes import Vectors, Waveform

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
METADATA_NAME = "index.json"
TABLE_NAME = "windows"
LOCK_NAME = "lock"
DEFAULT_WINDOW_SECONDS = 10.0
PATHS_A_CONDITION = 500
# A reader that opened a version keeps its files for so long after an update has compacted the table.
KEEP_OLD_VERSIONS = timedelta(hours=1)


@dataclass(frozen=True)
class Metadata:
    """What the vectors of an index mean."""

    format: int
    embedder_identity: str
    width: int
    window_seconds: float
    hop_seconds: float
    model: str
    """Where the model lay when the index was made; empty where nobody said."""


@dataclass(frozen=True)
class Hit:
    """A stretch of a file and its cosine to the query."""

    path: Path
    start_seconds: float
    end_seconds: float
    score: float
    probability: float | None = None
    """That the words are heard there, where the model has a calibration; None too of a search by a sound."""
    heard: bool | None = None
    """Whether the words count as heard there, by the decision of the calibration."""


def nothing_matches(hits: Sequence[Hit]) -> bool:
    """Whether the model has a calibration, and the words count as heard in none of the hits."""
    return bool(hits) and all(hit.heard is False for hit in hits)


@dataclass(frozen=True)
class IndexReport:
    """What an update did, in files; `failed` says why for each, and these files are not in the index."""

    added: int
    unchanged: int
    changed: int
    removed: int
    failed: tuple[tuple[Path, str], ...]
    windows: int
    """Rows written."""


@dataclass(frozen=True)
class _Stamp:
    """By what a file is recognised as unchanged."""

    size: int
    mtime_ns: int


@dataclass(eq=False)
class _File:
    """A file on its way into the table, filled window by window."""

    path: Path
    stamp: _Stamp
    spans: list[tuple[float, float]] = field(default_factory=list)
    vectors: list[Vectors] = field(default_factory=list)


@dataclass(frozen=True)
class Index:
    """An open index. Made by `Index.open` or `Index.create_or_open`; `table` is LanceDB's."""

    folder: Path
    metadata: Metadata
    table: Any

    @classmethod
    def open(cls, folder: Path | str, *, embedder_identity: str | None = None) -> "Index":
        """Open an index, and check that it belongs to an embedder where one is named.

        Raises:
            ValueError: there is no index, it is damaged, another model made it, or LanceDB is not installed.
        """
        folder = Path(folder)
        if not _exists(folder):
            raise ValueError(f"there is no index in {folder}: make one with `lapis index FOLDER`")
        metadata = _read_metadata(folder)
        if embedder_identity is not None and embedder_identity != metadata.embedder_identity:
            raise ValueError(_other_model(folder, built_with=metadata.embedder_identity, asked=embedder_identity))
        database = _connect(folder)
        with _explained(folder, doing="read"):
            table = database.open_table(TABLE_NAME)
        return cls(folder, metadata, table)

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
            folder: where the index lies; not the folder of the sounds.
            embedder_identity: of the model that makes the vectors.
            width: of the vectors.
            window_seconds: of sound a row; what the index has, 10 for a new one.
            hop_seconds: from one window's start to the next; what the index has, the window for a new one.
            model: where the model lies, noted in a new index.
            rebuild: throw away what is there and begin anew.

        Raises:
            ValueError: as `open`; or the index has another width, window or hop than asked for, or these make no sense.
        """
        folder = Path(folder)
        if _exists(folder) and not rebuild:
            index = cls.open(folder, embedder_identity=embedder_identity)
            wanted = {"width": width, "window_seconds": window_seconds, "hop_seconds": hop_seconds}
            for name, value in wanted.items():
                there = getattr(index.metadata, name)
                if value is not None and value != there:
                    raise ValueError(
                        f"the index in {folder} was built with {name} {there}, not {value}: "
                        f"leave it out, or embed again with `lapis index FOLDER --rebuild`"
                    )
            return index
        window_seconds = DEFAULT_WINDOW_SECONDS if window_seconds is None else window_seconds
        hop_seconds = window_seconds if hop_seconds is None else hop_seconds
        metadata = Metadata(FORMAT, embedder_identity, width, float(window_seconds), float(hop_seconds), model)
        if width < 1 or not 0 < metadata.hop_seconds <= metadata.window_seconds < math.inf:
            raise ValueError(f"expected 0 < width and 0 < hop <= window, got {metadata}")
        database = _connect(folder)
        with _explained(folder, doing="written"):
            folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / LOCK_NAME), _explained(folder, doing="written"):
            if rebuild:
                (folder / METADATA_NAME).unlink(missing_ok=True)
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(_table_folder(folder))
            table = database.create_table(TABLE_NAME, schema=_schema(width))
            with atomic_write(folder / METADATA_NAME, binary=False) as file:
                json.dump(asdict(metadata), file, indent=2)
        return cls(folder, metadata, table)

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
        with _explained(self.folder, doing="read"):
            return self.table.count_rows()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files in the index, in order."""
        return tuple(sorted(self._stamps()))

    def update(
        self,
        folder: Path | str,
        *,
        embedder: Embedder,
        batch_seconds: float = 60.0,
        commit_windows: int = 512,
        progress: Callable[[int, int], None] | None = None,
    ) -> IndexReport:
        """Bring the index up to date with a folder of sounds; files indexed from elsewhere are left alone.

        Long files are streamed: memory holds about `batch_seconds` of sound, and the vectors of `commit_windows`
        windows and of the file in hand.

        Args:
            folder: of the sounds, with all its subfolders.
            embedder: the model that made the index.
            batch_seconds: of sound the model gets at once.
            commit_windows: write when so many rows are ready; a crash loses at most these and the file in hand.
            progress: called with the number of files done and of those that had to be read.

        Raises:
            ValueError: another model made the index, it is damaged, another process is writing it, or the folder is
                not there.
        """
        self._check_embedder(embedder)
        root = Path(folder).resolve()
        if not root.is_dir():
            raise ValueError(f"expected a folder of sounds, and {folder} is not one")
        with locked(self.folder / LOCK_NAME):
            return self._update(
                root, embedder=embedder, batch_seconds=batch_seconds, commit_windows=commit_windows, progress=progress
            )

    def _update(
        self,
        root: Path,
        *,
        embedder: Embedder,
        batch_seconds: float,
        commit_windows: int,
        progress: Callable[[int, int], None] | None,
    ) -> IndexReport:
        with _explained(self.folder, doing="read"):
            self.table.checkout_latest()  # another process may have written since this one opened the table
        known = {path: stamp for path, stamp in self._stamps().items() if path.is_relative_to(root)}
        found = audio.find_audio(root)
        todo, failed = _to_read(found, known=known)
        unchanged = len(found) - len(failed) - len(todo)
        added = changed = windows = 0
        ready: list[_File] = []
        results = self._embed(todo, embedder=embedder, batch_seconds=batch_seconds)
        for done, result in enumerate(results, start=1):
            if isinstance(result, _File):
                ready.append(result)
                added += result.path not in known
                changed += result.path in known
                windows += len(result.spans)
            else:
                failed.append(result)
            if sum(len(file.spans) for file in ready) >= commit_windows:
                self._replace(ready)
                ready.clear()
            if progress:
                progress(done, len(todo))
        self._replace(ready)

        gone = known.keys() - set(found)
        # What the table has of a file that can no longer be read describes sound that is no longer there.
        stale = gone | (known.keys() & {path for path, _ in failed})
        self._delete(stale)
        if windows or stale:
            with _explained(self.folder, doing="written"):
                self.table.optimize(cleanup_older_than=KEEP_OLD_VERSIONS)
        return IndexReport(
            added=added,
            unchanged=unchanged,
            changed=changed,
            removed=len(gone),
            failed=tuple(sorted(failed)),
            windows=windows,
        )

    def search(self, vector: Float[np.ndarray, "_width"], *, limit: int = 10, per_file: bool = True) -> list[Hit]:
        """The stretches nearest to a vector, the best first; with `per_file` only the best of each file.

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
        num_windows = self.num_windows
        # One file may own all of the nearest windows: look further until enough files are there.
        depth = limit
        while True:
            hits = self._nearest(vector / norm, depth=depth)
            if per_file:
                best: dict[Path, Hit] = {}
                for hit in hits:
                    best.setdefault(hit.path, hit)
                hits = list(best.values())
            if len(hits) >= limit or depth >= num_windows:
                return hits[:limit]
            depth *= 8

    def search_text(self, text: str, *, embedder: Embedder, limit: int = 10, per_file: bool = True) -> list[Hit]:
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
        hits = self.search(vectors[0], limit=limit, per_file=per_file)
        of = embedder.calibration if isinstance(embedder, Calibrated) else None
        if of is None:
            return hits
        if of.identity != self.metadata.embedder_identity:
            raise ValueError(
                f"the model's calibration was fitted to other weights ({of.identity}) than these "
                f"({self.metadata.embedder_identity}): run lapis calibrate again, or set `calibration` to None"
            )
        scores = of.scores(np.array([hit.score for hit in hits], np.float64), background=of.background(vectors))
        told = zip(hits, of.probability(scores).tolist(), of.heard(scores).tolist())
        return [replace(hit, probability=probability, heard=heard) for hit, probability, heard in told]

    def search_like(
        self, source: audio.File, *, embedder: Embedder, limit: int = 10, per_file: bool = True
    ) -> list[Hit]:
        """The stretches that sound like a clip; one longer than a window is the mean of its windows' vectors.

        Raises:
            ValueError: the clip cannot be read, another model made the index, or it is damaged.
        """
        self._check_embedder(embedder)
        blocks = audio.blocks(source, sample_rate=embedder.sample_rate, block_seconds=self.metadata.window_seconds)
        total = np.zeros(self.metadata.width, dtype=np.float64)
        for block in blocks:
            total += embedder.embed_audio([block.waveform])[0]
        return self.search(total, limit=limit, per_file=per_file)

    def _check_embedder(self, embedder: Embedder) -> None:
        built_with = self.metadata.embedder_identity
        if embedder.identity != built_with:
            raise ValueError(_other_model(self.folder, built_with=built_with, asked=embedder.identity))

    def _embed(
        self, files: Iterable[_File], *, embedder: Embedder, batch_seconds: float
    ) -> Iterator[_File | tuple[Path, str]]:
        """Each file once, with all its vectors, or with the reason why it cannot be read; in about their order."""
        waiting: list[tuple[_File, Waveform]] = []
        complete: list[_File] = []

        def flush() -> list[_File]:
            """Embed all that waits; the files that have all their vectors now."""
            if waiting:
                vectors = embedder.embed_audio([waveform for _, waveform in waiting])
                expected = (len(waiting), self.metadata.width)
                if vectors.shape != expected or not np.isfinite(vectors).all():
                    raise ValueError(
                        f"{embedder.identity} gave {vectors.shape}, not finite vectors of shape {expected}"
                    )
                for (file, _), vector in zip(waiting, vectors):
                    file.vectors.append(vector[None])
                waiting.clear()
            finished = complete.copy()
            complete.clear()
            return finished

        for file in files:
            reason = None
            for block in self._blocks_or_reason(file.path, sample_rate=embedder.sample_rate):
                if isinstance(block, str):
                    reason = block
                    break
                file.spans.append((block.start_seconds, block.end_seconds))
                waiting.append((file, block.waveform))
                if sum(len(waveform) for _, waveform in waiting) >= batch_seconds * embedder.sample_rate:
                    yield from flush()
            if reason is None:
                complete.append(file)
            else:
                waiting[:] = [item for item in waiting if item[0] is not file]
                yield file.path, reason
        yield from flush()

    def _blocks_or_reason(self, path: Path, *, sample_rate: int) -> "Iterator[audio.Block | str]":
        """The windows of a file; last the reason, if reading it fails. Nothing else's errors pass through here."""
        try:
            yield from audio.blocks(
                path,
                sample_rate=sample_rate,
                block_seconds=self.metadata.window_seconds,
                hop_seconds=self.metadata.hop_seconds,
            )
        except (OSError, ValueError) as error:
            yield str(error)

    def _stamps(self) -> dict[Path, _Stamp]:
        columns = ["path", "size", "mtime_ns"]
        with _explained(self.folder, doing="read"):
            rows = self.table.search().where("window = 0").select(columns).to_arrow().to_pylist()
        return {Path(row["path"]): _Stamp(row["size"], row["mtime_ns"]) for row in rows}

    def _replace(self, files: list[_File]) -> None:
        """Write the rows of files and delete what the table had of them, in one commit."""
        if not files:
            return
        rows = _rows(files, width=self.metadata.width)
        with _explained(self.folder, doing="written"):
            (
                self.table.merge_insert(["path", "window"])
                .when_matched_update_all()
                .when_not_matched_insert_all()
                .when_not_matched_by_source_delete(_is_one_of(file.path for file in files))
                .execute(rows)
            )

    def _delete(self, paths: Iterable[Path]) -> None:
        ordered = sorted(paths)
        for begin in range(0, len(ordered), PATHS_A_CONDITION):
            with _explained(self.folder, doing="written"):
                self.table.delete(_is_one_of(ordered[begin : begin + PATHS_A_CONDITION]))

    def _nearest(self, vector: Float[np.ndarray, "_width"], *, depth: int) -> list[Hit]:
        columns = ["path", "start_seconds", "end_seconds", "_distance"]
        with _explained(self.folder, doing="read"):
            query = self.table.search(vector.astype(np.float32), vector_column_name="vector").distance_type("cosine")
            rows = query.bypass_vector_index().select(columns).limit(depth).to_arrow().to_pylist()
        hits = [Hit(Path(row["path"]), row["start_seconds"], row["end_seconds"], 1 - row["_distance"]) for row in rows]
        return sorted(hits, key=lambda hit: (-hit.score, hit.path, hit.start_seconds))


def _table_folder(folder: Path) -> Path:
    return folder / f"{TABLE_NAME}.lance"


def _exists(folder: Path) -> bool:
    return (folder / METADATA_NAME).exists() or _table_folder(folder).exists()


def _other_model(folder: Path, *, built_with: str, asked: str) -> str:
    return (
        f"the index in {folder} was built with {built_with}, not with {asked}: vectors of two models cannot be "
        f"compared. Use that model, or embed again with `lapis index FOLDER --rebuild`"
    )


def _connect(folder: Path) -> Any:
    try:
        import lancedb
    except ImportError as error:
        raise ValueError("an index needs LanceDB: pip install 'lapis-audio[search]'") from error
    with _explained(folder, doing="read"):
        # Always the newest version: another process may have updated the index since it was opened.
        return lancedb.connect(folder, read_consistency_interval=timedelta(0))


def _read_metadata(folder: Path) -> Metadata:
    try:
        content = json.loads((folder / METADATA_NAME).read_text(encoding="utf-8"))
        number = content["format"]
        metadata = Metadata(
            format=number,
            embedder_identity=str(content["embedder_identity"]),
            width=int(content["width"]),
            window_seconds=float(content["window_seconds"]),
            hop_seconds=float(content["hop_seconds"]),
            model=str(content["model"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(_damaged(folder, doing="read", reason=f"{METADATA_NAME}: {error!r}")) from error
    if number != FORMAT:
        raise ValueError(
            f"the index in {folder} has format {number}, and this version of Lapis reads format {FORMAT}: "
            f"embed again with `lapis index FOLDER --rebuild`"
        )
    return metadata


@contextlib.contextmanager
def _explained(folder: Path, *, doing: Literal["read", "written"]) -> Iterator[None]:
    """Turn what LanceDB raises, of whatever class, into what the user can do."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(_damaged(folder, doing=doing, reason=reason)) from error


def _damaged(folder: Path, *, doing: Literal["read", "written"], reason: str) -> str:
    return (
        f"the index in {folder} cannot be {doing} ({reason}). If the disk and its permissions are well, it is damaged: "
        f"embed again with `lapis index FOLDER --rebuild`"
    )


def _schema(width: int) -> "pa.Schema":
    import pyarrow as pa

    return pa.schema(
        {
            "path": pa.string(),
            "window": pa.int32(),
            "start_seconds": pa.float64(),
            "end_seconds": pa.float64(),
            "vector": pa.list_(pa.float32(), width),
            "size": pa.int64(),
            "mtime_ns": pa.int64(),
        }
    )


def _rows(files: list[_File], *, width: int) -> "pa.Table":
    import pyarrow as pa

    windows = [(file, window, span) for file in files for window, span in enumerate(file.spans)]
    vectors = np.concatenate([vector for file in files for vector in file.vectors])
    columns = [
        [str(file.path) for file, _, _ in windows],
        [window for _, window, _ in windows],
        [start for _, _, (start, _) in windows],
        [end for _, _, (_, end) in windows],
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), width),
        [file.stamp.size for file, _, _ in windows],
        [file.stamp.mtime_ns for file, _, _ in windows],
    ]
    schema = _schema(width)
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, type=kind.type)
        for column, kind in zip(columns, schema)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _to_read(found: Iterable[Path], *, known: Mapping[Path, _Stamp]) -> tuple[list[_File], list[tuple[Path, str]]]:
    """The files that are new or changed, and those that cannot even be looked at, with the reason."""
    todo: list[_File] = []
    failed: list[tuple[Path, str]] = []
    for path in found:
        try:
            status = path.stat()
            str(path).encode()  # The table holds UTF-8; a name that is not has no place in it.
        except (OSError, ValueError) as error:
            failed.append((path, str(error)))
            continue
        stamp = _Stamp(status.st_size, status.st_mtime_ns)
        if known.get(path) != stamp:
            todo.append(_File(path, stamp))
    return todo, failed


def _is_one_of(paths: Iterable[Path]) -> str:
    """The condition, in SQL, that a row is of one of these files; a quote in a name is written twice."""
    names = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    return f"path IN ({names})"
