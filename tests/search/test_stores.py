"""Sounds in stores: the rows of the same files here, whatever passes; one bad object is a row, a store away is none."""

import os

import pytest
from pyarrow import parquet
from tones import ToneEmbedder, write_tone

from data.corpus import tones, write_tar
from data.server import S3Server, Server, send
from lapis.data.storage import Patience, StorageError, open_store
from lapis.search import stored, withheld
from lapis.search.bulk import embed_files
from lapis.search.clips import find_clips
from lapis.search.sharding import Shard

HASTY = Patience(attempts=3, first_wait_seconds=0.001, timeout_seconds=2.0)
BUCKET = "s3://bucket/sounds/"


class Forbidding:
    """Answers 403 or another status for objects of some names, always."""

    def __init__(self, folder):
        super().__init__(folder)
        self.refused: dict[str, int] = {}

    def give_file(self, handler, path, first, last, trouble):
        status = next((status for name, status in self.refused.items() if name in path.name), None)
        if status:
            send(handler, status)
        else:
            super().give_file(handler, path, first, last, trouble)


class ForbiddingS3(Forbidding, S3Server):
    pass


class ForbiddingServer(Forbidding, Server):
    pass


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_CACHE", str(tmp_path / "cache"))
    for number in range(8):
        name = f"{'deep/' * (number % 2)}{number:02d}.wav"
        write_tone(tmp_path / "sounds" / name, 300 + 100 * number, seconds=0.2)
    (tmp_path / "sounds" / "notes.txt").write_text("no sound")
    (tmp_path / "sounds" / ".hidden.wav").write_bytes(b"")
    return tmp_path


@pytest.fixture
def server(folder, monkeypatch):
    pytest.importorskip("obstore")
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in {"REGION": "nowhere", "SKIP_SIGNATURE": "true", "ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with ForbiddingS3(folder) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL", running.root)
        open_store.cache_clear()  # that of another test's server
        stored._stat.cache_clear()
        yield running
    open_store.cache_clear()


def embed(sources, out, **options):
    options = {"embedder": ToneEmbedder(), "threads": 2, "patience": HASTY} | options
    embed_files(sources, out=out, **options)
    return parquet.read_table(out)


def test_a_folder_of_a_bucket_is_the_folder(folder, server):
    here = embed([folder / "sounds"], folder / "here.parquet")
    there = embed([BUCKET], folder / "there.parquet")
    assert there.drop_columns(["path"]).equals(here.drop_columns(["path"])) and len(here) == 8
    assert there["path"][0].as_py() == f"{BUCKET}00.wav"
    # A head and the content of each, once.
    assert server.met["None"] == 2 * 8 + sum(path.startswith("/bucket?") for path, *_ in server.asked)


def test_what_is_not_small_is_fetched_twice_and_in_pieces(folder, server, monkeypatch):
    monkeypatch.setattr("lapis.search.reading.KEPT_BYTES", 1000)
    monkeypatch.setattr(stored, "REQUEST_BYTES", 1000)
    here = embed([folder / "sounds"], folder / "here.parquet")
    assert embed([BUCKET], folder / "there.parquet")["vector"].equals(here["vector"])
    asked = [place for place in server.asked if place[0].startswith("/bucket/sounds/00.wav") and place[2] <= 1000]
    assert len(asked) == 2 * 4
    monkeypatch.setattr(stored, "MOST_BYTES", 3000)
    assert "3,244 bytes, and at most 3,000" in embed([f"{BUCKET}00.wav"], folder / "big.parquet")["error"][0].as_py()


def test_patterns_tables_listings_and_tars_name_objects(folder, server):
    write_tar(folder / "sounds" / "a.tar", tones(2))
    (folder / "list.txt").write_text(f"sounds/00.wav\n\n{BUCKET}02.wav\r\n{BUCKET}gone.wav\n")
    (folder / "table.csv").write_text(f"key,audio\nfirst,{BUCKET}04.wav\n")
    sources = [f"{BUCKET}0[24].wav", f"{BUCKET}a.tar", folder / "list.txt", folder / "table.csv", f"{BUCKET}06.wav"]
    rows = embed(sources, folder / "v.parquet").to_pylist()
    names = ["02.wav", "04.wav", "clip000", "clip001", "sounds/00.wav", *(f"{BUCKET}{n}.wav" for n in ("02", "gone"))]
    assert [row["key"] for row in rows] == [*names, "first", f"{BUCKET}06.wav"]
    assert rows[2]["path"].startswith(f"{BUCKET}a.tar:clip000.") and rows[2]["duration_seconds"] == pytest.approx(0.3)
    assert rows[0]["vector"] == rows[5]["vector"] and rows[1]["vector"] == rows[7]["vector"]
    assert {row["key"]: row["error"] for row in rows if row["error"]} == {
        f"{BUCKET}gone.wav": f"{BUCKET}gone.wav: there is nothing at this address"
    }
    with pytest.raises(ValueError, match="expected a table of this machine"):
        list(find_clips([f"{BUCKET}table.csv"], patience=HASTY))


@pytest.mark.parametrize("trouble", [503, "cut", "drop"])
def test_what_passes_is_waited_for(folder, server, trouble):
    here = embed([folder / "sounds"], folder / "here.parquet")
    pages = 5  # of the list: two objects each
    server.troubles = [None] * pages + [trouble, None, trouble, None, trouble, trouble]
    assert embed([BUCKET], folder / "there.parquet")["vector"].equals(here["vector"])
    assert server.met[str(trouble)] == 4


@pytest.mark.parametrize("status", [403, 500])
def test_an_object_that_nobody_may_have_is_a_row(folder, server, status):
    server.refused = {"02.wav": status, "03.wav": status}
    table = embed([BUCKET], folder / "v.parquet")
    errors = {row["key"]: row["error"] for row in table.to_pylist() if row["error"]}
    assert set(errors) == {"02.wav", "deep/03.wav"} and all(str(status) in error for error in errors.values())
    assert table["key"].to_pylist() == [*(f"0{n}.wav" for n in (0, 2, 4, 6)), *(f"deep/0{n}.wav" for n in (1, 3, 5, 7))]


@pytest.mark.parametrize("status", [403, 503])
@pytest.mark.parametrize("name", ["07.wav", "02.wav"])
def test_an_object_that_nobody_may_have_does_not_stop_who_comes_to_it_alone(folder, server, status, name):
    """As the last that is missing, and where processes have been lost and clips are taken one by one."""
    server.refused = {name: status}
    out = folder / "v.parquet"

    class Killed(ToneEmbedder):
        def embed_audio(self, waveforms):
            raise RuntimeError("killed, say")

    for _ in range(3):
        with pytest.raises(RuntimeError):
            embed([BUCKET], out, embedder=Killed(), batch_seconds=0.1)
    report = embed_files([BUCKET], embedder=ToneEmbedder(), out=out, patience=HASTY, threads=2)
    assert (report.written, report.failed) == (8, 1) and str(status) in report.failures[0][1]


@pytest.mark.parametrize("status", [403, 503])
def test_a_store_that_goes_away_stops_the_work_and_costs_no_row(folder, server, status, monkeypatch):
    monkeypatch.setattr(withheld, "WITHHELD_CLIPS", 3)
    server.refused = {f"0{number}.wav": status for number in (4, 6, 1, 3, 5, 7)}
    shard = Shard(0, 1)
    for _ in range(4):  # more often than a clip that ends processes is tried
        with pytest.raises(StorageError, match=rf"04\.wav.*{status}.*run again to go on from there"):
            embed([BUCKET], folder / "v.parquet", shard=shard)
    server.refused = {}
    report = embed_files(
        [BUCKET], embedder=ToneEmbedder(), out=folder / "v.parquet", shard=shard, patience=HASTY, threads=2
    )
    assert (report.resumed, report.written, report.failed) == (2, 8, 0)


def test_a_store_that_gives_nothing_at_all_is_no_table_of_errors(folder, server):
    server.refused = {".wav": 403}
    with pytest.raises(StorageError, match="403"):
        embed([BUCKET], folder / "v.parquet")
    assert not (folder / "v.parquet").exists()


def test_a_web_server_gives_what_a_table_names(folder):
    with ForbiddingServer(folder) as server:
        server.refused = {"05.wav": 403}
        addresses = [f"{server.root}/sounds/{'deep/' * (number % 2)}0{number}.wav" for number in range(8)]
        (folder / "list.txt").write_text("\n".join(addresses))
        here = embed([folder / "sounds"], folder / "here.parquet").sort_by("path")
        there = embed([folder / "list.txt"], folder / "there.parquet")
        assert [row["error"] is None for row in there.to_pylist()] == [number != 5 for number in range(8)]
        by_name = {row["path"].rpartition("/")[2]: row["vector"] for row in here.to_pylist()}
        assert all(row["vector"] == by_name[row["key"][-6:]] for row in there.to_pylist() if row["vector"])
        with pytest.raises(ValueError, match="a web server lists no files"):
            list(find_clips([f"{server.root}/sounds/"], patience=HASTY))
