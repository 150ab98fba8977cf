"""What every request passes before and after the app: keys, limits, deadlines, and words for what went wrong.

A whole body is read here, within its limits, so that what stands behind never waits for a client.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lapis.serve.keys import Keys
from lapis.serve.limits import Rate
from lapis.serve.refusal import Refusal
from lapis.serve.service import Service

OPEN = frozenset({"/healthz", "/readyz", "/metrics"})
"""For whoever watches the server: without a key, and however busy it is."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
DISCARD_SECONDS = 3.0
log = logging.getLogger("lapis.serve")


class Gone(Exception):  # noqa: N818
    """The client has left."""


class Gate:
    """The outermost layer of the app."""

    def __init__(
        self, app: ASGIApp, *, service: Service, keys: Keys, paths: frozenset[str], loopback_names: bool
    ) -> None:
        """`loopback_names`: answer only to who calls the server by a name of this machine, as is right on loopback."""
        self.app, self.service, self.keys = app, service, keys
        self.paths, self.loopback_names = paths, loopback_names
        self.rate = Rate(service.limits.requests_a_minute)
        self.at_once = 0
        self.draining = False
        self.discard_seconds = DISCARD_SECONDS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the beginning and end of the app."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        metrics, loop = self.service.metrics, asyncio.get_running_loop()
        began = loop.time()
        path = scope["path"] if scope["path"] in self.paths else "other"
        answer = _Answer(send)
        body = _Body(receive, take=self.service.held_bytes.take)
        try:
            await self._through(scope, body, answer)
        except Refusal as refusal:
            metrics.refused.labels(refusal.reason).inc()
            if "expect" not in Headers(scope=scope):  # who asks first is not sending
                await body.discard(self.discard_seconds)
            await answer.refuse(refusal, scope, whole=body.whole)
        except Gone:
            answer.status = answer.status or 499
        except Exception:
            log.exception("a request failed")
            await answer.refuse(Refusal(500, "the server failed", "failed"), scope, whole=body.whole)
        finally:
            self.service.held_bytes.give(float(body.taken))
            metrics.requests.labels(path, str(answer.status)).inc()
            metrics.seconds.labels(path).observe(loop.time() - began)

    async def _through(self, scope: Scope, body: "_Body", answer: "_Answer") -> None:
        limits, headers = self.service.limits, Headers(scope=scope)
        self._check_names(headers)
        if scope["path"] in OPEN:
            if scope["method"] not in ("GET", "HEAD"):
                raise Refusal(405, "Method Not Allowed", "method_not_allowed", headers={"allow": "GET"})
            await self.app(scope, body.replay(b""), answer)
            return
        address = (scope.get("client") or ("unknown", 0))[0]
        client = self.keys.client(headers.get("authorization", "").encode("latin-1"), address=address)
        if self.draining:
            raise Refusal(503, "the server is about to stop", "stopping", retry_seconds=5.0)
        self.rate.count(client)
        if self.at_once >= limits.requests_at_once:
            raise Refusal(429, "the server is busy: come again", "busy", retry_seconds=1.0)
        self.at_once += 1
        self.service.metrics.at_once.set(self.at_once)
        try:
            try:
                async with asyncio.timeout(limits.upload_seconds):
                    content = await body.read(headers.get("content-length"), most=limits.body_bytes)
            except TimeoutError:
                raise Refusal(408, f"the body took longer than {limits.upload_seconds:g} s", "upload") from None
            await self._answered(scope, body, content, answer)
        finally:
            self.at_once -= 1
            self.service.metrics.at_once.set(self.at_once)

    async def _answered(self, scope: Scope, body: "_Body", content: bytes, answer: "_Answer") -> None:
        """Let the app answer, until it is too late or nobody waits any more."""
        seconds = self.service.limits.answer_seconds
        work = asyncio.ensure_future(self.app(scope, body.replay(content), answer))
        gone = asyncio.create_task(body.gone())
        try:
            done, _ = await asyncio.wait({work, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if work in done or answer.ended:  # after the answer's end the server says that the client has gone
                await work
            elif gone in done:
                raise Gone
            else:
                raise Refusal(504, f"the answer took longer than {seconds:g} s", "answer")
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    def _check_names(self, headers: Headers) -> None:
        """Keep out pages of other sites, which a browser on this machine would let reach a server on loopback."""
        host = _host_of(f"//{headers.get('host', '')}")
        if self.loopback_names and host not in LOOPBACK:
            raise Refusal(421, "this server answers to localhost and 127.0.0.1 alone", "host")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            raise Refusal(403, "pages of other sites may not ask this server", "origin")


def _host_of(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


class _Body:
    """A request's body on its way in."""

    def __init__(self, receive: Receive, *, take: Callable[[float], None]) -> None:
        self._receive, self._take = receive, take
        self.taken = 0
        self.whole = False

    async def read(self, length: str | None, *, most: int) -> bytes:
        """All of it, from the budget of all bodies.

        Raises:
            Refusal: it is too large, or there is no room for it now.
            Gone: the client left before it was whole.
        """
        too_large = Refusal(413, f"a request may have {most} bytes here", "body")
        if length is not None and (not length.isdecimal() or int(length[:20]) > most):
            raise too_large
        pieces: list[bytes] = []
        while not self.whole:
            piece = await self._piece()
            if self.taken + len(piece) > most:
                raise too_large
            self._take(float(len(piece)))
            self.taken += len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    async def discard(self, seconds: float) -> None:
        """Read on for a while without keeping anything: who is still sending does not hear what is said."""
        try:
            async with asyncio.timeout(seconds):
                while not self.whole:
                    await self._piece()
        except (TimeoutError, Gone):
            pass

    async def gone(self) -> None:
        """Wait until the client has left."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def replay(self, content: bytes) -> Receive:
        """What the app receives."""
        left = [content]

        async def receive() -> Message:
            if left:
                return {"type": "http.request", "body": left.pop(), "more_body": False}
            return {"type": "http.disconnect"}

        return receive

    async def _piece(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Gone
        self.whole = not message.get("more_body", False)
        return message.get("body", b"")


class _Answer:
    """The way out, which knows whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.begun = self.ended = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun, self.status = True, message["status"]
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.ended = True

    async def refuse(self, refusal: Refusal, scope: Scope, *, whole: bool) -> None:
        """Say why, if nothing has been said yet."""
        if self.begun:
            return
        if not whole:  # what is still to come would be taken for the next request
            refusal.headers["connection"] = "close"

        async def nothing() -> Any:
            return {"type": "http.disconnect"}

        await refusal.response()(scope, nothing, self)
