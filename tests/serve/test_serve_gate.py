"""Keys, limits and deadlines; and nothing of this machine in an answer, whatever fails."""

import asyncio
import logging

import pytest
from serving import Counting, address, client_of, noise, run, until, wav

from lapis.serve.keys import Keys
from lapis.serve.limits import Budget, Limits, Rate
from lapis.serve.refusal import Refusal

KEY = "a-key-of-sixteen-characters"
SCOPE = {"type": "http", "headers": [], "client": ("a", 1), "query_string": b"", "http_version": "1.1"}


def embed(client, **options):
    return client.post("/v1/embeddings", json={"input": "a dog"}, **options)


def told(answer):
    return answer.status_code, answer.json()["error"]["code"]


def test_only_who_has_a_key_is_answered():
    async def scenario():
        async with client_of(Counting(), keys=Keys(["another-key-of-somebody", KEY])) as client:
            for wrong in (
                {},
                {"authorization": KEY},
                {"authorization": f"Bearer {KEY}x"},
                {"authorization": "Bearer "},
            ):
                answer = await embed(client, headers=wrong)
                assert told(answer) == (401, "invalid_api_key") and answer.headers["www-authenticate"] == "Bearer"
            assert (await embed(client, headers={"authorization": f"Bearer {KEY}"})).status_code == 200
            assert told(await client.get("/v1/models")) == (401, "invalid_api_key")
            for watched in ("/healthz", "/readyz", "/metrics"):
                assert (await client.get(watched)).status_code == 200

    run(scenario())


def test_keys_come_from_a_file_and_the_environment(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# ours\n{KEY}\n\n")
    keys = Keys.read(file, {"LAPIS_API_KEYS": "one-that-is-long-enough, two-that-is-long-enough"})
    assert [keys.client(f"Bearer {key}".encode(), address="") for key in (KEY, "two-that-is-long-enough")] == [
        "key 2",
        "key 1",
    ]
    assert len(Keys.read(None, {})) == 0 and Keys().client(None, address="1.2.3.4") == "1.2.3.4"
    for content, words in (("# none\n", "found none"), ("short\n", "key 1: expected 16"), ("a b" * 9, "key 1")):
        file.write_text(content)
        with pytest.raises(ValueError, match=words) as error:
            Keys.read(file, {})
        assert "short" not in str(error.value)
    with pytest.raises(ValueError, match="expected a file of keys"):
        Keys.read(tmp_path / "absent", {})


def test_a_client_is_told_when_there_is_room_again():
    now = [0.0]
    rate = Rate(60, clock=lambda: now[0])
    for _ in range(60):
        rate.count("a")
    with pytest.raises(Refusal) as refused:
        rate.count("a")
    assert (refused.value.status, refused.value.retry_seconds) == (429, pytest.approx(1.0))
    rate.count("b")
    now[0] = 2.5
    rate.count("a"), rate.count("a")
    with pytest.raises(Refusal):
        rate.count("a")

    async def scenario():
        async with client_of(Counting(), limits=Limits(requests_a_minute=2)) as client:
            answers = [await embed(client) for _ in range(3)]
            assert [answer.status_code for answer in answers] == [200, 200, 429]
            assert int(answers[2].headers["retry-after"]) in range(28, 31)

    run(scenario())


def test_one_more_than_it_takes_is_told_to_come_again():
    async def scenario():
        embedder = Counting()
        async with client_of(embedder, limits=Limits(requests_at_once=2)) as client:
            embedder.open.clear()
            begun = [asyncio.create_task(embed(client)) for _ in range(2)]
            await until(lambda: client.gate.at_once == 2)
            busy = await embed(client)
            assert told(busy) == (429, "busy") and busy.headers["retry-after"] == "1"
            assert (await client.get("/healthz")).status_code == 200
            client.gate.draining = True
            assert told(await embed(client)) == (503, "stopping") and (await client.get("/readyz")).status_code == 503
            embedder.open.set()
            assert [(await one).status_code for one in begun] == [200, 200]
            measured = (await client.get("/metrics")).text
            assert 'lapis_requests_total{path="/v1/embeddings",status="200"} 2.0' in measured
            assert 'lapis_refused_total{reason="busy"} 1.0' in measured and "lapis_batch_items_sum" in measured

    run(scenario())


def test_bodies_and_sounds_have_their_room():
    async def pieces(*sizes):
        for size in sizes:
            yield b"a" * size

    async def scenario():
        limits = Limits(body_bytes=200_000, held_bytes=100_000, held_seconds=1.0)
        async with client_of(Counting(), limits=limits) as client:
            service = client.gate.service
            large = await client.post("/v1/embeddings", content=b"a" * 200_001)
            assert told(large) == (413, "body")
            unsaid = await client.post("/v1/embeddings", content=pieces(150_000, 50_001))
            assert told(unsaid) == (413, "body")
            unsaid = await client.post("/v1/embeddings", content=pieces(100_000, 80_000))
            assert told(unsaid) == (429, "memory")
            for lie in ("x", "-1", "9" * 5000):
                lying = await client.post("/v1/embeddings", content=b"a", headers={"content-length": lie})
                assert told(lying) == (413, "body")
            full = await client.post("/v1/embeddings", json={"input": address(wav(noise(1.2), subtype="PCM_16"))})
            assert told(full) == (429, "memory")
            assert (service.held_bytes.taken, service.held_seconds.taken) == (0, 0)
            fits = await client.post("/v1/embeddings", json={"input": address(wav(noise(0.6), subtype="PCM_16"))})
            assert fits.status_code == 200
            await until(lambda: service.held_seconds.taken == 0)  # when the thread has let go of it

    run(scenario())


def test_a_slow_upload_and_one_that_breaks_off():
    async def slow():
        yield b"{"
        await asyncio.sleep(9)

    async def scenario():
        async with client_of(Counting(), limits=Limits(upload_seconds=0.05)) as client:
            client.gate.discard_seconds = 0.05
            answer = await client.post("/v1/embeddings", content=slow(), headers={"content-type": "application/json"})
            assert told(answer) == (408, "upload")
            messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
            sent = []

            async def receive():
                return next(messages)

            async def send(message):
                sent.append(message)

            await client.gate({**SCOPE, "path": "/v1/embeddings", "method": "POST"}, receive, send)
            assert not sent and client.gate.at_once == 0 and client.gate.service.held_bytes.taken == 0

    run(scenario())


def test_who_has_its_answer_may_ask_again():
    """A client that asked the moment it had all of an answer was told that the server is busy."""

    async def scenario():
        async with client_of(Counting()) as client:
            at_once = []

            async def receive():
                return {"type": "http.request", "body": b""} if not at_once else await asyncio.Event().wait()

            async def send(message):
                at_once.append(client.gate.at_once)

            await client.gate({**SCOPE, "path": "/v1/models", "method": "GET"}, receive, send)
            assert at_once == [1, 0]

    run(scenario())


def test_what_fails_inside_stays_inside(caplog):
    class Broken(Counting):
        def embed_text(self, texts):
            raise RuntimeError("/secret/place fell down")

    async def scenario():
        async with client_of(Broken()) as client:
            answer = await embed(client)
            assert answer.status_code == 500 and answer.json()["error"]["message"] == "the server failed"
            loud = await client.post("/v1/embeddings", json={"input": address(wav(noise() * 1000))})
            assert loud.status_code == 422 and "secret" not in loud.text

    with caplog.at_level(logging.ERROR, "lapis.serve"):
        run(scenario())
    assert "/secret/place fell down" in caplog.text and "too loud" in caplog.text  # for who runs the server


def test_pages_of_other_sites_stay_out():
    async def scenario():
        async with client_of(Counting(), loopback_names=True) as client:
            assert (await embed(client)).status_code == 200
            assert (await embed(client, headers={"origin": "http://localhost:8000"})).status_code == 200
            for host in ("evil.example", "evil.example:8000", "", "["):
                assert told(await embed(client, headers={"host": host})) == (421, "host")
            for origin in ("http://evil.example", "null", "["):
                assert told(await embed(client, headers={"origin": origin})) == (403, "origin")

    run(scenario())


def test_limits_make_sense():
    with pytest.raises(ValueError, match="body_bytes must be above zero and finite, got 0"):
        Limits(body_bytes=0)
    budget = Budget(1.0)
    budget.take(1.0)
    with pytest.raises(Refusal):
        budget.take(0.1)
    budget.give(1.0)
    assert budget.taken == 0
