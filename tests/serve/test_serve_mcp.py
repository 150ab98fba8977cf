"""Tools for agents: MCP's own client asks, of both kinds of the protocol; behind the same gate as everybody."""

import asyncio
import json

import pytest
from serving import Counting, address, client_of, noise, run, running, wav

import tiny
from lapis.search.index import Index
from lapis.serve.keys import Keys

mcp = pytest.importorskip("mcp")
KEY = "a-key-of-sixteen-characters"
ACCEPT = {"accept": "application/json, text/event-stream"}


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mcp")
    (folder / "sounds").mkdir()
    for number in range(3):
        (folder / "sounds" / f"{number}.wav").write_bytes(wav(noise(1.0, seed=number)))
    model = tiny.model(0)
    index = Index.create_or_open(
        folder / "index", embedder_identity=model.identity, width=model.width, window_seconds=0.5
    )
    index.update(folder / "sounds", embedder=model)
    return model, folder


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_tools_answer_as_the_addresses_do(indexed, mode):
    model, folder = indexed

    async def scenario(at):
        async with mcp.Client(f"{at}/mcp", mode=mode) as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert set(tools) == {"search", "locate", "classify"} and all(tool.output_schema for tool in tools.values())
            found = await client.call_tool("search", {"query": "a dog", "limit": 2})
            data = found.structured_content["data"]
            assert len(data) == 2 and json.loads(found.content[0].text) == found.structured_content
            heard = await client.call_tool("locate", {"id": data[0]["id"], "texts": ["rain"], "threshold": -1})
            assert heard.structured_content["found"][0]["count"] == 1
            named = await client.call_tool("classify", {"audio": address(wav(noise())), "labels": ["a", "b"]})
            assert {row["label"] for row in named.structured_content["data"]} == {"a", "b"}
            for name, arguments, words in (
                ("search", {"query": ""}, "a query, a sound, or both"),
                ("search", {"query": "a", "limit": "2"}, "limit"),
                ("search", {"query": "a", "model": "other"}, "alone"),
                ("locate", {"texts": ["a"]}, "one sound"),
                ("classify", {"audio": address(wav(noise() * 1000)), "labels": ["a"]}, "refuses this input"),
                ("nothing", {}, "expected a tool of classify, locate, search"),
            ):
                refused = await client.call_tool(name, arguments)
                assert refused.is_error and words in refused.content[0].text and "/" not in refused.content[0].text

    with running(Counting(model), index=folder / "index", root=folder / "sounds") as (server, _):
        asyncio.run(scenario(server.address))


def test_the_gate_stands_before_the_tools_too(caplog):
    class Broken(Counting):
        def embed_text(self, texts):
            raise RuntimeError("/secret/place fell down")

    def call(name, **arguments):
        params = {"name": name, "arguments": arguments}
        return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}

    async def scenario():
        key = ACCEPT | {"authorization": f"Bearer {KEY}"}
        async with client_of(Broken(), keys=Keys([KEY]), loopback_names=True) as client:
            assert (await client.post("/mcp", json=call("search"), headers=ACCEPT)).status_code == 401
            strange = key | {"origin": "http://evil.example"}
            assert (await client.post("/mcp", json=call("search"), headers=strange)).status_code == 403
            assert (await client.get("/mcp", headers=key)).status_code == 405  # no stream that never ends
            many = await client.post("/mcp", content=b"[" + b"1," * 2_000_000 + b"1]", headers=key)
            assert many.status_code == 422
            failed = await client.post(
                "/mcp", json=call("classify", audio=address(wav(noise())), labels=["a"]), headers=key
            )
            assert failed.json()["result"]["isError"] and "secret" not in failed.text
            unknown = await client.post("/mcp", json=call("search", query="a"), headers=key)
            assert "expected a tool of classify, locate" in unknown.text  # there is no index
            assert client.gate.at_once == 0

    run(scenario())
    assert "/secret/place fell down" in caplog.text
