"""Twins: together and alone. And: nobody pays for a neighbour."""

import asyncio

import numpy as np
import pytest
from serving import Counting, address, client_of, noise, run, until, wav

import tiny
from lapis.serve.batching import Batcher, Turn
from lapis.serve.limits import Limits


async def _held(embedder, client):
    """Hold the tower with a first request, so that what comes next waits together."""
    embedder.open.clear()
    first = asyncio.create_task(client.post("/v1/embeddings", json={"input": "first"}))
    await until(embedder.entered.is_set)
    return first


def test_requests_that_wait_go_together_and_each_gets_its_own():
    model = tiny.model(0)
    texts = [f"text number {number}" * (1 + number) for number in range(6)]
    clips = [noise(0.2 + 0.13 * number, seed=number) for number in range(5)]

    async def scenario():
        embedder = Counting(model)
        async with client_of(embedder) as client:

            async def ask(given):
                answer = await client.post("/v1/embeddings", json={"input": given})
                assert answer.status_code == 200, answer.text
                return np.array([row["embedding"] for row in answer.json()["data"]], np.float32)

            first = await _held(embedder, client)
            asked = [ask(text) for text in texts] + [ask(address(wav(clip))) for clip in clips]
            tasks = [asyncio.create_task(one) for one in asked]
            service = client.gate.service
            await until(lambda: (len(service._texts._waiting), len(service._sounds._waiting)) == (6, 5))
            embedder.open.set()
            await first
            found = await asyncio.gather(*tasks)
            assert embedder.batches[0] == 1 and sorted(embedder.batches[1:]) == [5, 6]
            return found

    found = run(scenario())
    for text, vectors in zip(texts, found):
        np.testing.assert_allclose(vectors, model.embed_text([text]), atol=1e-5)
    for clip, vectors in zip(clips, found[len(texts) :]):
        np.testing.assert_allclose(vectors, model.embed_audio([clip]), atol=1e-5)


def _batcher(embed, *, turn, most_items=4, most_cost=100.0):
    seen = []
    batcher = Batcher(
        embed,
        turn=turn,
        width=1,
        most_items=most_items,
        most_cost=most_cost,
        observe=lambda number, seconds: seen.append(number),
    )
    return batcher, seen


def test_a_batch_keeps_its_limits():
    async def scenario():
        turn = Turn()
        batcher, seen = _batcher(lambda values: np.array(values, np.float32)[:, None], turn=turn, most_cost=10.0)
        async with turn.line:
            tasks = [asyncio.create_task(batcher([float(n)], costs=[c])) for n, c in enumerate((4.0, 6.0, 1.0, 30.0))]
            tasks += [asyncio.create_task(batcher([float(n)])) for n in range(4, 10)]
            await asyncio.sleep(0)
        found = np.concatenate(await asyncio.gather(*tasks))
        await turn.close()
        return found, seen

    found, seen = run(scenario())
    assert found[:, 0].tolist() == list(range(10))
    assert seen == [2, 1, 1, 4, 2]  # by cost, by cost, more than fits alone, by number


def test_what_the_tower_refuses_costs_its_neighbours_nothing():
    def embed(values):
        if 2.0 in values:
            raise ValueError("two")
        return np.array([[np.nan if value == 3.0 else value] for value in values], np.float32)

    async def scenario():
        turn = Turn()
        batcher, _ = _batcher(embed, turn=turn)
        async with turn.line:
            tasks = [asyncio.create_task(batcher([float(number)])) for number in range(4)]
            await asyncio.sleep(0)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        await turn.close()
        return found

    found = run(scenario())
    assert [found[0].item(), found[1].item()] == [0.0, 1.0]
    assert isinstance(found[2], ValueError) and isinstance(found[3], RuntimeError)


def test_who_does_not_wait_any_more_is_left_out():
    async def scenario():
        turn, ran = Turn(), []
        batcher, seen = _batcher(lambda values: np.array(values, np.float32)[:, None], turn=turn)
        async with turn.line:
            left, stays = (asyncio.create_task(batcher([number])) for number in (1.0, 2.0))
            alone = asyncio.create_task(turn.alone(lambda: ran.append("never")))
            await asyncio.sleep(0.01)
            left.cancel(), alone.cancel()
            await asyncio.sleep(0)
        assert (await stays).item() == 2.0 and seen == [1]
        with pytest.raises(asyncio.CancelledError):
            await alone
        await turn.close()
        assert not ran

    run(scenario())


def test_what_is_begun_keeps_the_tower_until_it_ends():
    """Though its client got its 504: nothing runs beside it, and its sound counts as held."""

    async def scenario():
        embedder = Counting()
        limits = Limits(answer_seconds=0.1)
        async with client_of(embedder, limits=limits) as client:
            embedder.open.clear()
            fields = {"audio": address(wav(noise())), "labels": ["a"]}
            late = await client.post("/v1/classify", json=fields)
            assert (late.status_code, late.json()["error"]["code"]) == (504, "answer")
            client.gate.service.limits = Limits()
            held = client.gate.service.held_seconds
            waits = asyncio.create_task(client.post("/v1/embeddings", json={"input": "next"}))
            await asyncio.sleep(0.02)
            assert embedder.batches == [1]
            embedder.open.set()
            assert (await waits).status_code == 200
            assert client.gate.at_once == 0
            await until(lambda: held.taken == 0)

    run(scenario())
