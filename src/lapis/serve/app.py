"""The app: addresses, what watches it, and the gate before them."""

import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from lapis import __version__
from lapis.audio import AudioWarning
from lapis.serve.answers import Alive, Ready
from lapis.serve.describing import describe
from lapis.serve.endpoints import Endpoints
from lapis.serve.gate import OPEN, Gate
from lapis.serve.indexed import Indexed
from lapis.serve.keys import Keys
from lapis.serve.pages import FILES, add_pages
from lapis.serve.refusal import Refusal, of_status
from lapis.serve.service import Service
from lapis.serve.tickets import Tickets


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
            async with tools.manager.run() if tools is not None else nullcontext():
                yield
            gate.draining = True
            await service.close()
            indexed.close()

    app = FastAPI(
        title="Lapis",
        version=__version__,
        description="Sounds and texts in one space.",
        lifespan=life,
        docs_url=None,  # its page asks another site for scripts
        redoc_url=None,
        redirect_slashes=False,
    )
    keys = keys or Keys()
    tickets = Tickets() if len(keys) else None
    indexed = Indexed(service, tickets=tickets)
    endpoints = Endpoints(service, indexed=indexed, root=root)
    endpoints.add_to(app)
    tools = None
    if find_spec("mcp") is not None:
        from lapis.serve.mcp import PATH, Tools

        tools = Tools(endpoints)
        app.router.routes.append(Route(PATH, tools, methods=["POST"], include_in_schema=False))
    indexed.add_to(app)
    add_pages(app)

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

    for path, answer, told in (("/healthz", alive, Alive), ("/readyz", ready, Ready)):
        app.add_api_route(path, answer, methods=["GET"], response_model=None, responses={200: {"model": told}})
    app.add_api_route("/metrics", metrics, methods=["GET"], response_model=None, response_class=PlainTextResponse)

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
    describe(app, with_keys=bool(len(keys)), without_key=OPEN)
    paths = frozenset(app.openapi()["paths"]) | {"/openapi.json", "/mcp"}
    gate = Gate(
        app,
        service=service,
        keys=keys,
        paths=paths,
        loopback_names=loopback_names,
        public=frozenset(FILES),
        tickets=tickets,
    )
    return gate
