"""OpenAI's own client asks the server, with nothing changed but the address."""

import asyncio
import time

import numpy as np
import pytest
from serving import Counting, address, noise, running, wav

import tiny
from lapis.serve.keys import Keys

openai = pytest.importorskip("openai")
KEY = "a-key-of-sixteen-characters"


def client_of(server, kind=None, **options):
    kind = kind or openai.OpenAI
    return kind(base_url=f"{server.address}/v1", api_key=KEY, **({"max_retries": 0} | options))


def vectors_of(answer):
    return np.array([row.embedding for row in answer.data], np.float32)


def test_vectors_are_the_librarys():
    model = tiny.model(0)
    texts, clip = ["a dog", "犬が吠えている"], noise()
    with running(Counting(model)) as (server, _), client_of(server) as client:
        assert [of.id for of in client.models.list()] == ["tiny"] and client.models.retrieve("tiny").id == "tiny"
        wanted = model.embed_text(texts)
        for options in ({}, {"encoding_format": "float"}, {"encoding_format": "base64"}, {"dimensions": model.width}):
            answer = client.embeddings.create(model="tiny", input=texts, **options)
            if options.get("encoding_format") == "base64":  # asked for by name it is handed on as it came
                assert all(isinstance(row.embedding, str) for row in answer.data)
                continue
            np.testing.assert_allclose(vectors_of(answer), wanted, atol=1e-5)
            assert [row.index for row in answer.data] == [0, 1] and answer.usage.total_tokens == 0
        one = client.embeddings.create(model="tiny", input="a dog")
        np.testing.assert_allclose(vectors_of(one), wanted[:1], atol=1e-5)
        sound = client.embeddings.create(model="tiny", input=address(wav(clip)))
        np.testing.assert_allclose(vectors_of(sound), model.embed_audio([clip]), atol=1e-5)


def test_what_is_refused_is_one_of_its_errors():
    with running(Counting(), keys=Keys([KEY]), text_characters=40) as (server, _), client_of(server) as client:
        create = client.embeddings.create
        for kind, status, code, fields in (
            (openai.NotFoundError, 404, "model_not_found", {"model": "other", "input": "a dog"}),
            (openai.UnprocessableEntityError, 422, "text", {"model": "tiny", "input": [" "]}),
            (openai.UnprocessableEntityError, 422, "field", {"model": "tiny", "input": [[1, 2]]}),
            (openai.UnprocessableEntityError, 422, "field", {"model": "tiny", "input": "a", "dimensions": 3}),
            (openai.APIStatusError, 413, "text", {"model": "tiny", "input": "a" * 41}),
        ):
            with pytest.raises(kind) as refused:
                create(**fields)
            assert (refused.value.status_code, refused.value.code) == (status, code) and refused.value.body["message"]
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("other")
        with pytest.raises(openai.AuthenticationError) as refused:
            client.with_options(api_key="another-key-of-somebody").embeddings.create(model="tiny", input="a dog")
        assert refused.value.code == "invalid_api_key"


def test_it_comes_again_when_it_is_told_to():
    with running(Counting(), requests_a_minute=60) as (server, _), client_of(server) as client:
        rate, began = server.gate.rate, time.monotonic()
        rate.burst, rate.clock = 1.0, lambda: began
        client.models.list()
        with pytest.raises(openai.RateLimitError) as refused:
            client.models.list()
        assert refused.value.code == "rate" and refused.value.response.headers["retry-after"] == "1"
        later = time.monotonic()
        rate.clock = lambda: began + time.monotonic() - later
        # By itself it would wait for half a second, when there is no room yet.
        assert client.with_options(max_retries=1).models.list().data


def test_fifty_at_once_each_get_their_own():
    model = tiny.model(0)
    texts = [f"text number {number}" for number in range(50)]

    async def scenario(server):
        async with client_of(server, openai.AsyncOpenAI) as client:
            return await asyncio.gather(*[client.embeddings.create(model="tiny", input=text) for text in texts])

    embedder = Counting(model)
    with running(embedder) as (server, _):
        answers = asyncio.run(scenario(server))
    np.testing.assert_allclose(np.concatenate([vectors_of(one) for one in answers]), model.embed_text(texts), atol=1e-5)
    assert sum(embedder.batches) == 50
