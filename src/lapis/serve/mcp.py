"""Search, locate and classify as tools of the Model Context Protocol, at an address beside the others.

A tool takes the fields of the address of its name, and gives its answer. Each request is answered by itself: there are
no sessions and no streams, so that the gate's keys, limits and deadlines hold here as everywhere.
"""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, TextContent, Tool, ToolAnnotations
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from lapis import __version__
from lapis.serve.answers import Classified, Located, Searched
from lapis.serve.bodies import Asked, Body, Classify, Locate, Search, check_values, explained
from lapis.serve.endpoints import Endpoints
from lapis.serve.refusal import Refusal

PATH = "/mcp"
log = logging.getLogger("lapis.serve")
Answer = Callable[[Asked[Any]], Awaitable[dict[str, Any]]]


class Tools:
    """An ASGI app of the tools; its manager's `run` must be entered while it is asked."""

    def __init__(self, endpoints: Endpoints) -> None:
        """`endpoints`: what answers; without an index there is no search."""
        self.service = endpoints.service
        self._tools: dict[str, tuple[type[Body], type[BaseModel], Answer]] = {
            "locate": (Locate, Located, endpoints.locate),
            "classify": (Classify, Classified, endpoints.classify),
        }
        if self.service.index is not None:
            self._tools["search"] = (Search, Searched, endpoints.search)
        server = Server(
            "lapis",
            version=__version__,
            instructions="Find sounds by words in any language, and when they are heard in a recording.",
            on_list_tools=self._list,
            on_call_tool=self._call,
        )
        self.manager = StreamableHTTPSessionManager(
            server, json_response=True, stateless=True, max_request_body_size=self.service.limits.body_bytes
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, whose values are counted before they are made."""
        content = await Request(scope, receive).body()
        check_values(content, self.service.limits)
        left = [content]

        async def again() -> Message:
            return {"type": "http.request", "body": left.pop(), "more_body": False} if left else await receive()

        await self.manager.handle_request(scope, again, send)

    async def _list(self, context: Any, params: Any) -> ListToolsResult:
        return ListToolsResult(
            tools=[
                Tool(
                    name=name,
                    description=answer.__doc__,
                    input_schema=kind.model_json_schema(),
                    output_schema=gives.model_json_schema(),
                    annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
                )
                for name, (kind, gives, answer) in self._tools.items()
            ]
        )

    async def _call(self, context: Any, params: CallToolRequestParams) -> CallToolResult:
        try:
            told = await self._answered(params)
        except Refusal as refusal:
            self.service.metrics.refused.labels(refusal.reason).inc()
            return _failed(refusal.sentence)
        except Exception:  # its sentence may tell of files here
            log.exception("a tool failed")
            return _failed("the server failed")
        return CallToolResult(content=[TextContent(text=json.dumps(told, ensure_ascii=False))], structured_content=told)

    async def _answered(self, params: CallToolRequestParams) -> dict[str, Any]:
        if params.name not in self._tools:
            raise Refusal(404, f"expected a tool of {', '.join(sorted(self._tools))}", "tool")
        kind, _, answer = self._tools[params.name]
        try:
            fields = kind.model_validate_json(json.dumps(params.arguments or {}), strict=True)
        except ValidationError as error:
            raise explained(error) from None
        if fields.model is not None:
            self.service.check_name(fields.model)
        return await answer(Asked(fields, []))


def _failed(sentence: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(text=sentence)], is_error=True)
