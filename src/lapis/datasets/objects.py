"""The objects of a list within a JSON file that is too large to be held in memory, one after another."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

CHUNK_CHARACTERS = 1 << 20
# A value that breaks off at the end of what has been read is whole after the next read. An error before that is real.
LONGEST_ESCAPE = 16


def objects(path: Path, key: str) -> Iterator[dict[str, Any]]:
    """The objects of the list under `key` of the outermost object.

    Raises:
        ValueError: there is no such file, it is not JSON in UTF-8, or it holds no such list of objects.
    """
    if not path.is_file():
        raise ValueError(f"{path}: expected a file of the corpus, there is none")
    with path.open(encoding="utf-8-sig") as file:
        stream = _Stream(file, path)
        stream.expect("{")
        while stream.peek() != "}":
            name = stream.value()
            stream.expect(":")
            if name != key:
                stream.value()
                if stream.peek() == ",":
                    stream.expect(",")
                continue
            yield from _items(stream, key)
            return
    raise ValueError(f"{path}: expected a list under {key!r}, there is none")


def _items(stream: "_Stream", key: str) -> Iterator[dict[str, Any]]:
    stream.expect("[")
    while stream.peek() != "]":
        item = stream.value()
        if not isinstance(item, dict):
            raise ValueError(f"{stream.path}: expected objects under {key!r}, got {type(item).__name__}")
        yield item
        if stream.peek() != "]":
            stream.expect(",")


class _Stream:
    """A JSON text, of which only the value that is being read is in memory."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self.path = path
        self._file, self._buffer, self._position, self._ended = file, "", 0, False
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """The next character that is no space."""
        while True:
            while self._position < len(self._buffer):
                character = self._buffer[self._position]
                if character not in " \t\r\n":
                    return character
                self._position += 1
            if self._ended:
                raise ValueError(f"{self.path} is not whole: expected more JSON, the file ends")
            self._more()

    def expect(self, character: str) -> None:
        """Go past a character."""
        if (found := self.peek()) != character:
            raise ValueError(f"{self.path} is not JSON: expected {character!r}, got {found!r}")
        self._position += 1

    def value(self) -> Any:
        """The next value."""
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, self._position)
            except json.JSONDecodeError as error:
                open_string = error.msg.startswith("Unterminated string")
                if self._ended or (not open_string and error.pos < len(self._buffer) - LONGEST_ESCAPE):
                    raise ValueError(f"{self.path} is not JSON: {error.msg}") from error
            else:
                if end < len(self._buffer) or self._ended:  # a number at the end may have more digits
                    self._position = end
                    return value
            self._more()

    def _more(self) -> None:
        """Read on, twice as far as what is held, so that a long value is tried few times."""
        kept = self._buffer[self._position :]
        try:
            new = self._file.read(max(CHUNK_CHARACTERS, len(kept)))
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path} is not JSON in UTF-8: {error}") from error
        self._buffer, self._position, self._ended = kept + new, 0, not new
