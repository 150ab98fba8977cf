"""What requests hold: fields as JSON, or as a form with the sounds as files."""

import re
from dataclasses import dataclass
from datetime import date
from typing import Any, Generic, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from lapis.serve.forms import parts_of
from lapis.serve.limits import Limits
from lapis.serve.refusal import Refusal
from lapis.serve.sounds import content_of

FILES = ("file", "audio", "file[]", "audio[]")
AUDIO = "A sound as data:audio/...;base64,..., or a file of a form. No address is fetched."
OTHER_VALUES = 64
"""Besides inputs: as many fields as a form may have, and more than any body has."""
TEXT_OR_COMMA = re.compile(rb'"(?:[^"\\]|\\.)*+"|,', re.DOTALL)


class Body(BaseModel):
    """Unknown fields are errors, so that none is overlooked in silence."""

    model_config = ConfigDict(extra="forbid")
    model: str | None = Field(None, description="The name that /v1/models tells.")


class Embeddings(Body):
    """As OpenAI has it; a string that begins with `data:` and holds base64 is a sound."""

    input: str | list[str] = Field([], description=f"Texts in any language the model knows, or sounds. {AUDIO}")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="The model's width, or nothing.")
    modality: Literal["text", "audio"] | None = Field(None, description="What `input` is; told by each unless given.")
    user: str | None = None


class Search(Body):
    """Words or a sound to search by, or both."""

    query: str = ""
    unlike: str = Field("", description="Words for what is not wanted: the ranking is lowered by half their cosine.")
    audio: str = Field("", description=AUDIO)
    limit: int = Field(10, ge=1)
    below: str = Field("", description="A folder among the names of files, and all folders in it.")
    shortest_seconds: float | None = Field(None, ge=0, allow_inf_nan=False, description="Of the file.")
    longest_seconds: float | None = Field(None, ge=0, allow_inf_nan=False)
    tags: list[str] = Field([], max_length=32, description="All of which the file has.")
    since: date | None = Field(None, description="The first day (UTC) on which the file may have been written last.")
    until: date | None = Field(None, description="The last such day.")


class Locate(Body):
    """A recording and what to listen for."""

    audio: str = Field("", description=AUDIO)
    id: str = Field("", description="Of an indexed file, as a hit tells it, in place of a sound.")
    start_seconds: float = Field(0.0, ge=0, allow_inf_nan=False, description="Where to begin in an indexed file.")
    seconds: float | None = Field(None, gt=0, allow_inf_nan=False, description="Of an indexed file; to its end else.")
    heat: bool = Field(False, description="Whether to tell, over time, how hot each text is: 0.5 is its threshold.")
    texts: list[str] = Field(min_length=1)
    hearing: Literal["dense", "windows"] | None = None
    smooth_seconds: float = Field(0.5, ge=0, le=60, allow_inf_nan=False)
    shortest_seconds: float = Field(0.0, ge=0, le=3600, allow_inf_nan=False)
    threshold: float | None = Field(None, allow_inf_nan=False)


class Classify(Body):
    """A sound and the names it may have."""

    audio: str = Field("", description=AUDIO)
    labels: list[str] = Field(min_length=1)
    template: str = Field("{}", description="A sentence with {} for the label.", pattern=r"\{\}")


class Caption(Body):
    """A sound to describe."""

    audio: str = Field("", description=AUDIO)
    beam: int = Field(3, ge=1, le=8)


B = TypeVar("B", bound=Body)


@dataclass(frozen=True)
class Asked(Generic[B]):
    """A request's fields and the files of its form."""

    fields: B
    files: list[bytes]

    def sound(self) -> bytes:
        """The one sound of the request.

        Raises:
            Refusal: there is none, or more than one.
        """
        address = getattr(self.fields, "audio", "")
        found = [*self.files, *([content_of(address, name="audio")] if address else [])]
        if len(found) != 1:
            raise Refusal(422, f"audio: expected one sound, got {len(found)}", "sound", "audio")
        return found[0]


async def asked(request: Request, kind: type[B], *, limits: Limits) -> Asked[B]:
    """Read a request.

    Raises:
        Refusal: it is neither JSON nor a form, or its fields are not those of `kind`.
    """
    named = request.headers.get("content-type", "")
    content_type = named.partition(";")[0].strip().lower()
    content = await request.body()
    try:
        if content_type == "multipart/form-data":
            given, files = _form(content, kind, content_type=named, limits=limits)
            return Asked(kind.model_validate(given), files)
        if content_type == "application/json":
            check_values(content, limits)
            return Asked(kind.model_validate_json(content, strict=True), [])
    except ValidationError as error:
        raise explained(error) from None
    raise Refusal(415, "expected content-type application/json or multipart/form-data", "content_type")


def check_values(content: bytes, limits: Limits) -> None:
    """Refuse more values than could be meant, before they are made: each takes far more than its bytes, and so does
    each that is wrong. Between two values is a comma; all others are in texts.
    """
    most, count = limits.inputs + OTHER_VALUES, 0
    if content.count(b",") <= most:
        return
    for found in TEXT_OR_COMMA.finditer(content):
        count += content[found.start()] == ord(",")
        if count > most:
            raise Refusal(422, f"expected at most {limits.inputs} inputs", "number")


def _form(content: bytes, kind: type[Body], *, content_type: str, limits: Limits) -> tuple[dict[str, Any], list[bytes]]:
    given: dict[str, Any] = {}
    files: list[bytes] = []
    for part in parts_of(content, content_type=content_type, most=limits.inputs + OTHER_VALUES):
        if part.is_file:
            if part.name not in FILES:
                raise Refusal(422, f"expected files under {FILES[0]!r} or {FILES[1]!r}", "form")
            if not part.content:
                raise Refusal(422, "expected a sound, but a file is empty (0 bytes)", "sound", FILES[0])
            files.append(part.content)
        else:
            given.setdefault(part.name, []).append(part.text)
    for name, texts in given.items():
        field = kind.model_fields.get(name)
        many = field is not None and list[str] in (field.annotation, *get_args(field.annotation))
        if not many and len(texts) == 1:
            (given[name],) = texts
    return given, files


def explained(error: ValidationError) -> Refusal:
    """The first thing that is wrong, without what came, which may be long."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return Refusal(400, "the body is not JSON", "json")
    place = [str(part) for part in first["loc"] if part not in ("str", "list[str]")]
    # The name of an unknown field is the client's, and may be anything.
    name = "".join(c for c in ".".join(place)[:80] if c.isprintable()) or None
    return Refusal(422, f"{name or 'the body'}: {first['msg']}", "field", name)
