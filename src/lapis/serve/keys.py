"""Who may ask: keys from a file or the environment, kept as digests and compared in constant time."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from pathlib import Path

from lapis.serve.refusal import Refusal

VARIABLE = "LAPIS_API_KEYS"
LEAST_CHARACTERS = 16


class Keys:
    """Those who may ask; anybody, where there is no key."""

    def __init__(self, keys: Iterable[str] = ()) -> None:
        """Take keys.

        Raises:
            ValueError: a key is too short to be secret; it is not shown.
        """
        self._digests: list[bytes] = []
        for number, key in enumerate(keys, start=1):
            if len(key) < LEAST_CHARACTERS or not key.isascii() or not key.isprintable() or " " in key:
                raise ValueError(f"key {number}: expected {LEAST_CHARACTERS} or more ASCII characters without a space")
            self._digests.append(_digest(key.encode()))

    @classmethod
    def read(cls, file: Path | None, environment: Mapping[str, str]) -> "Keys":
        """Of a file, a key a line with `#` before remarks, and of LAPIS_API_KEYS, with commas between them.

        Raises:
            ValueError: the file cannot be read or has no key, or a key is too short.
        """
        keys = [key.strip() for key in environment.get(VARIABLE, "").split(",") if key.strip()]
        if file is not None:
            try:
                lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
            except (OSError, ValueError) as error:
                raise ValueError(f"{file}: expected a file of keys: {error}") from error
            found = [line for line in lines if line and not line.startswith("#")]
            if not found:  # an empty file must not open the door to all
                raise ValueError(f"{file}: expected a key a line, found none")
            keys += found
        return cls(keys)

    def __len__(self) -> int:
        return len(self._digests)

    def client(self, authorization: bytes | None, *, address: str) -> str:
        """Who asks: a key's number, or an address where there are no keys.

        Raises:
            Refusal: there are keys, and this is none of them.
        """
        if not self._digests:
            return address
        scheme, _, presented = (authorization or b"").partition(b" ")
        digest = _digest(presented.strip())
        # All are compared, whichever is right.
        same = [hmac.compare_digest(digest, known) for known in self._digests]
        if scheme.lower() != b"bearer" or not any(same):
            raise Refusal(
                401,
                "expected a key of this server: Authorization: Bearer KEY",
                "invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        return f"key {same.index(True)}"


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
