"""The commands against an object store, as a user gives them: keys and endpoint in the environment, and moto's server.

In this process where one is enough; several at once, and stores that go away, are `slow`.
"""

import contextlib
import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyarrow import parquet

import processes
import tiny
from data.corpus import sound_bytes, tones, write_tar
from lapis import saved
from lapis.data.mixture import Mixture, Part
from lapis.data.sources import Tars
from lapis.data.storage import open_store
from lapis.search import stored
from lapis.values import to_values
from storage_server import not_ours, put, s3_server, settings

pytest.importorskip("moto.server", reason="needs an S3 server: pip install 'moto[s3]' flask flask-cors")
pytest.importorskip("obstore", reason="needs the extra storage")

INDEX = "s3://bucket/deep/index"
TARS = "s3://bucket/train/a-*.tar"


@pytest.fixture(scope="module")
def server():
    with s3_server() as address:
        yield address


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """As a user without a store has it; a function that sets it as one with a server at an address has it."""
    for name in not_ours():
        monkeypatch.delenv(name)
    monkeypatch.setenv("LAPIS_CACHE", str(tmp_path / "cache"))

    def forget():
        open_store.cache_clear()  # that of another test's server
        stored._stat.cache_clear()

    def at(address, **more):
        for name, value in (settings(address) | more).items():
            monkeypatch.setenv(name, value)
        forget()

    yield at
    forget()


@pytest.fixture
def store(server, environment):
    environment(server)
    return server


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    saved.save(tiny.model(0), folder)
    return folder


@pytest.fixture
def sounds(tmp_path):
    (tmp_path / "sounds" / "deep").mkdir(parents=True)
    for number, name in enumerate(("a", "b", "deep/c", "deep/d")):
        content = sound_bytes(1 + number / 2, hertz=300 + 200 * number, format="WAV")
        (tmp_path / "sounds" / f"{name}.wav").write_bytes(content)
    return tmp_path / "sounds"


def well(answer):
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def lines(answer):
    return [json.loads(line) for line in well(answer).splitlines()]


def refused(answer, *parts):
    """One sentence with these parts, and nothing that is nobody's business."""
    assert answer.returncode == 2 and answer.stderr.count("\n") == 1 and answer.stderr.startswith("lapis: "), answer
    assert all(part in answer.stderr for part in parts), answer.stderr
    for part in ("Traceback", "secret", "PASSWORD", ".rs:", "<Error>", "Debug source"):
        assert part not in answer.stderr


def test_an_index_from_its_first_day_on(lapis, store, model, sounds, tmp_path):
    at = ("--index", INDEX)
    make = ("index", sounds, "--model", model, *at)
    refused(lapis("search", "rain", *at), f"there is no index in {INDEX}: make one with")
    assert "4 files added" in well(lapis(*make))
    (sounds / "a.wav").rename(sounds / "moved.wav")
    (sounds / "b.wav").unlink()
    assert "2 unchanged, 1 removed, 0 unreadable; 0 windows written; 1 files moved" in well(lapis(*make))
    listed = lines(lapis("index", "list", *at, "--below", "deep", "--json"))
    assert [Path(row["path"]).name for row in listed] == ["c.wav", "d.wav"]

    (best, *others) = lines(lapis("search", "--like", sounds / "deep" / "d.wav", *at, "--json"))
    assert best["path"].endswith("d.wav") and best["score"] > 0.999 and len(others) == 2
    mixed = ("rain", "--like", sounds / "moved.wav", "--unlike", "wind", "--unlike-sound", sounds / "deep" / "c.wav")
    (hit,) = lines(lapis("search", *mixed, "--below", "deep", "--longest-seconds", 2.2, *at, "--json"))
    assert hit["path"].endswith("c.wav")
    assert "moved.wav" in well(lapis("search", "rain", *at, "--limit", 3))

    assert well(lapis("index", "duplicates", *at, "--least-cosine", -1)).count("cosine") == 3
    assert "3 windows" in well(lapis("index", "export", "windows.parquet", *at))
    assert len(parquet.read_table(tmp_path / "windows.parquet")) == 3
    refused(lapis("index", "compact", "--approximate", *at), "lapis: expected at least 256 rows")
    assert "2 files removed" in well(lapis("index", "remove", sounds / "deep", *at))
    assert "1 windows" in well(lapis("index", "compact", *at))
    assert "3 files added" in well(lapis(*make, "--rebuild"))


@pytest.mark.slow
def test_a_server_searches_it_and_plays_the_sounds_of_this_machine(lapis, store, model, sounds):
    put(store, "bucket.with.dots")
    index = "s3://bucket.with.dots/index"
    well(lapis("index", sounds, "--model", model, "--index", index))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answers, ended = {}, threading.Event()

    def ask(path, **body):
        content = json.dumps(body).encode() if body else None
        asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", content, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=20) as answer:
            return answer.read()

    def use():
        try:
            until = time.monotonic() + 20
            while time.monotonic() < until and not ended.is_set():
                with contextlib.suppress(OSError):
                    ask("/readyz")
                    break
                time.sleep(0.02)
            found = answers["search"] = json.loads(ask("/v1/search", query="rain", limit=2, below="deep"))
            number = found["data"][0]["id"]
            answers["locate"] = json.loads(ask("/v1/locate", id=number, texts=["rain"]))
            answers["sound"] = ask(f"/v1/sounds/{number}")
        finally:
            if not ended.is_set():
                os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=use)
    thread.start()
    said = lapis("serve", model, "--index", index, "--port", port, "--root", sounds)
    ended.set()
    thread.join(20)
    assert said.returncode == 0 and "Traceback" not in said.stderr
    first, second = answers["search"]["data"]
    assert {first["name"], second["name"]} == {"deep/c.wav", "deep/d.wav"}
    assert answers["locate"]["seconds"] in (2.0, 2.5) and answers["locate"]["found"][0]["text"] == "rain"
    assert answers["sound"] == (sounds / first["name"]).read_bytes()


def test_shards_and_sounds_of_a_bucket(lapis, store, model, sounds, tmp_path):
    for number in range(2):
        tar = write_tar(tmp_path / f"a-{number:03d}.tar", tones(3, name=f"{number}-"))
        put(store, f"bucket/train/{tar.name}", tar.read_bytes())
    for path in sounds.rglob("*.wav"):
        put(store, f"bucket/sounds/{path.relative_to(sounds)}", path.read_bytes())

    for source, out in (("s3://bucket/sounds/", "there.parquet"), (sounds, "here.parquet")):
        assert "4 clips" in well(lapis("embed", source, "--model", model, "--out", out, "--threads", 1))
    there, here = (parquet.read_table(tmp_path / name) for name in ("there.parquet", "here.parquet"))
    assert there["path"][0].as_py() == "s3://bucket/sounds/a.wav" and there["vector"].equals(here["vector"])

    prepare = ("data", "prepare", TARS, "--out", "made", "--workers", 1, "--codec", "flac")
    assert "6 clips" in well(lapis(*prepare)) and "1 were there from before" in well(lapis(*prepare))
    assert "6 clips" in well(lapis("data", "prepare", "s3://bucket/train/", "--out", "same", "--workers", 1))
    for source in (TARS, "made"):
        looked = json.loads(well(lapis("data", "inspect", source, "--workers", 1, "--json")))
        assert (looked["clips"], looked["sound"]["read"], looked["sound"]["unreadable"]["count"]) == (6, 6, 0)

    mixture = Mixture.Config((Part(Tars("s3://bucket/train/a-{000..001}.tar"), 2.0), Part(Tars(TARS))))
    (tmp_path / "mixture.json").write_text(json.dumps(to_values(mixture)))
    read = json.loads(well(lapis("data", "bench", "mixture.json", "--batches", 1, "--workers", 0, "--json")))
    assert read["clips"] > 0 and read["seconds"]["storage"] > 0
    leaks = lapis("data", "verify", "mixture.json", "--against", "a-001.tar", "--workers", 1)
    assert leaks.returncode == 1 and "by equal sound" in leaks.stdout
    banned = lapis("data", "blacklist", TARS, "--against", "s3://bucket/train/a-001.tar", "--out", "b", "--workers", 1)
    assert "recordings and 6 clips" in well(banned)


def test_what_cannot_be_is_one_sentence(lapis, store, model, sounds, tmp_path, monkeypatch):
    none = "s3://nobody/index"
    for words in (("index", "list"), ("index", sounds, "--model", model), ("search", "rain"), ("serve", model)):
        refused(lapis(*words, "--index", none), f"{none} cannot be read", "NoSuchBucket", "There is no such bucket")
    refused(lapis("data", "inspect", "s3://nobody/a-*.tar"), "s3://nobody/a-*.tar: ", "(NoSuchBucket)")
    refused(
        lapis("index", "list", "--index", "s3://KEY:PASSWORD@bucket/i"), "s3://...: expected an address without keys"
    )
    refused(lapis("data", "inspect", "s3://KEY:PASSWORD@bucket/a.tar"), "expected an address without keys")

    # To be written here, or read from here: nothing may go to a folder that is called s3:.
    away = "s3://bucket/x.parquet"
    for words in (
        ("index", away, "--model", model),
        ("index", "export", away, "--index", INDEX),
        ("embed", sounds, "--model", model, "--out", away),
        ("data", "prepare", sounds, "--out", away),
        ("data", "inspect", sounds, "--out", away),
        ("data", "verify", sounds, "--against", sounds, "--out", away),
        ("data", "blacklist", sounds, "--against", sounds, "--out", away),
    ):
        refused(lapis(*words), f"expected a path of this machine, got an address of {away.partition(':')[0]}://")
    put(store, "bucket/loose/a.wav", (sounds / "a.wav").read_bytes())
    refused(lapis("data", "prepare", "s3://bucket/loose/", "--out", "x"), "no tar matches s3://bucket/loose/*.tar")
    (tmp_path / "table.csv").write_text("audio,caption\ns3://bucket/loose/a.wav,rain\n")
    refused(
        lapis("data", "prepare", "table.csv", "--out", "x"), "row 1: expected a sound of this machine, got one of s3://"
    )

    monkeypatch.setenv("AWS_ALLOW_HTTP", "false")
    refused(lapis("index", "list", "--index", INDEX), "AWS_ALLOW_HTTP=true")
    assert not list(tmp_path.glob("s3*")) and not (tmp_path / "x").exists()


def test_a_store_that_is_away_is_not_called_a_damaged_index(lapis, environment):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment(f"http://127.0.0.1:{port}")
    refused(lapis("index", "list", "--index", INDEX), "The store does not answer: try again when it does.")


@pytest.mark.slow
def test_keys_that_the_store_does_not_know(lapis, environment, model, sounds, tmp_path):
    boto3 = pytest.importorskip("boto3")
    # The making of the bucket, and the next three questions, are answered to anybody.
    with s3_server(INITIAL_NO_AUTH_ACTION_COUNT="4") as address:
        environment(address, AWS_DEFAULT_REGION="us-east-1")
        users = boto3.client("iam")
        users.create_user(UserName="user")
        key = users.create_access_key(UserName="user")["AccessKey"]
        allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        users.put_user_policy(UserName="user", PolicyName="all", PolicyDocument=json.dumps(allowed))
        at = ("--index", INDEX)
        names = (key["AccessKeyId"], key["SecretAccessKey"])
        environment(address, AWS_ACCESS_KEY_ID=names[0], AWS_SECRET_ACCESS_KEY=names[1])
        assert "4 files added" in well(lapis("index", sounds, "--model", model, *at))
        for wrong in ((names[0], "secret"), ("AKIAUNKNOWN", names[1])):
            environment(address, AWS_ACCESS_KEY_ID=wrong[0], AWS_SECRET_ACCESS_KEY=wrong[1])
            for words in (
                ("index", sounds, "--model", model, *at),
                ("index", "list", *at),
                ("search", "rain", *at),
                ("serve", model, *at),
            ):
                answer = lapis(*words)
                refused(answer, "403 Forbidden", "The store refuses the keys")
                assert not any(name in answer.stderr for name in (*names, "AKIAUNKNOWN"))
            for words in (
                ("embed", "s3://bucket/sounds/", "--model", model, "--out", "v.parquet"),
                ("data", "inspect", TARS),
                ("data", "prepare", TARS, "--out", "made"),
            ):
                answer = lapis(*words)
                refused(answer, "403 Forbidden (")
                assert not any(name in answer.stderr for name in (*names, "AKIAUNKNOWN"))


SCRIPT = f"""
import os
import sys
os.environ["LAPIS_CACHE"] = sys.argv[1]
sys.path.append({str(Path(__file__).parent)!r})
import tiny
from lapis.cli import main
main(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("machines", [1, 2])
def test_several_at_once(lapis, store, model, sounds, tmp_path, machines):
    """Of one machine, whose locks they see; of two, which make an index in the same moment."""
    for number in range(20):
        (sounds / f"{number:02d}.wav").write_bytes(sound_bytes(0.5, hertz=100 + 40 * number, format="WAV"))
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    for attempt in range(2):
        index = f"{INDEX}-{machines}-{attempt}"
        words = ("index", sounds, "--model", model, "--index", index)
        with ThreadPoolExecutor(3) as pool:
            caches = [tmp_path / f"cache-{number % machines}-{attempt}" for number in range(3)]
            runs = list(pool.map(lambda cache: processes.python_script(script, cache, *words), caches))
        assert [run.returncode for run in runs] == [0] * 3, [run.stderr for run in runs]
        well(lapis("index", "export", f"{attempt}.parquet", "--index", index))
        rows = parquet.read_table(tmp_path / f"{attempt}.parquet").select(["path", "window"]).to_pylist()
        keys = {(row["path"], row["window"]) for row in rows}
        assert len(rows) == len(keys) == 24
