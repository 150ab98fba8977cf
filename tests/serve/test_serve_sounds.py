"""What the page asks for: sounds of indexed files, their peaks, times in them, filters; and what it must not get."""

import os

import numpy as np
import pytest
import soundfile
from serving import RATE, Counting, client_of, noise, run

import tiny
from lapis import audio
from lapis.search.index import Index
from lapis.search.localise import Rule, locate
from lapis.serve import indexed
from lapis.serve.catalogue import number_of
from lapis.serve.limits import Limits
from lapis.serve.pages import FILES
from lapis.serve.playing import kind_of
from lapis.serve.tickets import TICKET_SECONDS, Tickets


@pytest.fixture(scope="module")
def model():
    return tiny.model(0)


@pytest.fixture
def disk(model, tmp_path):
    sounds = tmp_path / "sounds"
    (sounds / "deep").mkdir(parents=True)
    soundfile.write(sounds / "a.wav", noise(1.5, seed=1), RATE)
    soundfile.write(sounds / "deep" / "b's.flac", noise(2.0, seed=2), RATE)
    soundfile.write(sounds / "deep" / "c.aiff", noise(3.0, seed=3), RATE, subtype="PCM_24")
    index = Index.create_or_open(
        tmp_path / "index", embedder_identity=model.identity, width=model.width, window_seconds=1.0
    )
    index.update(sounds, embedder=model)
    return tmp_path


def path_of(disk, name):
    return (disk / "sounds" / name).resolve()


def address(disk, name, rest=""):
    return f"/v1/sounds/{number_of(path_of(disk, name))}{rest}"


def told(answer, status=200):
    assert answer.status_code == status, answer.text
    return answer


def test_a_player_gets_the_bytes_it_asks_for(model, disk, monkeypatch):
    monkeypatch.setattr(indexed, "SLICE_BYTES", 5000)
    content = path_of(disk, "a.wav").read_bytes()

    async def scenario():
        async with client_of(Counting(model), index=disk / "index", root=disk / "sounds") as client:
            # Nothing was searched: as after a restart.
            whole = told(await client.get(address(disk, "a.wav")))
            assert whole.content == content and whole.headers["content-type"] == "audio/wav"
            assert whole.headers["accept-ranges"] == "bytes"
            for asked, begin, end in (
                ("bytes=0-99", 0, 100),
                ("bytes=7-", 7, 5007),  # no more at once than an answer has
                ("bytes=-10", len(content) - 10, len(content)),
                (f"bytes={len(content) - 3}-{10**15}", len(content) - 3, len(content)),
            ):
                part = told(await client.get(address(disk, "a.wav"), headers={"range": asked}), 206)
                assert part.content == content[begin:end]
                assert part.headers["content-range"] == f"bytes {begin}-{end - 1}/{len(content)}"
            other = {"range": "bytes=0-9", "if-range": '"another"'}
            assert told(await client.get(address(disk, "a.wav"), headers=other)).content == content
            same = {"range": "bytes=0-9", "if-range": whole.headers["etag"]}
            told(await client.get(address(disk, "a.wav"), headers=same), 206)
            for odd in ("bytes=1-2,4-5", "bytes=-", "seconds=1-2", "bytes=a-"):
                assert told(await client.get(address(disk, "a.wav"), headers={"range": odd})).content == content
            past = told(await client.get(address(disk, "a.wav"), headers={"range": "bytes=999999-"}), 416)
            assert past.headers["content-range"] == f"bytes */{len(content)}"
            told(await client.get(address(disk, "deep/b's.flac")))

    run(scenario())


def test_what_browsers_cannot_play_comes_as_wav_in_any_pieces(model, disk, tmp_path):
    async def scenario():
        async with client_of(Counting(model), index=disk / "index") as client:
            whole = told(await client.get(address(disk, "deep/c.aiff")))
            assert whole.headers["content-type"] == "audio/wav"
            for begin, end in ((0, 20), (30, 60), (44, 4044), (45, 46), (1001, 5000), (90_000, 96_044)):
                wanted = {"range": f"bytes={begin}-{end - 1}"}
                part = told(await client.get(address(disk, "deep/c.aiff"), headers=wanted), 206)
                assert part.content == whole.content[begin:end], (begin, end)
            return whole.content

    content = run(scenario())
    (tmp_path / "out.wav").write_bytes(content)
    given = audio.read(path_of(disk, "deep/c.aiff"))
    np.testing.assert_allclose(audio.read(tmp_path / "out.wav"), np.clip(given, -1, 1), atol=1 / 32767)


def test_only_unchanged_files_of_the_index_are_given(model, disk):
    async def scenario():
        async with client_of(Counting(model), index=disk / "index") as client:
            outside = disk / "secret.wav"
            outside.write_bytes(path_of(disk, "a.wav").read_bytes())
            for number in (number_of(outside), "0" * 16, "a" * 999, "..%2F..%2Fsecret.wav", "%00", "A" * 16):
                for rest in ("", "/peaks"):
                    answer = await client.get(f"/v1/sounds/{number}{rest}")
                    assert answer.status_code == 404 and str(disk) not in answer.text
            told(await client.get(address(disk, "a.wav")))
            changed = path_of(disk, "a.wav")
            os.utime(changed, ns=(1, 1))
            path_of(disk, "deep/c.aiff").unlink()
            for name in ("a.wav", "deep/c.aiff"):
                for rest in ("", "/peaks"):
                    assert "has changed" in told(await client.get(address(disk, name, rest)), 404).text
            found = told(await client.post("/v1/locate", json={"id": number_of(changed), "texts": ["x"]}), 404)
            assert str(disk) not in found.text
            # What is indexed later is found too, and what has changed is again.
            soundfile.write(path_of(disk, "new.wav"), noise(0.5, seed=9), RATE)
            Index.open(disk / "index").update(disk / "sounds", embedder=model)
            for name in ("new.wav", "a.wav"):
                told(await client.get(address(disk, name)))
        async with client_of(model) as client:
            assert "no index" in told(await client.get(address(disk, "a.wav")), 404).text

    run(scenario())


def test_peaks_are_the_largest_magnitudes(model, disk):
    waveform = audio.read(path_of(disk, "deep/c.aiff"))

    async def scenario():
        limits = Limits(sound_seconds=2.0)
        async with client_of(Counting(model), index=disk / "index", limits=limits) as client:
            ask = address(disk, "a.wav", "/peaks?points=30")
            whole = told(await client.get(ask)).json()
            assert (whole["start_seconds"], whole["end_seconds"], whole["seconds"]) == (0.0, 1.5, 1.5)
            wanted = np.abs(audio.read(path_of(disk, "a.wav"))).reshape(30, -1).max(1)
            np.testing.assert_allclose(whole["peaks"], wanted, atol=1e-4)
            assert whole["sound"] == address(disk, "a.wav")
            assert told(await client.get(ask)).json() == whole
            # Of a longer file as much as a request may have, about the second that is asked for.
            for around, start in ((0.0, 0.0), (1.6, 0.6), (99.0, 1.0)):
                part = await client.get(address(disk, "deep/c.aiff", f"/peaks?points=20&around_seconds={around}"))
                part = told(part).json()
                assert part["start_seconds"] == pytest.approx(start) and part["seconds"] == 3.0
                begin = round(start * RATE)
                wanted = np.abs(waveform[begin : begin + 2 * RATE]).reshape(20, -1).max(1)
                np.testing.assert_allclose(part["peaks"], wanted, atol=1e-4)
            for odd in ("points=15", "points=2001", "points=a", "points=nan", "points=16.5", "around_seconds=-1"):
                told(await client.get(address(disk, "a.wav", f"/peaks?{odd}")), 422)

    run(scenario())


def test_times_in_an_indexed_file(model, disk):
    path = path_of(disk, "deep/c.aiff")
    texts = ["a dog", "rain"]

    async def scenario():
        limits = Limits(sound_seconds=2.5)
        async with client_of(model, index=disk / "index", limits=limits) as client:
            ask = {"id": number_of(path), "texts": texts, "heat": True}
            assert "lasts 3 s" in told(await client.post("/v1/locate", json=ask), 413).text
            ask |= {"start_seconds": 1.0, "threshold": -1.0}
            found = told(await client.post("/v1/locate", json=ask)).json()
            told(await client.post("/v1/locate", json=ask | {"audio": "data:audio/wav;base64,AAAA"}), 422)
            told(await client.post("/v1/locate", json=ask | {"start_seconds": 3.0}), 422)
            assert client.gate.service.held_seconds.taken == 0
            return found

    found = run(scenario())
    rule = Rule(threshold=-1.0)
    wanted = locate(audio.read(path, start_seconds=1.0), texts=texts, embedder=model, rule=rule)
    for one, same in zip(found["found"], wanted.found, strict=True):
        assert one["nearest"]["begin_seconds"] == pytest.approx(same.nearest.begin_seconds + 1.0)
        (span,) = one["spans"]
        assert (span["begin_seconds"], span["end_seconds"]) == pytest.approx((1.0, 3.0))
        assert len(one["heat"]) == len(wanted.frames.scores) and all(0.5 <= value <= 1 for value in one["heat"])


def test_a_search_may_be_narrowed(model, disk):
    async def scenario(fields, root=disk / "sounds"):
        async with client_of(Counting(model), index=disk / "index", root=root) as client:
            return await client.post("/v1/search", json={"query": "a dog", **fields})

    names = lambda **fields: {hit["name"] for hit in told(run(scenario(fields))).json()["data"]}  # noqa: E731
    assert names(below="deep") == names(below="/deep/") == {"deep/b's.flac", "deep/c.aiff"}
    assert names(below="deep", longest_seconds=2.5) == {"deep/b's.flac"}
    assert names(shortest_seconds=1.9, since="2020-01-01") == {"deep/b's.flac", "deep/c.aiff"}
    assert names(tags=["night"]) == names(until="2020-01-01") == names(below="dee") == set()
    for odd in ({"below": ".."}, {"below": "/"}, {"since": "yesterday"}, {"shortest_seconds": 3, "longest_seconds": 2}):
        assert str(disk) not in told(run(scenario(odd)), 422).text
    # Without names of folders none may be guessed.
    told(run(scenario({"below": "deep"}, root=None)), 422)


def test_a_ticket_opens_one_sound_for_a_while(model, disk):
    from lapis.serve.keys import Keys

    async def scenario():
        keys = Keys(["k" * 20])
        bearer = {"authorization": f"Bearer {'k' * 20}"}
        async with client_of(Counting(model), keys=keys, index=disk / "index") as client:
            told(await client.get(address(disk, "a.wav")), 401)
            peaks = told(await client.get(address(disk, "a.wav", "/peaks"), headers=bearer)).json()
            assert "k" * 20 not in peaks["sound"]
            told(await client.get(peaks["sound"]))
            ticket = peaks["sound"].partition("?")[2]
            for refused in (
                address(disk, "deep/c.aiff", f"?{ticket}"),
                address(disk, "a.wav", f"/peaks?{ticket}"),
                address(disk, "a.wav", f"?{ticket}0"),
                address(disk, "a.wav", "?ticket=9999999999-0-"),
                address(disk, "a.wav", "?ticket=%ff-%00"),
            ):
                told(await client.get(refused), 401)
            told(await client.post(f"/v1/search?{ticket}", json={"query": "a"}), 401)
            for path in FILES:  # the page itself asks for the key
                told(await client.get(path))

    run(scenario())
    now = [1000.0]
    tickets = Tickets(clock=lambda: now[0])
    query = tickets.make("/v1/sounds/a", client="key 3").encode()
    assert tickets.client("/v1/sounds/a", query) == "key 3"
    assert Tickets(clock=lambda: now[0]).client("/v1/sounds/a", query) is None
    now[0] += TICKET_SECONDS + 1
    assert tickets.client("/v1/sounds/a", query) is None


def test_the_page_comes_whole_and_strict(model):
    async def scenario():
        async with client_of(model) as client:
            page = told(await client.get("/"))
            policy = page.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
            for path, (name, _) in FILES.items():
                given = told(await client.get(path))
                assert len(given.content) > 100 and given.headers["x-content-type-options"] == "nosniff"
                words = given.text.replace("http://www.w3.org/2000/svg", "")
                assert "http://" not in words and "https://" not in words, f"{name} names another site"
            told(await client.get("/page/none.js"), 404)
            metrics = (await client.get("/metrics")).text
            assert 'path="page"' in metrics

    run(scenario())


def test_kinds_are_known_by_content(tmp_path):
    clip = noise(0.1)
    known = {"WAV": "audio/wav", "FLAC": "audio/flac", "OGG": "audio/ogg", "MP3": "audio/mpeg"}
    for form in ("WAV", "FLAC", "OGG", "MP3", "AIFF", "W64", "CAF", "AU", "RF64"):
        path = tmp_path / f"a.{form}"
        soundfile.write(path, clip, RATE, format=form)
        assert kind_of(path.read_bytes()[:64]) == known.get(form), form
    soundfile.write(tmp_path / "b.wav", clip, RATE, subtype="IMA_ADPCM")
    assert kind_of((tmp_path / "b.wav").read_bytes()[:64]) is None
    # A field recorder writes about the take first; the letters of the coding may stand there too.
    head, rest = (tmp_path / "a.WAV").read_bytes()[:12], (tmp_path / "a.WAV").read_bytes()[12:]
    about = b"bext" + (1000).to_bytes(4, "little") + b"fmt of my own".ljust(1000, b"\0")
    assert kind_of(head + about + rest) == "audio/wav"
    assert kind_of(b"") is None and kind_of(b"\xff\xf1\x50\x80") is None  # a raw stream of AAC
    assert kind_of(bytes.fromhex("1a45dfa3") + b"..webm") == "audio/webm"
    assert kind_of(b"....ftypM4A ") == "audio/mp4"
