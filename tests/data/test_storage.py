"""Shards on a web server, well-behaved and not: the same samples as from a folder, or a clear end."""

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice, pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.corpus import tones, write_tar
from data.server import Server
from lapis.data import ahead, storage
from lapis.data.ahead import GAP_BYTES, REQUEST_BYTES, Range, coalesced, expect
from lapis.data.batching import Budget
from lapis.data.loader import Loader, Reading
from lapis.data.mixture import Mixture, Part
from lapis.data.shards import index_shard
from lapis.data.sources import Tars
from lapis.data.storage import Files, PassingError, Patience, StorageError, Thing, expand, store_of

HASTY = Patience(attempts=4, first_wait_seconds=0.01, timeout_seconds=0.6)
IMPATIENT = replace(HASTY, timeout_seconds=0.3)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    monkeypatch.setenv("LAPIS_CACHE", str(tmp_path / "cache"))
    write_tar(tmp_path / "a-000.tar", tones(7))
    write_tar(tmp_path / "a-001.tar", tones(4, name="b"))
    return tmp_path


def _source(server, *, patience=HASTY, **options):
    return Tars(f"{server.root}/a-{{000..001}}.tar", patience=patience, **options)


def _told(samples):
    return [(sample.key, sample.captions, sample.seconds, sample.audio.open()) for sample in samples]


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("domain", [None, "music"])
def test_shards_of_a_server_are_those_of_the_folder(folder, beside, domain):
    here = Tars("a-*.tar", domain=domain).build()
    if beside:
        for path in folder.glob("a-*.tar"):
            index_shard(path)
    with Server(folder) as server:
        there = _source(server, domain=domain).build()
        names = {path for path, *_ in server.asked}
        assert _told(there) == _told(here) and [there.seconds(n) for n in range(len(there))] == [
            sample.seconds for sample in here
        ]
        assert there.total_seconds == here.total_seconds
        assert ("/a-000.tar.index" in names) and str(there[0].audio).endswith(f"a-000.tar:{here[0].key}.flac")
        server.asked.clear()
        again = _source(server, domain=domain).build()
        assert len(again) == len(here)
        # The index is in the cache. (The checker of types looks at a sample of a sequence now and then.)
        assert all(size < 1000 and path.endswith(".tar") for path, _, size in server.asked)


def test_with_its_index_beside_it_a_shard_is_not_read_through(folder):
    index_shard(folder / "a-000.tar")
    with Server(folder) as server:
        Tars(f"{server.root}/a-000.tar", patience=HASTY).build()
        assert sum(size for path, _, size in server.asked if path.endswith(".tar")) < 1000


def test_an_index_of_an_earlier_state_of_a_shard_is_not_taken(folder):
    path = folder / "a-000.tar"
    index_shard(path)
    size = path.stat().st_size
    write_tar(path, dict(reversed(tones(7).items())))
    assert path.stat().st_size == size
    with Server(folder) as server:
        for _ in range(2):  # the second time, what is in the cache
            there = Tars(f"{server.root}/a-000.tar", patience=HASTY).build()
            assert [sample.key for sample in there] == [*tones(7)][::-1]


@pytest.mark.parametrize("trouble", [503, 429, 500, "late", "cut", "short", "drop"])
def test_what_passes_is_waited_for(folder, trouble):
    whole = _told(Tars("a-*.tar").build())
    with Server(folder, troubles=(trouble,) * 2) as server:
        source = _source(server, patience=IMPATIENT if trouble == "late" else HASTY).build()
        for _ in range(2):
            server.troubles = [trouble, trouble, None]
            assert _told(source) == whole
        assert server.met[str(trouble)] == 6


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (503, "gave up after 4 attempts; the last: the server answered 503 Service Unavailable"),
        ("late", r"gave up after 4 attempts; the last: no answer within 0\.3 s"),
        ("cut", r"gave up after 4 attempts; the last: the stream was cut after \d+ of \d+ bytes"),
        ("drop", "gave up after 4 attempts; the last: the connection broke"),
        (403, "the server answered 403 Forbidden"),
        (404, "it is no longer there"),
    ],
)
def test_what_does_not_pass_is_named(folder, trouble, reason):
    with Server(folder) as server:
        source = _source(server, patience=IMPATIENT if trouble == "late" else HASTY).build()
        server.always = trouble
        with pytest.raises(StorageError, match=rf"http://.*a-000\.tar: {reason}"):
            _ = source[0]
        # A connection that was open already may have been given up meanwhile: that is no attempt yet.
        assert server.met[str(trouble)] == {403: 1, 404: 1, "drop": 5}.get(trouble, 4)
        if trouble == 404:
            with pytest.raises(ValueError, match=r"a-000\.tar: expected a tar, there is none"):
                _source(server).build()


def test_a_server_that_is_gone_is_named(folder):
    with Server(folder) as server:
        source = _source(server).build()
    with pytest.raises(StorageError, match=r"gave up after 4 attempts; the last: the connection broke"):
        _ = source[0]


def test_a_shard_that_changed_meanwhile_is_not_read(folder):
    with Server(folder) as server:
        source = _source(server).build()
        write_tar(folder / "a-000.tar", tones(7, seconds=0.5))
        with pytest.raises(StorageError, match=r"a-000\.tar changed while it was in use"):
            _ = source[0]
        assert _told(_source(server).build()) == _told(Tars("a-*.tar").build())


def test_a_server_without_ranges_and_one_that_moves(folder):
    with Server(folder, ranges=False) as server, pytest.raises(StorageError, match="gives whole files only"):
        _source(server).build()
    with Server(folder) as server:
        moved = Tars(f"{server.root}/moved/a-000.tar", patience=HASTY).build()
        assert _told(moved) == _told(Tars("a-000.tar").build())


def test_a_shard_cut_short_on_a_server_is_named(folder):
    content = (folder / "a-000.tar").read_bytes()
    (folder / "a-000.tar").write_bytes(content[: len(content) // 2])
    with Server(folder) as server, pytest.raises(ValueError, match=r"a-000\.tar (is cut short|is not a whole tar)"):
        _source(server).build()


def test_a_cut_index_is_made_anew(folder):
    for path in folder.glob("a-*.tar"):
        whole = index_shard(path).read_bytes()
        (folder / f"{path.name}.index").write_bytes(whole[:-3] if "000" in path.name else whole[:20])
    here = _told(Tars("a-*.tar").build())
    with Server(folder) as server:
        assert _told(_source(server).build()) == here
    assert len(here) == 11


def _loader(mixture, reading=Reading(workers=0)):
    budget = Budget(clips=4, seconds=2.0, clip_seconds=0.35)
    return Loader(mixture, budget=budget, sample_rate=16_000, reading=reading)


def _mixture(server, *, patience=HASTY, **options):
    source = _source(server, patience=patience)
    parts = (Part(source, 2.0), Part(Tars("a-001.tar"), 1.0))
    return Mixture.Config(parts, **options).build(seed=3)


@pytest.mark.parametrize("reading", [Reading(workers=0), Reading(workers=2), Reading(workers=2, threads=True)])
def test_batches_are_the_same_from_a_server_in_trouble(folder, reading):
    parts = (Part(Tars("a-*.tar"), 2.0), Part(Tars("a-001.tar"), 1.0))
    here = list(islice(_loader(Mixture.Config(parts).build(seed=3)).batches(0), 8))
    with Server(folder) as server:
        mixture = _mixture(server, patience=replace(HASTY, attempts=20))  # one clip may meet all of it
        server.troubles = [503, "cut", None, "drop", None, None, "short", None, 503, 503, None]
        there = list(islice(_loader(mixture, reading).batches(0), 8))
        assert not server.troubles
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.waveforms.rows, other.waveforms.rows)
        assert (one.captions, one.position, one.dropped) == (other.captions, other.position, other.dropped)
        assert [draw.sample.key for draw in one.draws] == [draw.sample.key for draw in other.draws]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_store_that_stays_away_stops_the_run_and_no_clip_is_left_out(folder, workers):
    with Server(folder) as server:
        mixture = _mixture(server)
        batches = _loader(mixture, Reading(workers=workers)).batches(0)
        if not workers:
            next(batches)
        server.always = 503
        with pytest.raises(StorageError, match="gave up after 4 attempts") as problem:
            list(islice(batches, 20))
        assert "Traceback" not in str(problem.value)


def test_a_batch_is_asked_for_at_once_and_near_ranges_together(folder):
    with Server(folder) as server:
        source = _source(server, patience=Patience()).build()  # on a busy machine an answer may take its time
        server.asked.clear()
        wanted = [needed for place in range(7) for needed in source.ranges(place)]
        expect(wanted)
        here = Tars("a-000.tar").build()
        assert [source[place].audio.open() for place in range(7)] == [sample.audio.open() for sample in here]
        assert len(server.asked) == 1 and len(wanted) == 14
        # What was expected and not read is let go, and is still there by a request of its own.
        expect(source.ranges(8))
        expect(source.ranges(9))
        assert source[8].audio.open() == Tars("a-001.tar").build()[1].audio.open()
        assert len(ahead._of_this_worker()._coming) == 2


def test_connections_are_kept_and_a_child_makes_its_own(folder):
    with Server(folder) as server:
        source = _source(server).build()
        before = server.connections
        whole = _told(source)
        assert server.connections <= before + 1
        child = os.fork()
        if not child:
            expect([needed for place in range(3) for needed in source.ranges(place)])
            os._exit(0 if _told(source) == whole else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert _told(source) == whole


THING = Thing("http://nowhere/x", 1 << 40, "")


@given(st.lists(st.tuples(st.integers(0, 1 << 25), st.integers(1, 1 << 20)), min_size=1, max_size=40))
def test_requests_cover_their_ranges_and_stay_small(places):
    ranges = [Range(THING, offset, size) for offset, size in places]
    requests = list(coalesced(ranges))
    answered_all = [of for _, answered in requests for of in answered]
    assert len(answered_all) == len(set(ranges)) and set(answered_all) == set(ranges)
    for request, answered in requests:
        assert all(request.offset <= of.offset for of in answered)
        assert request.offset + request.size == max(of.offset + of.size for of in answered)
        assert request.size <= REQUEST_BYTES
    for (one, _), (other, _) in pairwise(requests):
        apart = other.offset - (one.offset + one.size)
        assert apart > GAP_BYTES or other.offset + other.size - one.offset > REQUEST_BYTES - (1 << 20)


def test_things_are_not_mixed_up():
    other = Thing("http://nowhere/y", 100, "")
    requests = list(coalesced([Range(THING, 0, 10), Range(other, 10, 10), Range(THING, 10, 10)]))
    assert [(request.thing, request.offset, request.size) for request, _ in requests] == [
        (THING, 0, 20),
        (other, 10, 10),
    ]


def test_waits_double_and_the_store_may_ask_for_more(monkeypatch):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)

    def fail():
        raise PassingError("busy", wait_seconds=3.0 if len(waits) == 3 else 0.0)

    with pytest.raises(StorageError, match="x: gave up after 6 attempts; the last: busy"):
        Patience(attempts=6, first_wait_seconds=1.0, longest_wait_seconds=4.0).call(fail, name="x")
    for wait, longest in zip(waits, (1, 2, 4, 4, 4), strict=True):
        assert longest / 2 <= wait <= longest
    assert waits[3] >= 3


def test_patterns():
    assert expand("a-{08..11}/{x,y}.tar")[:3] == ["a-08/x.tar", "a-08/y.tar", "a-09/x.tar"]
    assert len(expand("a-{08..11}/{x,y}.tar")) == 8
    for pattern in ("a-{0..}.tar", "a-{5..3}", "a-{x", "a-{}"):
        with pytest.raises(ValueError, match="expected braces as in"):
            expand(pattern)
    with pytest.raises(ValueError, match="a web server lists no files"):
        Tars("https://localhost/a-*.tar").build()
    with pytest.raises(ValueError, match="expected http, https, s3, gs or az, got 'ftp'"):
        Tars("ftp://localhost/a.tar").build()


def test_many_threads_share_a_store(folder):
    with Server(folder) as server:
        source = _source(server).build()
        whole, wrong = _told(source), []
        threads = [threading.Thread(target=lambda: _told(source) == whole or wrong.append(1)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong and store_of(server.root, HASTY) is store_of(f"{server.root}/x", HASTY)


def test_files_are_closed_even_when_python_ends_and_takes_its_modules_apart(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"content")
    files = Files()
    assert files.get(str(tmp_path / "file"), offset=3, size=3) == b"ten"
    descriptor = next(iter(files._open.values())).number
    with monkeypatch.context() as ending:
        ending.setattr(storage, "os", None)
        del files
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_files_closed_for_others_are_still_read_by_those_who_have_them(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "OPEN_FILES", 2)
    paths = [tmp_path / str(number) for number in range(8)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]) * 1000)
    files = storage.Files()

    def read(seed):
        order = random.Random(seed).choices(range(8), k=500)
        return all(files.get(str(paths[number]), offset=7, size=900) == bytes([number]) * 900 for number in order)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(16)))
