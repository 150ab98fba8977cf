"""Object stores (s3, gs, az) through obstore, which takes keys, regions and endpoints from the environment.

obstore's threads do not survive a fork: `Mixture.may_fork` tells the loader to start its workers afresh.
"""

from datetime import timedelta
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any

from lapis.data.storage import PassingError, Patience, StorageError, Thing, expand


class Objects:
    """A bucket or container, by its root: `s3://bucket`."""

    def __init__(self, root: str, patience: Patience) -> None:
        """Nothing is asked of the store yet.

        Raises:
            ValueError: obstore is not installed, or does not know the root.
        """
        try:
            obstore: Any = import_module("obstore")
            store: Any = import_module("obstore.store")
        except ImportError as error:
            raise ValueError(f"{root}: object stores need an extra: pip install 'lapis-audio[storage]'") from error
        self._root, self._patience, self._obstore = root.rstrip("/"), patience, obstore
        timeout = timedelta(seconds=patience.timeout_seconds)
        # Only our own patience counts the attempts: obstore would multiply them.
        options: dict[str, Any] = {"client_options": {"timeout": timeout}, "retry_config": {"max_retries": 0}}
        try:
            self._store: Any = store.from_url(self._root, **options)
        except obstore.exceptions.BaseError as error:
            raise ValueError(f"{root}: {error}") from error

    def find(self, pattern: str) -> list[str]:
        """The objects that match; `*` does not go over a `/`."""
        found: set[str] = set()
        for wanted in map(self._name, expand(pattern)):
            folder = PurePosixPath(wanted.partition("*")[0].partition("?")[0].partition("[")[0] + "x").parent
            prefix = None if str(folder) == "." else f"{folder}/"
            names = self._patience.call(lambda prefix=prefix: self._names(prefix), name=pattern)
            found |= {name for name in names if PurePosixPath("/", name).match(f"/{wanted}")}
        return sorted(f"{self._root}/{name}" for name in found)

    def _names(self, prefix: str | None) -> list[str]:
        listed = self._tried(lambda: list(self._obstore.list(self._store, prefix)))
        return [entry["path"] for entries in listed for entry in entries]

    def stat(self, address: str) -> Thing | None:
        """By the object's own head."""
        try:
            meta = self._ask(lambda: self._obstore.head(self._store, self._name(address)), name=address)
        except FileNotFoundError:
            return None
        return Thing(address, meta["size"], meta["e_tag"] or str(meta["last_modified"]))

    def get(self, thing: Thing, *, offset: int, size: int) -> bytes:
        """A range; of an object that is still the one it was."""
        if not size:
            return b""

        def read() -> bytes:
            result = self._obstore.get(
                self._store, self._name(thing.address), options={"range": (offset, offset + size)}
            )
            meta = result.meta
            if (meta["size"], meta["e_tag"] or str(meta["last_modified"])) != (thing.size, thing.mark):
                raise StorageError(f"{thing.address} changed while it was in use")
            return bytes(result.bytes())

        try:
            content = self._ask(read, name=thing.address)
        except FileNotFoundError as error:
            raise StorageError(f"{thing.address}: it is no longer there") from error
        if len(content) != size:
            raise StorageError(f"{thing.address}: expected {size:,} bytes at {offset:,}, {len(content):,} came")
        return content

    def _name(self, address: str) -> str:
        return address.removeprefix(f"{self._root}/")

    def _ask(self, question: Any, *, name: str) -> Any:
        return self._patience.call(lambda: self._tried(question), name=name)

    def _tried(self, question: Any) -> Any:
        """Its errors as ours: what a store calls by a name of its own is final, all else may pass."""
        errors = self._obstore.exceptions
        final = (
            errors.PermissionDeniedError,
            errors.UnauthenticatedError,
            errors.InvalidPathError,
            errors.NotSupportedError,
            errors.UnknownConfigurationKeyError,
        )
        try:
            return question()
        except final as error:
            raise StorageError(f"{self._root}: {error}") from error
        except (errors.BaseError, TimeoutError, ConnectionError) as error:
            raise PassingError(str(error)) from error
