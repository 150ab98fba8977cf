"""What a clip is called: by its corpus, and in a tar, which cannot have every name.

The JSON of a sample in a tar says what its corpus calls it, so that a clip keeps its key when it is written to shards.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

LONGEST_KEY_BYTES = 200
_NUMBER = re.compile(r"(?:-[1-9][0-9]*)?")


def in_utf8(text: str) -> str:
    """A text that any file and terminal can have: the bytes of a file's name that are no UTF-8 become `\\udc..`."""
    return text.encode(errors="backslashreplace").decode()


def safe_key(key: str) -> str:
    """A key as WebDataset can have it, most as they are: without dots in its last part, and nothing that leads away.

    A reader takes the file name up to its first dot as the key. What cannot stay becomes `_`; a long key is cut, with a
    digest of the whole at its end.
    """
    key = in_utf8(key)
    text = "".join(letter if letter.isprintable() and letter != "\\" else "_" for letter in key)
    parts = [part for part in text.split("/") if part not in ("", ".", "..")]
    if parts:
        parts[-1] = parts[-1].replace(".", "_")
    safe = "/".join(parts) or "_"
    if len(content := safe.encode()) > LONGEST_KEY_BYTES:
        digest = hashlib.sha256(key.encode()).hexdigest()[:16]
        safe = f"{content[: LONGEST_KEY_BYTES - 17].decode(errors='ignore')}-{digest}"
        safe = safe.replace("/", "_").replace(".", "_")
    return safe


def original_key(in_tar: str, words: Mapping[str, Any]) -> str:
    """The key of a clip before it was written to a tar, as its JSON says it; the tar's own where it says none.

    Other people's JSON may call another thing a key (a melody's), so it is believed only where it explains the tar's.
    """
    given = words.get("key")
    if given == in_tar or not isinstance(given, str):
        return in_tar
    safe = safe_key(given)
    # Of several that would be called the same, all but the first have a number (`ShardWriter.add`).
    explained = in_tar.startswith(safe) and _NUMBER.fullmatch(in_tar[len(safe) :])
    return given if explained else in_tar
