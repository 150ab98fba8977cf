"""What the addresses answer: the same as the library, and a sentence for what they cannot."""

import base64
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from serving import RATE, Counting, address, client_of, noise, run, wav

import tiny
from lapis.captioner import Captioner
from lapis.objectives.caption import Caption
from lapis.search.index import Index
from lapis.search.localise import Rule, locate
from lapis.search.query import Query
from lapis.serve.limits import Limits


@pytest.fixture(scope="module")
def model():
    return tiny.model(0)


def vectors_of(answer):
    assert answer.status_code == 200, answer.text
    return np.array([row["embedding"] for row in answer.json()["data"]], np.float32)


def refused(answer, status, words):
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"} and words in answer.json()["error"]["message"], answer.text
    assert "/" not in answer.json()["error"]["message"].replace("application/json or multipart/form-data", "").replace(
        "data:audio/", ""
    )


def test_embeddings_are_the_librarys(model):
    clips = [noise(seed=1), noise(0.3, seed=2)]

    async def scenario():
        async with client_of(Counting(model)) as client:
            ask = lambda **fields: client.post("/v1/embeddings", json=fields)  # noqa: E731
            one = await ask(input="a dog", model="tiny", user="somebody")
            assert one.json()["object"] == "list" and one.json()["model"] == "tiny"
            assert one.json()["data"][0]["object"] == "embedding" and one.json()["usage"]["total_tokens"] == 0
            np.testing.assert_allclose(vectors_of(one), model.embed_text(["a dog"]), atol=1e-6)
            # Sounds and texts of one request keep their places.
            mixed = await ask(input=[address(wav(clips[0])), "犬", address(wav(clips[1]))])
            sounds = model.embed_audio(clips)
            wanted = np.stack([sounds[0], model.embed_text(["犬"])[0], sounds[1]])
            np.testing.assert_allclose(vectors_of(mixed), wanted, atol=1e-5)
            # As OpenAI's own client asks.
            packed = (await ask(input=["a dog"], encoding_format="base64")).json()["data"][0]["embedding"]
            assert np.frombuffer(base64.b64decode(packed), "<f4").tolist() == vectors_of(one)[0].tolist()
            form = await client.post(
                "/v1/embeddings",
                data={"model": "tiny", "input": ["a dog"]},
                files=[("file", ("a.wav", wav(clips[0]))), ("file", ("b.wav", wav(clips[1])))],
            )
            np.testing.assert_allclose(vectors_of(form)[1:], sounds, atol=1e-5)
            text = await ask(input=["data:audio/wav;base64,AAAA"], modality="text")
            assert vectors_of(text).shape == (1, model.width)

    run(scenario())


def test_classes_and_their_meaning(model):
    clip = noise(seed=3)
    labels = ["dog", "rain", "a door"]

    async def scenario(calibrated):
        embedder = Counting(model)
        embedder.calibration = tiny.calibration(model, least_score=2.0) if calibrated else None
        async with client_of(embedder) as client:
            fields = {"labels": labels, "template": "the sound of {}"}
            answer = await client.post("/v1/classify", data=fields, files={"audio": wav(clip)})
            assert answer.status_code == 200, answer.text
            return answer.json()

    plain, told = run(scenario(False)), run(scenario(True))
    texts = model.embed_text([f"the sound of {label}" for label in labels])
    wanted = dict(zip(labels, (texts @ model.embed_audio([clip])[0]).tolist()))
    assert {row["label"]: row["score"] for row in plain["data"]} == pytest.approx(wanted, abs=1e-5)
    scores = [row["score"] for row in plain["data"]]
    assert scores == sorted(scores, reverse=True) and plain["nothing_matches"] is False
    assert told["nothing_matches"] is True and all(0 < row["probability"] < 1 for row in told["data"])


def test_times_are_those_of_the_library(model):
    loud = noise(2.0) * np.repeat([0.01, 1], RATE).astype(np.float32)

    async def scenario():
        async with client_of(model) as client:
            fields = {"audio": address(wav(loud)), "texts": ["dog", "rain"], "threshold": -1}
            answer = await client.post("/v1/locate", json=fields)
            assert answer.status_code == 200, answer.text
            return answer.json()

    found = run(scenario())
    wanted = locate(loud, texts=["dog", "rain"], embedder=model, rule=Rule(threshold=-1.0))
    for one, same in zip(found["found"], wanted.to_dict()["found"]):
        assert (one["text"], one["count"], one["heard_seconds"]) == (same["text"], 1, 2.0)
        assert one["nearest"]["score"] == pytest.approx(same["nearest"]["score"], abs=1e-5)


def test_search_tells_names_and_no_places(model, tmp_path):
    (tmp_path / "sounds" / "deep").mkdir(parents=True)
    for number in range(3):
        (tmp_path / "sounds" / "deep" / f"{number}.wav").write_bytes(wav(noise(1.0, seed=number)))
    index = Index.create_or_open(
        tmp_path / "index", embedder_identity=model.identity, width=model.width, window_seconds=0.5
    )
    index.update(tmp_path / "sounds", embedder=model)
    model_calibrated = Counting(model)
    model_calibrated.calibration = tiny.calibration(model)

    async def scenario():
        embedder = model_calibrated
        async with client_of(embedder, index=tmp_path / "index", root=tmp_path / "sounds") as client:
            found = (await client.post("/v1/search", json={"query": "a dog", "limit": 2})).json()
            wanted = index.search_text("a dog", embedder=embedder, limit=2)
            assert [hit["name"] for hit in found["data"]] == [f"deep/{hit.path.name}" for hit in wanted]
            assert [hit["probability"] for hit in found["data"]] == [hit.probability for hit in wanted]
            like = (tmp_path / "sounds" / "deep" / "1.wav").read_bytes()
            found = await client.post("/v1/search", files={"file": like})
            scores = [hit.score for hit in index.search_like(like, embedder=embedder)]
            assert [hit["score"] for hit in found.json()["data"]] == pytest.approx(scores, abs=1e-5)
            assert str(tmp_path) not in found.text
            for fields, sounds in (({"query": "a dog", "unlike": "rain"}, ()), ({"query": "a dog"}, (like,))):
                files = {"file": like} if sounds else None
                found = (await client.post("/v1/search", **{"data" if sounds else "json": fields}, files=files)).json()
                query = Query(texts=("a dog",), sounds=sounds, unlike_texts=() if sounds else ("rain",))
                scores = [hit.score for hit in index.search_query(query, embedder=embedder)]
                assert [hit["score"] for hit in found["data"]] == pytest.approx(scores, abs=1e-5)
                assert {hit["probability"] for hit in found["data"]} == {None}
            refused(await client.post("/v1/search", json={"query": "x", "limit": 101}), 422, "at most 100")
            refused(await client.post("/v1/search", json={"unlike": "rain"}), 422, "a query, a sound, or both")
            shutil.rmtree(next((tmp_path / "index").glob("*.lance")))
            # What the table says by itself is no answer either.
            for asked in (client.post("/v1/search", json={"query": "a dog"}), client.get(f"/v1/sounds/{'0' * 16}")):
                refused(await asked, 503, "the index cannot be searched now")
            (tmp_path / "index" / "index.json").write_text("{}")
            gone = await client.post("/v1/search", json={"query": "a dog"})
            refused(gone, 503, "the index cannot be searched now")
            assert gone.headers["retry-after"] == "10"
        async with client_of(embedder) as client:
            refused(await client.post("/v1/search", json={"query": "a dog"}), 404, "no index")

    run(scenario())


def test_a_model_without_captions_says_so(model):
    async def scenario():
        async with client_of(model) as client:
            refused(await client.post("/v1/caption", files={"file": wav(noise())}), 404, "no captions")
            models = (await client.get("/v1/models")).json()["data"][0]
            assert models["id"] == "tiny" and "caption" not in models["can"] and models["width"] == model.width

    run(scenario())


def test_a_caption_is_the_captioners():
    model = tiny.model(0, audio=replace(tiny.CONFIG.audio, width=32, augment=None), chunk_seconds=1.0)
    config = Caption.Config(width=32, depth=1, heads=2, hidden=32, max_tokens=5)
    captioner = Captioner(model, config=config, decoder=config.build(model).decoder)

    async def scenario():
        async with client_of(model, captioner=captioner) as client:
            said = await client.post("/v1/caption", files={"file": wav(noise())}, data={"beam": "2"})
            assert said.status_code == 200, said.text
            assert said.json()["text"] == captioner.caption([noise()], beam=2)[0]
            refused(await client.post("/v1/caption", files={"file": wav(noise(1.1))}), 413, "at most 1 s at once")
            assert "caption" in (await client.get("/v1/models")).json()["data"][0]["can"]

    run(scenario())


@pytest.mark.parametrize(
    ("path", "fields", "status", "words"),
    [
        ("embeddings", {"input": []}, 422, "expected 1 to 4, got 0"),
        ("embeddings", {"input": ["a"] * 5}, 422, "expected 1 to 4, got 5"),
        ("embeddings", {"input": " "}, 422, "text 0 is empty"),
        ("embeddings", {"input": "a" * 41}, 413, "longer than 40 characters"),
        ("embeddings", {"input": "\ud800"}, 400, "not JSON"),
        ("embeddings", {"input": [[1, 2]]}, 422, "valid string"),
        ("embeddings", {"input": "a", "model": "other"}, 404, "'tiny' alone"),
        ("embeddings", {"input": "a", "dimensions": 3}, 422, "this model has 8"),
        ("embeddings", {"input": "a", "dimension": 8}, 422, "dimension: Extra inputs"),
        ("embeddings", {"input": "http://a.b/c.wav", "modality": "audio"}, 422, "no address is fetched"),
        ("embeddings", {"input": "data:audio/wav;base64,@@"}, 422, "expected base64"),
        ("embeddings", {"input": address(b"no sound")}, 422, "the sound: expected a sound file"),
        ("embeddings", {"input": address(wav(noise(2.1)))}, 413, "may last 2 s"),
        ("embeddings", {"input": [address(wav(noise(1.1)))] * 2}, 413, "may last 2 s"),
        ("embeddings", {"input": address(wav(noise(0.5))[:-9000])}, 422, "its header promises 0.50 s"),
        ("embeddings", {"input": address(wav(noise(0.1), rate=999))}, 422, "1000 Hz or more"),
        ("embeddings", {"input": address(wav(np.full(999, np.nan, np.float32)))}, 422, "finite samples"),
        ("embeddings", {"input": address(wav(noise() * 1000))}, 422, "the model refuses this input"),
        ("classify", {"audio": address(wav(noise())), "labels": []}, 422, "labels: List should have"),
        ("classify", {"labels": ["a"]}, 422, "expected one sound, got 0"),
        ("classify", {"audio": address(wav(noise())), "labels": ["a"], "template": "{"}, 422, "template"),
        ("locate", {"audio": address(wav(noise())), "texts": ["a"], "hearing": "dense"}, 422, "in windows alone"),
        ("locate", {"audio": address(wav(noise())), "texts": ["a"], "smooth_seconds": -1}, 422, "smooth_seconds"),
    ],
)
def test_what_is_refused(model, path, fields, status, words):
    async def scenario():
        limits = Limits(inputs=4, text_characters=40, sound_seconds=2.0)
        async with client_of(Counting(model), limits=limits) as client:
            refused(await client.post(f"/v1/{path}", content=json.dumps(fields), headers=JSON), status, words)
            assert client.gate.service.held_bytes.taken == 0

    run(scenario())


JSON = {"content-type": "application/json"}


def test_bodies_that_are_none(model):
    async def scenario():
        async with client_of(Counting(model)) as client:
            for content in (b"", b"{", b"[" * 100_000, b"\xff"):
                refused(await client.post("/v1/embeddings", content=content, headers=JSON), 400, "not JSON")
            refused(await client.post("/v1/embeddings", content=b"a"), 415, "expected content-type")
            form = {"content-type": "multipart/form-data; boundary=x"}
            for content in (b"--x\r\n", b"no form at all", b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--"):
                answer = await client.post("/v1/embeddings", content=content, headers=form)
                assert answer.status_code in (400, 422), answer.text
            refused(await client.post("/v1/embeddings", files={"file": b""}), 422, "empty (0 bytes)")
            refused(await client.post("/v1/classify", files={"other": b"a"}), 422, "expected files under")
            refused(await client.get("/v1/embeddings"), 405, "Method Not Allowed")
            refused(await client.get("/v1/nothing"), 404, "Not Found")

    run(scenario())


def test_the_description_is_openapi(model):
    async def scenario():
        async with client_of(model) as client:
            return (await client.get("/openapi.json")).json()

    told = run(scenario())
    assert told["openapi"].startswith("3.")
    wanted = {f"/v1/{name}" for name in ("embeddings", "search", "locate", "classify", "caption", "models")}
    wanted |= {"/v1/models/{model}", "/v1/sounds/{number}", "/v1/sounds/{number}/peaks"}
    assert wanted | {"/healthz", "/readyz", "/metrics"} == set(told["paths"])
    content = told["paths"]["/v1/classify"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    assert {"labels", "audio"} <= set(content["application/json"]["schema"]["properties"])
    assert "$ref" not in json.dumps(content)  # it would lead nowhere
