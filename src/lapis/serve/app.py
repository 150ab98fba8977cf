"""The app: addresses, what watches it, and the gate before them."""

import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lapis import __version__
from lapis.audio import AudioWarning
from lapis.serve.endpoints import Endpoints
from lapis.serve.gate import Gate
from lapis.serve.keys import Keys
from lapis.serve.refusal import Refusal, of_status
from lapis.serve.service import Service


def app_of(
    service: Service, *, keys: Keys | None = None, root: Path | None = None, loopback_names: bool = False
) -> Gate:
    """An ASGI app that serves a model; it closes the service when it ends.

    Args:
        service: what answers.
        keys: who may ask; anybody unless told.
        root: below which names of found files are told.
        loopback_names: answer only to who calls the server localhost or 127.0.0.1.
    """

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        # A cut sound is an error here: a client does not see this program's warnings.
        with warnings.catch_warnings():
            warnings.simplefilter("error", AudioWarning)
            yield
            gate.draining = True
            await service.close()

    app = FastAPI(
        title="Lapis",
        version=__version__,
        description="Sounds and texts in one space.",
        lifespan=life,
        docs_url=None,  # its page asks another site for scripts
        redoc_url=None,
        redirect_slashes=False,
    )
    Endpoints(service, root=root).add_to(app)

    async def alive() -> Response:
        """Whether the process answers."""
        return JSONResponse({"status": "alive"})

    async def ready() -> Response:
        """Whether requests are taken."""
        if gate.draining:
            return Refusal(503, "the server is about to stop", "stopping").response()
        return JSONResponse({"status": "ready", "model": service.name})

    async def metrics() -> Response:
        """For Prometheus."""
        return service.metrics.response()

    for path, answer in (("/healthz", alive), ("/readyz", ready), ("/metrics", metrics)):
        app.add_api_route(path, answer, methods=["GET"], response_model=None)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        service.metrics.refused.labels(error.reason).inc()
        return error.response()

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return of_status(error.status_code, headers=dict(error.headers or {})).response()

    async def failed(request: Request, error: Exception) -> Response:
        return Refusal(500, "the server failed", "failed").response()  # the gate logs it

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(HTTPException, unknown)
    app.add_exception_handler(Exception, failed)
    paths = frozenset(app.openapi()["paths"]) | {"/openapi.json"}
    gate = Gate(app, service=service, keys=keys or Keys(), paths=paths, loopback_names=loopback_names)
    return gate
