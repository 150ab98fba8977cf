"""What requests hold: fields as JSON, or as a form with the sounds as files."""

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from lapis.serve.refusal import Refusal
from lapis.serve.sounds import content_of

FILES = ("file", "audio", "file[]", "audio[]")
AUDIO = "A sound as data:audio/...;base64,..., or a file of a form. No address is fetched."


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
    """Words or a sound to search by."""

    query: str = ""
    audio: str = Field("", description=AUDIO)
    limit: int = Field(10, ge=1)


class Locate(Body):
    """A recording and what to listen for."""

    audio: str = Field("", description=AUDIO)
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


async def asked(request: Request, kind: type[B], *, most_inputs: int) -> Asked[B]:
    """Read a request.

    Raises:
        Refusal: it is neither JSON nor a form, or its fields are not those of `kind`.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if content_type == "multipart/form-data":
            given, files = await _form(request, kind, most_inputs=most_inputs)
            return Asked(kind.model_validate(given), files)
        if content_type == "application/json":
            return Asked(kind.model_validate_json(await request.body()), [])
    except ValidationError as error:
        raise _explained(error) from None
    raise Refusal(415, "expected content-type application/json or multipart/form-data", "content_type")


async def _form(request: Request, kind: type[Body], *, most_inputs: int) -> tuple[dict[str, Any], list[bytes]]:
    try:
        form = await request.form(max_files=most_inputs, max_fields=most_inputs + 16)
    except HTTPException:  # its sentence is the parser's
        raise Refusal(400, "the form cannot be read, or has too many parts or too long fields", "form") from None
    try:
        given: dict[str, Any] = {}
        files: list[bytes] = []
        for name in form:
            parts = form.getlist(name)
            uploads = [part for part in parts if isinstance(part, UploadFile)]
            texts = [part for part in parts if isinstance(part, str)]
            if uploads and name not in FILES:
                raise Refusal(422, f"expected files under {FILES[0]!r} or {FILES[1]!r}", "form")
            for upload in uploads:
                content = await upload.read()
                if not content:
                    raise Refusal(422, "expected a sound, but a file is empty (0 bytes)", "sound", FILES[0])
                files.append(content)
            if texts:
                field = kind.model_fields.get(name)
                many = field is not None and list[str] in (field.annotation, *get_args(field.annotation))
                given[name] = texts if many or len(texts) > 1 else texts[0]
        return given, files
    finally:
        await form.close()


def _explained(error: ValidationError) -> Refusal:
    """The first thing that is wrong, without what came, which may be long."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return Refusal(400, "the body is not JSON", "json")
    place = [str(part) for part in first["loc"] if part not in ("str", "list[str]")]
    # The name of an unknown field is the client's, and may be anything.
    name = "".join(c for c in ".".join(place)[:80] if c.isprintable()) or None
    return Refusal(422, f"{name or 'the body'}: {first['msg']}", "field", name)
