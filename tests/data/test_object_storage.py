"""Shards in an object store, well-behaved and not, through obstore itself: the same samples as from a folder."""

import os
import shutil
import sys
from dataclasses import replace
from itertools import islice

import pytest
import torch

from data.corpus import tones, write_tar
from data.server import S3Server
from lapis.data.batching import Budget
from lapis.data.loader import Loader, Reading
from lapis.data.mixture import Mixture, Part
from lapis.data.object_storage import Objects
from lapis.data.shards import index_shard
from lapis.data.sources import Tars
from lapis.data.storage import Patience, StorageError, open_store

HASTY = Patience(attempts=4, first_wait_seconds=0.01, timeout_seconds=0.6)
IMPATIENT = replace(HASTY, timeout_seconds=0.3)
PATTERN = "s3://bucket/train/a-*.tar"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    monkeypatch.setenv("LAPIS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "train" / "old").mkdir(parents=True)
    for number, count in enumerate((4, 1, 3)):
        write_tar(tmp_path / "train" / f"a-{number:03d}.tar", tones(count, name=f"{number}-"))
    write_tar(tmp_path / "train" / "old" / "a-000.tar", tones(1, name="old"))
    return tmp_path


@pytest.fixture
def server(folder, monkeypatch):
    pytest.importorskip("obstore")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    # obstore's own client goes by the environment's proxy, which knows nothing of this machine.
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "nowhere")
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    with S3Server(folder) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.root)
        open_store.cache_clear()  # that of another test's server
        yield running
    open_store.cache_clear()


def _told(samples):
    return [(sample.key, sample.captions, sample.seconds, sample.audio.open()) for sample in samples]


@pytest.mark.parametrize("beside", [True, False])
def test_shards_of_a_bucket_are_those_of_the_folder(folder, server, beside):
    here = Tars("train/a-*.tar").build()
    for path in folder.glob("train/a-*.tar") if beside else ():
        index_shard(path)
    there = Tars(PATTERN, patience=HASTY).build()
    assert there.addresses == [f"s3://bucket/train/a-00{number}.tar" for number in range(3)]
    assert _told(there) == _told(here) and len(there) == 8
    assert not there.may_fork and here.may_fork
    assert str(there[0].audio).startswith("s3://bucket/train/a-000.tar:0-000.")
    with pytest.raises(ValueError, match="no tar matches s3://bucket/b"):
        Tars("s3://bucket/b-*.tar", patience=HASTY).build()


@pytest.mark.parametrize("trouble", [503, 429, 500, "late", "cut", "drop"])
def test_what_passes_is_waited_for(server, trouble):
    whole = _told(Tars("train/a-*.tar").build())
    server.troubles = [trouble, None, trouble, trouble]
    source = Tars(PATTERN, patience=IMPATIENT if trouble == "late" else HASTY).build()
    server.troubles = [trouble, trouble, None, trouble]
    assert _told(source) == whole and server.met[str(trouble)] == 6


def test_a_short_answer_is_asked_for_again(server):
    source = Tars(PATTERN, patience=HASTY).build()
    server.troubles = ["short", "short"]
    assert _told(source) == _told(Tars("train/a-*.tar").build()) and server.met["short"] == 2


@pytest.mark.parametrize(
    ("trouble", "reason", "attempts"),
    [
        (503, "gave up after 4 attempts; the last: .*503 Service Unavailable$", 4),
        ("late", "gave up after 4 attempts; the last: .*error sending request$", 4),
        ("cut", "gave up after 4 attempts; the last: .*body error$", 4),
        (403, ".*403 Forbidden$", 1),
        (404, "it is no longer there$", 1),
    ],
)
def test_what_does_not_pass_is_named(server, trouble, reason, attempts):
    source = Tars(PATTERN, patience=IMPATIENT if trouble == "late" else HASTY).build()
    server.always = trouble
    with pytest.raises(StorageError, match=rf"^s3://bucket/train/a-000\.tar: {reason}"):
        _ = source[0]
    assert server.met[str(trouble)] == attempts


def test_a_bucket_that_may_not_be_listed_or_asked_is_named(server, monkeypatch):
    server.always = 403
    with pytest.raises(StorageError, match=r"s3://bucket/train/a-\*\.tar: .*403 Forbidden$"):
        Tars(PATTERN, patience=HASTY).build()
    assert server.met["403"] == 1
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    open_store.cache_clear()
    with pytest.raises(StorageError, match=r"builder error$"):
        Tars(PATTERN, patience=HASTY).build()


def test_an_object_that_changed_meanwhile_is_not_read(folder, server):
    source = Tars(PATTERN, patience=HASTY).build()
    write_tar(folder / "train" / "a-000.tar", tones(4, seconds=0.5))
    with pytest.raises(StorageError, match=r"a-000\.tar changed while it was in use"):
        _ = source[0]
    assert _told(Tars(PATTERN, patience=HASTY).build()) == _told(Tars("train/a-*.tar").build())


def _batches(source, workers=0):
    mixture = Mixture.Config((Part(source),)).build(seed=3)
    loader = Loader(mixture, budget=Budget(clips=3), sample_rate=16_000, reading=Reading(workers=workers))
    return list(islice(loader.batches(0), 5))


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_the_same_from_a_bucket_in_trouble(server, workers):
    """A worker is a process started afresh: a copy of one in which obstore runs would never get an answer."""
    here = _batches(Tars("train/a-*.tar"))
    server.troubles = [503, "cut", None, "drop", None, None, 503, 503, None]
    there = _batches(Tars(PATTERN, patience=replace(HASTY, attempts=20)), workers)
    assert not server.troubles
    for one, other in zip(here, there, strict=True):
        assert torch.equal(one.waveforms.rows, other.waveforms.rows)
        assert (one.captions, one.position, one.dropped) == (other.captions, other.position, other.dropped)


def test_a_folder_as_a_store(folder):
    pytest.importorskip("obstore")
    store = Objects(f"file://{folder}/train", HASTY)
    found = store.find(f"file://{folder}/train/a-{{000..001}}.tar")
    assert [address.rpartition("/")[2] for address in found] == ["a-000.tar", "a-001.tar"]
    thing = store.stat(found[0])
    content = (folder / "train" / "a-000.tar").read_bytes()
    assert thing.size == len(content) and store.get(thing, offset=100, size=900) == content[100:1000]
    assert store.stat(f"file://{folder}/train/nothing.tar") is None
    shutil.copy(folder / "train" / "a-001.tar", folder / "train" / "a-000.tar")
    with pytest.raises(StorageError, match="changed"):
        store.get(thing, offset=0, size=10)


def test_without_its_package_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(ValueError, match=r"s3://bucket: object stores need an extra: .*lapis-audio\[storage\]"):
        Objects("s3://bucket", HASTY)
