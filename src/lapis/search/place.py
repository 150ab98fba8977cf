"""Where an index lies: a folder of this machine, or below an address of an object store, with the same parts.

LanceDB's table, and beside it a small JSON that says which model made the vectors. Keys, regions and endpoints of
stores come from the environment, for both alike.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Hashable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from lapis.data.object_storage import check_address, meaning_of, told_of
from lapis.data.storage import is_url
from lapis.files import atomic_write, cache_folder
from lapis.search.approximate import UnfitError
from lapis.search.claims import Claims
from lapis.search.columns import FORMAT

METADATA_NAME = "index.json"
TABLE_NAME = "windows"
RETRIES = {"max_retries": 4, "retry_timeout": timedelta(seconds=15)}
"""Of what is asked before all else, so that it is soon told that a store is away."""
PATIENCE = {"client_max_retries": "8"}
"""Of LanceDB amid its work, which outlasts a store's absence of some seconds: its own are three, over in one."""


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


class Place:
    """A folder, or an address such as `s3://bucket/index`."""

    def __init__(self, folder: Path | str) -> None:
        if isinstance(folder, Path) and re.match(r"[a-z0-9]{2,}:/", str(folder)):
            raise ValueError(f"expected an address as a str, and a Path has lost its second slash: {folder}")
        self.is_remote = is_url(str(folder))
        if self.is_remote:
            check_address(str(folder))
        self.folder: Path | str = str(folder).rstrip("/") if self.is_remote else Path(folder)

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def claims(self) -> Claims:
        """In the folder; of a store, in this machine's cache, so that the processes of one machine share the work."""
        if isinstance(self.folder, Path):
            return Claims(self.folder)
        return Claims(self._cache("claims"))

    @property
    def map_folder(self) -> Path:
        """Of the map of the vectors (`vector_map.py`), on a local disk: of a store's index, in this machine's cache."""
        return self.folder / "map" if isinstance(self.folder, Path) else self._cache("maps")

    def exists(self) -> bool:
        """Whether there is an index, or a part of one.

        Raises:
            ValueError: the store does not answer.
        """
        return self._has(METADATA_NAME) or self._has(f"{TABLE_NAME}.lance/")

    def is_made(self) -> bool:
        """Whether it was made to the end: the JSON is written last.

        Raises:
            ValueError: the store does not answer.
        """
        return self._has(METADATA_NAME)

    def has_rows(self) -> bool:
        """Whether the table has ever had a row, readable or not.

        Raises:
            ValueError: the store does not answer.
        """
        return self._has(f"{TABLE_NAME}.lance/data/")

    def stamp(self) -> Hashable:
        """What is another thing when the index was made anew; None where none is, or the store does not answer."""
        try:
            if isinstance(self.folder, Path):
                status = (self.folder / METADATA_NAME).stat()
                return status.st_ino, status.st_mtime_ns
            store, obstore = self._store()
            said = obstore.head(store, METADATA_NAME)
            return said["e_tag"], said["last_modified"]
        except (OSError, *self._errors()):
            return None

    def connect(self) -> Any:
        """LanceDB's connection.

        Raises:
            ValueError: LanceDB is not installed, or the place is none.
        """
        try:
            import lancedb
        except ImportError as error:
            raise ValueError("an index needs LanceDB: pip install 'lapis-audio[search]'") from error
        with explained(self, doing="read"):
            # Always the newest version: another process may have updated the index since it was opened.
            options = self._options() if self.is_remote else None
            return lancedb.connect(self.folder, read_consistency_interval=timedelta(0), storage_options=options)

    def make(self) -> None:
        """The folder, if it has to be made."""
        if isinstance(self.folder, Path):
            self.folder.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Throw away the index; first what says that there is one."""
        if isinstance(self.folder, Path):
            (self.folder / METADATA_NAME).unlink(missing_ok=True)
            folders = [self.folder / f"{TABLE_NAME}.lance"]
        else:
            store, obstore = self._store()
            for name in [METADATA_NAME, *self._names(f"{TABLE_NAME}.lance/")]:
                with contextlib.suppress(FileNotFoundError):
                    obstore.delete(store, name)
            folders = []
        for folder in [*folders, self.map_folder]:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(folder)

    def write(self, metadata: Metadata, *, over: bool) -> bool:
        """The JSON beside the table; in a store not `over` one that is there by now. Gives whether it was written."""
        content = json.dumps(asdict(metadata), indent=2)
        if isinstance(self.folder, Path):
            with atomic_write(self.folder / METADATA_NAME, binary=False) as file:
                file.write(content)
        else:
            store, obstore = self._store()
            try:
                obstore.put(store, METADATA_NAME, content.encode(), mode="overwrite" if over else "create")
            except obstore.exceptions.AlreadyExistsError:
                return False
        return True

    def read(self) -> Metadata:
        """The JSON beside the table.

        Raises:
            ValueError: it is not there, damaged, or of another format than this version reads.
        """
        try:
            content = json.loads(self._read())
            number = content["format"]
            if number == FORMAT:
                return Metadata(
                    format=FORMAT,
                    embedder_identity=str(content["embedder_identity"]),
                    width=int(content["width"]),
                    window_seconds=float(content["window_seconds"]),
                    hop_seconds=float(content["hop_seconds"]),
                    model=str(content["model"]),
                )
        except (OSError, *self._errors()) as error:
            raise BrokenIndexError(_damaged(self, doing="read", reason=f"{METADATA_NAME}: {told_of(error)}")) from error
        except (ValueError, KeyError, TypeError) as error:
            raise BrokenIndexError(_damaged(self, doing="read", reason=f"{METADATA_NAME}: {error!r}")) from error
        raise ValueError(
            f"the index in {self} has format {number}, and this version of Lapis reads format {FORMAT}: "
            f"embed again with `lapis index FOLDER --rebuild`"
        )

    def _read(self) -> bytes:
        if isinstance(self.folder, Path):
            return (self.folder / METADATA_NAME).read_bytes()
        store, obstore = self._store()
        return bytes(obstore.get(store, METADATA_NAME).bytes())

    def _options(self) -> dict[str, str]:
        """What LanceDB does not take from the environment itself: of a bucket with a dot in its name, its region."""
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return PATIENCE | ({"region": region} if region and str(self.folder).startswith("s3") else {})

    def _cache(self, kind: str) -> Path:
        return cache_folder(kind, hashlib.sha256(str(self.folder).encode()).hexdigest()[:32])

    def _has(self, name: str) -> bool:
        """Whether there is a file of this name, or anything in the folder, whose name ends in a slash."""
        with explained(self, doing="read"):
            if isinstance(self.folder, Path):
                path = self.folder / name
                return any(path.glob("*")) if name.endswith("/") else path.exists()
            if name.endswith("/"):
                return any(self._names(name))
            store, obstore = self._store()
            try:
                obstore.head(store, name)
            except FileNotFoundError:
                return False
            return True

    def _names(self, folder: str) -> Iterator[str]:
        store, obstore = self._store()
        for entries in obstore.list(store, prefix=folder):
            for entry in entries:
                yield entry["path"]

    def _store(self) -> tuple[Any, Any]:
        try:
            obstore: Any = import_module("obstore")
            stores: Any = import_module("obstore.store")
        except ImportError as error:
            raise ValueError(f"{self}: object stores need an extra: pip install 'lapis-audio[storage]'") from error
        return stores.from_url(self.folder, retry_config=RETRIES), obstore

    def _errors(self) -> tuple[type[Exception], ...]:
        return (self._store()[1].exceptions.BaseError,) if self.is_remote else ()


class BrokenIndexError(ValueError):
    """An index cannot be read or written, and why."""


@contextlib.contextmanager
def explained(place: Place | Path | str, *, doing: Literal["read", "written"]) -> Iterator[None]:
    """Turn what LanceDB and obstore raise, of whatever class, into what the user can do."""
    try:
        yield
    except (BrokenIndexError, UnfitError):  # they are
        raise
    except Exception as error:
        kinds = (OSError, RuntimeError, ValueError)
        if not isinstance(error, kinds) and not type(error).__module__.startswith("obstore"):
            raise
        told = told_of(error) if is_url(str(place)) else str(error).partition("\n")[0]
        raise BrokenIndexError(_damaged(place, doing=doing, reason=told)) from error


def _damaged(place: Place | Path | str, *, doing: Literal["read", "written"], reason: str) -> str:
    said = f"the index in {place} cannot be {doing} ({reason})."
    well = "disk and its permissions are well"
    if is_url(str(place)):
        if meaning := meaning_of(reason):
            return f"{said} {meaning}"
        well = "store answers and its keys are right"
    return f"{said} If the {well}, it is damaged: embed again with `lapis index FOLDER --rebuild`"
