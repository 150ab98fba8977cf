"""What answers hold, for OpenAPI: so that a client can be made from the description, and tests hold answers to it."""

from typing import Literal

from pydantic import BaseModel


class Mistake(BaseModel):
    """Why there is no answer, in OpenAI's form."""

    message: str
    type: str
    param: str | None
    """The field that is wrong, where it is one."""
    code: str
    """A word for programs."""


class Refused(BaseModel):
    """No answer."""

    error: Mistake


class Embedding(BaseModel):
    """A unit vector; as base64 its float32 numbers, the lowest byte first."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Zeros: tokens are not counted."""

    prompt_tokens: int
    total_tokens: int


class Embedded(BaseModel):
    """Vectors in the order of what was asked."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class Found(BaseModel):
    """A stretch of an indexed file and its cosine to the query; what is probable is told of a query of words alone."""

    id: str
    name: str
    start_seconds: float
    end_seconds: float
    score: float
    probability: float | None
    heard: bool | None


class Searched(BaseModel):
    """The nearest stretches, the best first."""

    object: Literal["list"]
    data: list[Found]
    nothing_matches: bool
    model: str


class TimeSpan(BaseModel):
    """A time at which a text is heard."""

    begin_seconds: float
    end_seconds: float
    score: float
    probability: float | None


class Heard(BaseModel):
    """When one text is heard."""

    text: str
    spans: list[TimeSpan]
    threshold: float
    rule: str
    nearest: TimeSpan
    count: int
    heard_seconds: float
    heat: list[float] = []
    """Over time, where it was asked for."""


class Located(BaseModel):
    """When texts are heard in a sound."""

    object: Literal["locations"]
    model: str
    start_seconds: float
    seconds: float
    found: list[Heard]


class Label(BaseModel):
    """A name and how well it fits; the last three of a model with a calibration."""

    label: str
    score: float
    probability: float | None = None
    percentile: float | None = None
    heard: bool | None = None


class Classified(BaseModel):
    """Names, the best first."""

    object: Literal["list"]
    data: list[Label]
    nothing_matches: bool
    model: str


class Captioned(BaseModel):
    """What is heard, in words."""

    object: Literal["caption"]
    text: str
    model: str


class Model(BaseModel):
    """The model and what it can."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    identity: str
    width: int
    can: list[str]
    sample_rate: int
    calibrated: bool
    sound_seconds: float
    body_bytes: int
    results: int
    folders: bool


class Models(BaseModel):
    """All there are: one."""

    object: Literal["list"]
    data: list[Model]


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"]


class Ready(BaseModel):
    """Requests are taken."""

    status: Literal["ready"]
    model: str
