"""What a client is told when it gets no answer: a status and a sentence in OpenAI's form, never a path or a trace."""

import math
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse

KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "size_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "unavailable_error",
    504: "timeout_error",
}


@dataclass(eq=False)  # an exception is known by itself
class Refusal(Exception):  # noqa: N818
    """Ends a request with this status; the sentence goes to the client as it stands."""

    status: int
    sentence: str
    reason: str
    """A word for programs and metrics."""
    field_name: str | None = None
    retry_seconds: float | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> JSONResponse:
        """As HTTP."""
        headers = dict(self.headers)
        if self.retry_seconds is not None:
            headers["retry-after"] = str(max(1, math.ceil(self.retry_seconds)))
        return JSONResponse(self.body(), self.status, headers)

    def body(self) -> dict[str, Any]:
        """As OpenAI's clients read it."""
        kind = KINDS.get(self.status, "invalid_request_error")
        return {"error": {"message": self.sentence, "type": kind, "param": self.field_name, "code": self.reason}}


def of_status(status: int, *, headers: dict[str, str] | None = None) -> Refusal:
    """What a framework refuses: no such address, no such method."""
    phrase = HTTPStatus(status).phrase
    return Refusal(status, phrase, phrase.lower().replace(" ", "_"), headers=headers or {})
