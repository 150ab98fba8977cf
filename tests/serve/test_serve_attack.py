"""What a hostile client may send: each of these once took the server's memory, its time or its word."""

import asyncio
import json
import tracemalloc

import pytest
from serving import Counting, address, answer_of, client_of, noise, run, running, wait_for, wav

from lapis.serve.gate import _Body
from lapis.serve.keys import Keys
from lapis.serve.limits import Limits
from lapis.serve.running import serve
from lapis.serve.service import Service

JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=x"}
BODY = json.dumps({"input": "a dog"}).encode()
HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def told(answer):
    return answer.status_code, answer.json()["error"]["code"]


def form(*fields, end=b"--x--\r\n"):
    parts = [b'--x\r\nContent-Disposition: form-data; name="' + name + b'"\r\n\r\n' + text for name, text in fields]
    return b"\r\n".join([*parts, end])


async def peak_of(asked):
    tracemalloc.start()
    try:
        return await asked, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [b'{"input":[' + b"1," * 300_000 + b"1]}", b'{"input":[' + b'"",' * 300_000 + b'""]}', b"[" + b"{}," * 300_000],
)
def test_values_are_counted_before_they_are_made(content):
    """A mistake took half a kilobyte: three megabytes of them, fifteen seconds and 1.5 GB."""

    async def scenario():
        async with client_of(Counting()) as client:
            answer, peak = await peak_of(client.post("/v1/embeddings", content=content, headers=JSON))
            assert told(answer) == (422, "number") and peak < 20e6

    run(scenario())


def test_commas_in_texts_are_no_values():
    async def scenario():
        async with client_of(Counting(), limits=Limits(inputs=2)) as client:
            texts = [', "quoted", \\ ' * 100, "," * 4096]
            answer = await client.post("/v1/embeddings", json={"input": texts})
            assert answer.status_code == 200 and len(answer.json()["data"]) == 2
            few = await client.post("/v1/embeddings", json={"input": ["a"] * 100})
            assert told(few) == (422, "number")

    run(scenario())


def test_a_template_is_measured_before_it_is_filled():
    """Thirty megabytes of gaps and a label of four kilobytes were sixty gigabytes."""

    async def scenario():
        async with client_of(Counting()) as client:
            fields = {"audio": address(wav(noise())), "labels": ["a" * 400], "template": "{}" * 500_000}
            answer, peak = await peak_of(client.post("/v1/classify", json=fields))
            assert told(answer) == (413, "text") and peak < 60e6
            short = {"audio": address(wav(noise())), "labels": ["", "dog"], "template": "{} or {}"}
            assert (await client.post("/v1/classify", json=short)).status_code == 200

    run(scenario())


def test_a_form_is_in_utf_8_and_nothing_else():
    """By the codec that a client named a megabyte took minutes, or failed; what was not UTF-8 became other letters."""

    async def scenario():
        async with client_of(Counting()) as client:

            async def send(content, headers=FORM):
                return await client.post("/v1/embeddings", content=content, headers=headers)

            for charset in ("punycode", "undefined", "idna", "utf-16"):
                named = {"content-type": f"multipart/form-data; boundary=x; charset={charset}"}
                assert told(await send(form((b"input", b"a dog")), named)) == (415, "content_type")
            plain = {"content-type": "multipart/form-data; boundary=x; charset=UTF-8"}
            assert (await send(form((b"input", b"a dog")), plain)).status_code == 200
            for broken in (
                form((b"input", b"caf\xe9")),
                form((b"inp\xe9t", b"a")),
                form((b"input", b"a dog"), end=b""),
                form((b"input", b"a dog"), end=b"--x"),
                b"--x\r\nA: b\r\n\r\na dog\r\n--x--\r\n",
            ):
                assert told(await send(broken)) == (400, "form"), broken
            many = form(*[(b"input", b"a")] * 400)
            assert told(await send(many)) == (422, "form")

    run(scenario())


def test_a_large_file_of_a_form_stays_in_memory(monkeypatch):
    import tempfile

    def never(*arguments, **options):
        raise AssertionError("a file on disk")

    async def scenario():
        async with client_of(Counting()) as client:
            monkeypatch.setattr(tempfile, "TemporaryFile", never)
            answer = await client.post("/v1/embeddings", files={"file": wav(noise(20.0))})
            assert answer.status_code == 200

    run(scenario())


def test_a_sound_in_an_unknown_coding_is_refused():
    """It was a failure of the server."""

    async def scenario():
        async with client_of(Counting()) as client:
            content = bytearray(wav(noise()))
            content[20:22] = b"\x99\x66"  # the format of the samples
            answer = await client.post("/v1/embeddings", files={"file": bytes(content)})
            assert told(answer) == (422, "sound") and "no known coding" in answer.text

    run(scenario())


def test_types_are_those_of_the_description():
    async def scenario():
        async with client_of(Counting()) as client:
            for path, fields, name in (
                ("search", {"query": "a", "limit": "2"}, "limit"),
                ("search", {"query": "a", "limit": True}, "limit"),
                ("embeddings", {"input": "a", "dimensions": "8"}, "dimensions"),
            ):
                answer = await client.post(f"/v1/{path}", json=fields)
                assert told(answer) == (422, "field") and answer.json()["error"]["param"] == name
            sound = {"file": wav(noise())}
            heat = {"texts": [f"text {number}" for number in range(17)], "heat": "true"}
            assert told(await client.post("/v1/locate", data=heat, files=sound)) == (422, "field")
            known = await client.get("/v1/models/tiny")
            assert known.json()["id"] == "tiny" and known.headers["x-content-type-options"] == "nosniff"
            assert told(await client.get("/v1/models/some/other")) == (404, "model_not_found")

    run(scenario())


def test_slow_and_large_uploads_leave_room_for_small_ones():
    """Sixty-four slow clients kept everybody out for half a minute; a few with large bodies could have."""
    limits = {"requests_at_once": 1, "held_bytes": 100_000}
    with running(Counting(), **limits) as (server, connect):
        slow, large = connect(), connect()
        slow.sendall(HEAD + b"Content-Length: 100\r\n\r\n{")
        large.sendall(HEAD + b"Content-Length: 200000\r\n\r\n" + b" " * 165_000)
        wait_for(lambda: server.gate.uploading == 2 and server.gate.service.held_bytes.taken > 99_000)
        good = connect()
        for _ in range(3):
            good.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
            said = answer_of(good)
            assert said.startswith(b"HTTP/1.1 200"), said
        assert server.gate.uploading == 2
        for connection in (slow, large, good):
            connection.close()


def test_a_body_in_a_thousand_crumbs_is_not_read_to_its_end():
    """Ten clients with bodies in chunks of a byte kept the server busy for half a minute."""
    with running(Counting()) as (_, connect):
        head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        crumbs = connect()
        closed = b""
        try:
            crumbs.sendall(head + b"1\r\n \r\n" * 100_000)
            closed = crumbs.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert closed == b""
        chunks = connect()
        large = json.dumps({"input": "a dog", "user": "x" * 300_000}).encode()
        pieces = [large[first : first + 200] for first in range(0, len(large), 200)]
        chunks.sendall(head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n")
        assert chunks.recv(65536).startswith(b"HTTP/1.1 200")
        crumbs.close(), chunks.close()


def test_an_app_hears_that_the_client_has_left_when_it_has():
    """It heard so after every body, and a stream ended where it began."""

    async def scenario():
        left = asyncio.Event()

        async def receive():
            await left.wait()
            return {"type": "http.disconnect"}

        body = _Body(receive, take=lambda amount: None)
        replay = body.replay(b"content")
        gone = asyncio.create_task(body.gone())
        assert (await replay())["body"] == b"content"
        waits = asyncio.create_task(replay())
        await asyncio.sleep(0.01)
        assert not waits.done()
        left.set()
        assert (await waits)["type"] == "http.disconnect"
        await gone

    run(scenario())


def test_impossible_numbers_are_one_sentence():
    with pytest.raises(ValueError, match="drain_seconds must be above zero and finite, got inf"):
        Limits(drain_seconds=float("inf"))
    with pytest.raises(ValueError, match="expected a port of 0 to 65535, got 65536"):
        serve(lambda: Service(Counting(), name="tiny"), port=65_536, keys=Keys())
