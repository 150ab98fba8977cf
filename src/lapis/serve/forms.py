"""A form out of the bytes of a request: in memory, in UTF-8, and not a part more than is allowed.

Starlette's own reader writes files of more than a megabyte to disk, and decodes fields by whatever codec the request
names, some of which take minutes.
"""

import logging
from dataclasses import dataclass

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from lapis.serve.refusal import Refusal

# It warns of every broken form; a client that sends many would fill the log.
logging.getLogger("python_multipart").setLevel(logging.ERROR)


@dataclass(frozen=True)
class Part:
    """One part: of a file the content, of a field the text."""

    name: str
    content: bytes
    is_file: bool

    @property
    def text(self) -> str:
        """What a field says.

        Raises:
            Refusal: it is not UTF-8.
        """
        return _decoded(self.content)


def parts_of(content: bytes, *, content_type: str, most: int) -> list[Part]:
    """The parts of a form, in the order they came.

    Raises:
        Refusal: it cannot be read, breaks off, or has more than `most` parts.
    """
    _, options = parse_options_header(content_type)
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        raise Refusal(415, "expected a form in UTF-8", "content_type")
    reader = _Reader(most)
    try:
        parser = MultipartParser(
            options.get(b"boundary", b""),
            {
                "on_part_begin": reader.part_begins,
                "on_header_field": reader.header_name,
                "on_header_value": reader.header_value,
                "on_header_end": reader.header_ends,
                "on_headers_finished": reader.headers_end,
                "on_part_data": reader.data,
                "on_part_end": reader.part_ends,
                "on_end": reader.form_ends,
            },
        )
        parser.write(content)
    except FormParserError:
        raise _broken() from None
    if not reader.whole:
        raise _broken()
    return reader.parts


class _Reader:
    """Takes what the parser finds; a piece of data comes as a stretch of the whole content."""

    def __init__(self, most: int) -> None:
        self.most, self.whole = most, False
        self.parts: list[Part] = []
        self._name = self._value = self._disposition = b""
        self._content = bytearray()  # a part may come in millions of pieces
        self._field, self._is_file = "", False

    def part_begins(self) -> None:
        if len(self.parts) == self.most:
            raise Refusal(422, f"expected a form of at most {self.most} parts", "form")
        self._disposition, self._content = b"", bytearray()

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_ends(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def headers_end(self) -> None:
        kind, options = parse_options_header(self._disposition)
        if kind != b"form-data" or b"name" not in options:
            raise _broken()
        self._field, self._is_file = _decoded(options[b"name"]), b"filename" in options

    def data(self, data: bytes, start: int, end: int) -> None:
        self._content += data[start:end]

    def part_ends(self) -> None:
        self.parts.append(Part(self._field, bytes(self._content), self._is_file))

    def form_ends(self) -> None:
        self.whole = True


def _broken() -> Refusal:
    return Refusal(400, "the form cannot be read, or breaks off", "form")


def _decoded(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise Refusal(400, "expected a form in UTF-8", "form") from None
