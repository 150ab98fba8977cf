"""What every request passes before and after the app: keys, limits, deadlines, and words for what went wrong.

A whole body is read here, within its limits, so that what stands behind never waits for a client.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lapis.serve.keys import Keys
from lapis.serve.limits import Rate
from lapis.serve.refusal import Refusal
from lapis.serve.service import Service
from lapis.serve.tickets import Tickets

OPEN = frozenset({"/healthz", "/readyz", "/metrics"})
"""For whoever watches the server: without a key, and however busy it is."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
DISCARD_SECONDS = 3.0
FREE_BYTES = 64 << 10
"""Of each body outside the budget of all, so that a few large ones, or slow ones, do not keep the small ones out."""
NOT_SNIFFED = (b"x-content-type-options", b"nosniff")
"""Words of a client may stand in an answer: no browser shall take it for a page."""
log = logging.getLogger("lapis.serve")


class Gone(Exception):  # noqa: N818
    """The client has left."""


class Gate:
    """The outermost layer of the app."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        service: Service,
        keys: Keys,
        paths: frozenset[str],
        loopback_names: bool,
        public: frozenset[str] = frozenset(),
        tickets: Tickets | None = None,
    ) -> None:
        """Stand before an app.

        Args:
            app: what answers.
            service: its limits and metrics.
            keys: who may ask.
            paths: those that metrics tell apart.
            loopback_names: answer only to who calls the server by a name of this machine, as is right on loopback.
            public: what anybody may have, as a page that asks for the key.
            tickets: what opens an address to who has no key to send.
        """
        self.app, self.service, self.keys = app, service, keys
        self.paths, self.loopback_names = paths, loopback_names
        self.public, self.tickets = public, tickets
        self.rate = Rate(service.limits.requests_a_minute)
        self.uploading = 0
        self._begun: set[_Answer] = set()
        service.metrics.uploading.set_function(lambda: self.uploading)
        service.metrics.at_once.set_function(lambda: self.at_once)
        self.draining = False
        self.discard_seconds = DISCARD_SECONDS

    @property
    def at_once(self) -> int:
        """Requests being answered. One whose end is on its way is none: its client may ask again when it has it."""
        return sum(not answer.ended for answer in self._begun)

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
        path = self._named(scope["path"])
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
        client = scope["lapis.client"] = self._client(scope, headers)
        if self.draining:
            # Who comes again on the same connection would keep the server from ending.
            headers = {"connection": "close"}
            raise Refusal(503, "the server is about to stop", "stopping", retry_seconds=5.0, headers=headers)
        self.rate.count(client)
        self._check_room()
        self.uploading += 1
        try:
            async with asyncio.timeout(limits.upload_seconds):
                content = await body.read(headers.get("content-length"), most=limits.body_bytes)
        except TimeoutError:
            raise Refusal(408, f"the body took longer than {limits.upload_seconds:g} s", "upload") from None
        finally:
            self.uploading -= 1
        # Who is slow to send takes nobody's place until now.
        self._check_room()
        self._begun.add(answer)
        try:
            await self._answered(scope, body, content, answer)
        finally:
            self._begun.discard(answer)

    def _check_room(self) -> None:
        if self.at_once >= self.service.limits.requests_at_once:
            raise Refusal(429, "the server is busy: come again", "busy", retry_seconds=1.0)

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

    def _client(self, scope: Scope, headers: Headers) -> str:
        """Who asks: a key's number, by the key or by a ticket of it, or an address."""
        address = (scope.get("client") or ("unknown", 0))[0]
        if scope["path"] in self.public:
            return address
        if self.tickets is not None and scope["method"] == "GET" and "authorization" not in headers:
            holder = self.tickets.client(scope["path"], scope["query_string"])
            if holder is not None:
                return holder
        return self.keys.client(headers.get("authorization", "").encode("latin-1"), address=address)

    def _named(self, path: str) -> str:
        """What metrics call a path."""
        named = re.sub(r"^/v1/sounds/[^/]+", "/v1/sounds/{number}", path)
        if path in self.public:
            return "page"
        return named if named in self.paths else "other"

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
        """From the budget."""
        self.whole = False
        self._left = asyncio.Event()

    async def read(self, length: str | None, *, most: int) -> bytes:
        """All of it, from the budget of all bodies.

        Raises:
            Refusal: it is too large, or there is no room for it now.
            Gone: the client left before it was whole.
        """
        too_large = Refusal(413, f"a request may have {most} bytes here", "body")
        if length is not None and (not length.isdecimal() or int(length[:20]) > most):
            raise too_large
        content = bytearray()
        while not self.whole:
            content += await self._piece()
            if len(content) > most:
                raise too_large
            more = max(0, len(content) - FREE_BYTES) - self.taken
            self._take(float(more))
            self.taken += more
        return bytes(content)

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
        self._left.set()

    def replay(self, content: bytes) -> Receive:
        """What the app receives: the body, and word that the client has left when it has, not before."""
        left = [content]

        async def receive() -> Message:
            if left:
                return {"type": "http.request", "body": left.pop(), "more_body": False}
            await self._left.wait()
            return {"type": "http.disconnect"}

        return receive

    async def _piece(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Gone
        self.whole = not message.get("more_body", False)
        return message.get("body", b"")


class _Answer:
    """The way out, which knows whether an answer has begun, and whether all of it has been sent or is about to be."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0
        self.begun = self.ended = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun, self.status = True, message["status"]
            headers = [*message.get("headers", []), NOT_SNIFFED]
            message = {**message, "headers": list(dict.fromkeys(headers))}
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.ended = True
        await self._send(message)

    async def refuse(self, refusal: Refusal, scope: Scope, *, whole: bool) -> None:
        """Say why, if nothing has been said yet."""
        if self.begun:
            return
        if not whole:  # what is still to come would be taken for the next request
            refusal.headers["connection"] = "close"

        async def nothing() -> Any:
            return {"type": "http.disconnect"}

        await refusal.response()(scope, nothing, self)
