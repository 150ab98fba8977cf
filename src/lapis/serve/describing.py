"""What every address has in common in the OpenAPI description: keys, and the refusals of the gate."""

from typing import Any

from fastapi import FastAPI

from lapis.serve.answers import Refused

REFUSALS = {
    400: "Not to be read",
    401: "No key",
    403: "Of a page of another site",
    404: "No such model, index or address",
    405: "Not with this method",
    408: "The body took too long",
    413: "Too large or too long",
    415: "Neither JSON nor a form",
    421: "Called by a name that is not this server's",
    422: "Not what is expected",
    429: "Too many or too much: come again after Retry-After",
    500: "The server failed",
    503: "Not now",
    504: "Took too long",
}


def describe(app: FastAPI, *, with_keys: bool, without_key: frozenset[str]) -> None:
    """Complete an app's description, which is kept."""
    told: dict[str, Any] = app.openapi()
    components = told.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own, which no answer has
        schemas.pop(unused, None)
    schemas.update(_schemas())
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Refused"}}}
    if with_keys:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        told["security"] = [{"key": []}]
    for path, operations in told["paths"].items():
        for operation in operations.values():
            if with_keys and path in without_key:
                operation["security"] = []
            answers = operation["responses"]
            for status, words in REFUSALS.items():
                answers[str(status)] = {"description": words, **answers.get(str(status), {}), "content": content}
            for status in (429, 503):
                answers[str(status)]["headers"] = {
                    "Retry-After": {"schema": {"type": "integer"}, "description": "Seconds"}
                }


def _schemas() -> dict[str, Any]:
    schema = Refused.model_json_schema(ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), "Refused": schema}
