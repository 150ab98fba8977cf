"""Object stores (s3, gs, az) through obstore, which takes keys, regions and endpoints from the environment.

obstore's threads do not survive a fork: `Mixture.may_fork` tells the loader to start its workers afresh.
"""

import os
import re
from collections.abc import Callable
from datetime import timedelta
from importlib import import_module
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from lapis.data.http_storage import PASSING_STATUS
from lapis.data.storage import OBJECT_STORES, Answer, PassingError, Patience, StorageError, Thing, expand

PREFIXES = {"s3": "AWS", "s3a": "AWS", "gs": "GOOGLE"}
"""Of a store's variables in the environment; all others are Azure's."""
CONTAINERS = ("abfs", "abfss")
"""In addresses of these, a container's name stands before the @."""
CLIENT_OPTIONS = (
    "allow_http",
    "allow_invalid_certificates",
    "proxy_ca_certificate",
    "proxy_excludes",
    "proxy_url",
    "user_agent",
)
"""Of the environment, which obstore forgets where it is given any: with these a store of one's own is reached."""

STATUS = re.compile(r"status code: (\d+)")
CODE = re.compile(r"<Code>(\w+)</Code>")
PAGE = re.compile(r":?\s*<(?:[?!]|\w+[ />])")
"""Where the page begins that a store sends with a status: it may tell the key's name and what was signed."""
KEYS = re.compile(r"(?<=://)[^/\s@]*@|(?<=\w)\?[^\s)]*")
"""What stands in an address before an @ or behind a question mark."""
CODE_LINE = re.compile(r",?\s*\S+\.rs:\d+(?::\d+)?")
"""Where in its own sources an error of LanceDB came up."""
UNSENT = "builder error"
"""What obstore says of an address that it may not ask, as one of http where `AWS_ALLOW_HTTP` is not set."""
TROUBLES = {
    r"169\.254\.|[Cc]redentials": "Keys are taken from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY.",
    r"NoSuchBucket|ContainerNotFound|bucket does not exist": "There is no such bucket: make it, or correct its name.",
    r"\b40[13] [A-Z]|InvalidAccessKeyId|SignatureDoesNotMatch|AccessDenied|Unauthenticated|PermissionDenied": (
        "The store refuses the keys in the environment, or lets them do less than this takes."
    ),
    UNSENT: "An endpoint of http is asked only where the environment allows it: for S3, AWS_ALLOW_HTTP=true.",
    r"error sending request|tim(?:ed |e)out|[Ss]tatus(?: code)?:? 5\d\d": (
        "The store does not answer: try again when it does."
    ),
}
"""What a client of a store says (`told_of`), and what it means for the user."""


class Objects:
    """A bucket or container, by its root: `s3://bucket`."""

    def __init__(self, root: str, patience: Patience) -> None:
        """Nothing is asked of the store yet.

        Raises:
            ValueError: obstore is not installed, or does not know the root; or there are keys in it.
        """
        check_address(root)
        try:
            obstore: Any = import_module("obstore")
            store: Any = import_module("obstore.store")
        except ImportError as error:
            raise ValueError(f"{root}: object stores need an extra: pip install 'lapis-audio[storage]'") from error
        self._root, self._patience, self._obstore = root.rstrip("/"), patience, obstore
        prefix = PREFIXES.get(urlsplit(root).scheme, "AZURE")
        told = {name: os.environ.get(f"{prefix}_{name}".upper()) for name in CLIENT_OPTIONS}
        client = {name: value for name, value in told.items() if value} | {
            "timeout": timedelta(seconds=patience.timeout_seconds)
        }
        # Only our own patience counts the attempts: obstore would multiply them.
        options: dict[str, Any] = {"client_options": client, "retry_config": {"max_retries": 0}}
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
            names = self._ask(lambda prefix=prefix: self._names(prefix), name=pattern)
            found |= {name for name in names if PurePosixPath("/", name).match(f"/{wanted}")}
        return sorted(f"{self._root}/{name}" for name in found)

    def below(self, folder: str) -> list[str]:
        """The objects of a folder, which ends in `/`, and of the folders in it."""
        prefix = self._name(folder).lstrip("/") or None
        return sorted(f"{self._root}/{name}" for name in self._ask(lambda: self._names(prefix), name=folder))

    def _names(self, prefix: str | None) -> list[str]:
        return [entry["path"] for entries in self._obstore.list(self._store, prefix) for entry in entries]

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

    def _ask(self, question: Callable[[], Answer], *, name: str) -> Answer:
        return self._patience.call(lambda: self._tried(question, name=name), name=name)

    def _tried(self, question: Callable[[], Answer], *, name: str) -> Answer:
        """Its errors as ours: what the store refuses, and what cannot be sent at all, is final; all else may pass."""
        errors = self._obstore.exceptions
        try:
            return question()
        except errors.NotFoundError as error:
            raise FileNotFoundError(name) from error
        except (errors.BaseError, TimeoutError, ConnectionError) as error:
            told = told_of(error)
            status = STATUS.search(told)
            is_refused = status is not None and status[1].startswith("4") and int(status[1]) not in PASSING_STATUS
            kinds = (errors.InvalidPathError, errors.NotSupportedError, errors.UnknownConfigurationKeyError)
            if is_refused or isinstance(error, kinds) or UNSENT in told:
                raise StorageError(f"{name}: {told}") from error
            raise PassingError(told) from error


def check_address(address: str) -> None:
    """That an address names no keys: it is printed, and stands in files.

    Raises:
        ValueError: it does; they are not told.
    """
    parts = urlsplit(address)
    # A key may have a slash, behind which nobody sees its @; no bucket has a colon.
    is_store = parts.scheme in OBJECT_STORES
    if ("@" in parts.netloc and parts.scheme not in CONTAINERS) or (is_store and ":" in parts.netloc):
        raise ValueError(f"{parts.scheme}://...: expected an address without keys; they belong into the environment")


def told_of(error: BaseException) -> str:
    """What a client of a store says, in one line, with the store's own name for it: without keys and debugging."""
    whole = str(error).partition("\n\nDebug source")[0]
    code = CODE.search(whole)
    said = CODE_LINE.sub("", KEYS.sub("", PAGE.split(whole, maxsplit=1)[0]).partition("\n")[0]).rstrip(": ")
    return f"{said} ({code[1]})" if code else said


def meaning_of(told: str) -> str:
    """What `told_of` an error means for the user, in a sentence; empty where nobody knows."""
    return next((meaning for signs, meaning in TROUBLES.items() if re.search(signs, told)), "")
