"""From the table of an embedding job to an index: each row once, whatever happens, and nothing claimed of a file."""

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
from datetime import date
from pathlib import Path

import httpx2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from tones import ToneEmbedder, write_tone

from lapis.data.sample import Location
from lapis.search import embedded, importing
from lapis.search.bulk import embed_files
from lapis.search.clips import Clip
from lapis.search.duplicates import exact_duplicates, near_duplicates
from lapis.search.embedded import Embedded
from lapis.search.filters import Filter
from lapis.search.fragments import fragments_folder, merge
from lapis.search.importing import import_table
from lapis.search.index import Index
from lapis.search.rows import Row, table_of
from lapis.search.sharding import Shard
from lapis.search.stored import Stored
from lapis.search.windows_table import WindowsTable
from lapis.serve.app import app_of
from lapis.serve.catalogue import number_of
from lapis.serve.service import Service

WIDTH = 5
SAID = {"lapis.identity": "tones", "lapis.width": str(WIDTH), "lapis.model": "m"}
HERTZ = {"deep": 100, "low": 300, "middle": 600, "high": 1200, "hiss": 3000}


@pytest.fixture
def sounds(tmp_path) -> Path:
    """A tone in each band, a copy of one, and a file that is no sound."""
    for name, hertz in HERTZ.items():
        write_tone(tmp_path / "sounds" / f"{name}.wav", hertz, seconds=0.2)
    shutil.copy(tmp_path / "sounds" / "low.wav", tmp_path / "sounds" / "low again.wav")
    (tmp_path / "sounds" / "text.wav").write_text("this is text")
    return tmp_path / "sounds"


def embed(sources, out, *, shards=0):
    for shard in [Shard(number, shards) for number in range(shards)] or [None]:
        embed_files(sources, embedder=ToneEmbedder(), out=out, shard=shard, threads=1, model="m", overwrite=True)
    return fragments_folder(out) if shards else out


def make_index(folder, *, identity="tones", width=WIDTH) -> Index:
    return Index.create_or_open(folder, embedder_identity=identity, width=width)


def taken_in(table, folder, **options):
    index = make_index(folder)
    return index, import_table(index, Embedded.open(table), **options)


def write_table(path, rows, *, said=SAID, width=WIDTH):
    """A table as `lapis embed` writes it: of each row the path, and a vector's place of 1, or what is wrong with it."""
    made = []
    for name, at in rows:
        clip = Clip("key", Stored(name) if "://" in name else Location(Path(name)))
        is_found = isinstance(at, int)
        vector = np.roll(np.eye(1, width, dtype=np.float32)[0], at) if is_found else None
        made.append(Row(clip, vector, 1.5 if is_found else None, None if is_found else at))
    parquet.write_table(table_of(made, width=width).replace_schema_metadata(said), path)
    return path


def contents(index) -> dict[str, int]:
    """Of each path the place of the 1 in its vector; every row is a file's only window."""
    rows = index.table.to_arrow().to_pylist()
    assert {row["window"] for row in rows} <= {0} and len({row["path"] for row in rows}) == len(rows)
    return {row["path"]: int(np.argmax(row["vector"])) for row in rows}


@pytest.mark.parametrize("shards", [0, 3])
def test_what_was_embedded_is_found(sounds, tmp_path, lapis, shards):
    table = embed([str(sounds)], tmp_path / "v.parquet", shards=shards)
    answer = lapis("index", "import", table)
    assert answer.returncode == 0, answer.stderr
    assert "6 files added, 0 replaced; of the table's rows, 1 have no vector" in answer.stdout
    assert answer.stdout.startswith("without a vector: ") and "text.wav" in answer.stdout.splitlines()[0]
    index = Index.open(tmp_path / "lapis-index")
    hit = index.search_text("high tone", embedder=ToneEmbedder())[0]
    assert hit.path == sounds / "high.wav" and (hit.start_seconds, hit.end_seconds) == (0.0, 0.2)
    assert index.search_like(sounds / "hiss.wav", embedder=ToneEmbedder())[0].path == sounds / "hiss.wav"
    assert (index.metadata.window_seconds, index.model) == (10.0, "m")
    listed = json.loads(lapis("index", "list", "--below", "sounds", "--json").stdout.splitlines()[0])
    assert (listed["size"], listed["modified"], listed["audio_hash"], listed["tags"]) == (-1, None, "", [])
    assert "no date" in lapis("index", "list").stdout


def test_nothing_is_taken_for_known(sounds, tmp_path):
    """Files that were imported are no copies of each other, have no date, and are heard anew by whoever indexes."""
    index, _ = taken_in(embed([str(sounds)], tmp_path / "v.parquet"), tmp_path / "index")
    assert exact_duplicates(index) == []
    (alike,) = near_duplicates(index)
    assert {alike.first.name, alike.second.name} == {"low.wav", "low again.wav"}
    assert list(index.files(where=Filter(since=date(1980, 1, 1)))) == []
    assert list(index.files(where=Filter(until=date(2100, 1, 1)))) == []
    assert len(list(index.files(where=Filter(below="sounds", longest_seconds=1.0)))) == 6
    report = index.update(sounds, embedder=ToneEmbedder())
    assert (report.added, report.changed, report.unchanged, len(report.failed)) == (0, 6, 0, 1)
    assert all(file.size > 0 and file.modified and file.audio_hash for file in index.files())
    assert len(exact_duplicates(index)) == 1
    assert index.update(sounds, embedder=ToneEmbedder()).unchanged == 6


def test_a_server_plays_what_lies_there_and_refuses_the_rest(sounds, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        tar.add(sounds / "high.wav", "one.wav")
    embed([str(sounds / "low.wav"), str(tmp_path / "a.tar")], tmp_path / "v.parquet")
    write_table(tmp_path / "far.parquet", [("s3://bucket/far.wav", 4)])
    index, _ = taken_in(tmp_path / "v.parquet", tmp_path / "index")
    import_table(index, Embedded.open(tmp_path / "far.parquet"))

    async def ask():
        gate = app_of(Service(ToneEmbedder(), name="tones", index=tmp_path / "index"))
        client = httpx2.AsyncClient(transport=httpx2.ASGITransport(gate), base_url="http://localhost:8000")
        async with gate.app.router.lifespan_context(gate.app), client:
            found = (await client.post("/v1/search", json={"query": "low tone"})).json()["data"]
            assert found[0]["name"] == "low.wav" and {row["name"] for row in found} >= {"far.wav"}
            answers = {}
            for row in found:
                for address in (f"/v1/sounds/{row['id']}", f"/v1/sounds/{row['id']}/peaks"):
                    answers.setdefault(row["name"], []).append(await client.get(address))
            (sounds / "low.wav").unlink()
            answers["gone"] = [await client.get(f"/v1/sounds/{number_of(sounds / 'low.wav')}")]
        return answers

    answers = asyncio.run(ask())
    assert [answer.status_code for answer in answers.pop("low.wav")] == [200, 200]
    assert len(answers) == 3
    for refused in answers.values():
        assert {answer.status_code for answer in refused} == {404}
        assert "in a tar or a store" in refused[0].text and str(tmp_path) not in refused[0].text


def test_members_of_tars_and_addresses_keep_their_names(sounds, tmp_path, lapis):
    with tarfile.open(sounds / "a.tar", "w") as tar:
        tar.add(sounds / "high.wav", "one.wav")
    index, _ = taken_in(embed([str(sounds / "a.tar")], tmp_path / "v.parquet"), tmp_path / "lapis-index")
    member = f"{sounds}/a.tar:one.wav"
    assert list(contents(index)) == [member]
    far = write_table(tmp_path / "far.parquet", [("s3://b/x y.wav", 1)])
    import_table(index, Embedded.open(far))
    assert set(contents(index)) == {member, "s3://b/x y.wav"}
    assert "  s3://b/x y.wav" in lapis("index", "list").stdout
    # Whoever indexes the folder that the tar is in leaves its members; when the tar is gone, they go.
    assert index.update(sounds, embedder=ToneEmbedder()).removed == 0 and member in contents(index)
    (sounds / "a.tar").unlink()
    assert index.update(sounds, embedder=ToneEmbedder()).removed == 1
    assert "1 files removed" in lapis("index", "remove", "s3://b/x y.wav").stdout
    assert not any("//" in row["path"] for row in index.table.search().select(["path"]).to_arrow().to_pylist())


def test_relative_paths_are_whole_afterwards_or_left_out(sounds, tmp_path, lapis):
    (tmp_path / "link").symlink_to(sounds)
    rows = [("link/high.wav", 3), ("./sounds/../sounds/low.wav", 1), ("elsewhere/x.wav", 2), ("bad.wav", "it is bad")]
    table = write_table(tmp_path / "v.parquet", rows)
    answer = lapis("index", "import", table)
    assert "left out: elsewhere/x.wav: there is no such file in" in answer.stdout and "--root" in answer.stdout
    assert "2 files added, 0 replaced; of the table's rows, 1 have no vector and 1 were left out" in answer.stdout
    index = Index.open(tmp_path / "lapis-index")
    assert contents(index) == {f"{sounds}/high.wav": 3, f"{sounds}/low.wav": 1}
    answer = lapis("index", "import", table, "--root", tmp_path / "far", "--index", "other")
    assert "3 files added" in answer.stdout
    assert f"{tmp_path}/far/elsewhere/x.wav" in contents(Index.open(tmp_path / "other"))


def test_the_last_row_of_a_path_counts_and_its_old_windows_go(sounds, tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "BATCH_ROWS", 2)
    index = Index.create_or_open(tmp_path / "index", embedder_identity="tones", width=WIDTH, window_seconds=0.1)
    index.update(sounds, embedder=ToneEmbedder())
    assert index.num_windows == 12
    names = [f"{sounds}/{name}.wav" for name in ("low", "high")]
    rows = [("/a", 0), ("/a", 1), ("/b", 2), (names[0], 0), ("/a", 3), ("/b", 4), (names[0], 2), ("/c", 1)]
    table = write_table(tmp_path / "v.parquet", rows)
    for commit_rows in (1, 3, 100):
        report = import_table(index, Embedded.open(table), commit_rows=commit_rows)
        assert report.added + report.replaced == 8
        there = {row["path"]: row["vector"] for row in index.table.to_arrow().to_pylist()}
        assert {path: int(np.argmax(there[path])) for path in ("/a", "/b", "/c", names[0])} == {
            "/a": 3, "/b": 4, "/c": 1, names[0]: 2,
        }  # fmt: skip
        assert index.num_windows == 12 - 2 + 4, "both windows of the file that was indexed have gone for one"
    assert (report.added, report.replaced) == (0, 8)


def test_names_of_any_letters(tmp_path):
    """Also of those that an older table had to escape, since they are not UTF-8."""
    names = ["/it's.wav", '/"two".wav', "/ü 犬.wav", "/a\nb.wav", "/%_.wav", "/a.tar:b:c.wav", "/bad\\udcff.wav"]
    table = write_table(tmp_path / "v.parquet", [(name, 1) for name in names])
    index, first = taken_in(table, tmp_path / "index")
    again = import_table(index, Embedded.open(table), commit_rows=2)
    assert (first.added, again.added, again.replaced) == (7, 0, 7)
    assert set(contents(index)) == set(names) == {str(path) for path in index.paths}


class StoppedError(Exception):
    pass


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(0, 9), max_size=3), commit_rows=st.integers(2, 9), again=st.booleans())
def test_an_import_that_was_stopped_anywhere_ends_with_each_row_once(tmp_path_factory, stops, commit_rows, again):
    """Stopped before or after any commit or note; some runs begin with another table's rows in the index."""
    folder = tmp_path_factory.mktemp("stopped")
    rows = [(f"/sounds/{number % 13}.wav", number % WIDTH) for number in range(17)] + [("/bad.wav", "bad")]
    table = write_table(folder / "v.parquet", rows)
    if again:
        taken_in(write_table(folder / "before.parquet", [("/sounds/3.wav", 0), ("/sounds/x.wav", 1)]), folder / "index")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "BATCH_ROWS", 2)
        patch.setattr(WindowsTable, "compact", lambda _: None)
        for stop in stops:
            left = [stop]
            with pytest.MonkeyPatch.context() as stopping:
                for owner, name in ((WindowsTable, "append"), (WindowsTable, "replace"), (importing._Import, "_note")):
                    stopping.setattr(owner, name, stopped(getattr(owner, name), left=left))
                try:
                    taken_in(table, folder / "index", commit_rows=commit_rows)
                except StoppedError:
                    continue
        index, report = taken_in(table, folder / "index", commit_rows=commit_rows)
    expected = {path: at for path, at in rows if isinstance(at, int)}
    assert contents(index) == expected | ({"/sounds/x.wav": 1} if again else {})
    assert report.added + report.replaced + report.resumed == 17 and report.failures == (("/bad.wav", "bad"),)


def stopped(work, *, left):
    """It counts down at each of its borders, and raises at zero."""

    def border():
        left[0] -= 1
        if left[0] == -1:
            raise StoppedError

    def call(*arguments, **options):
        border()
        answer = work(*arguments, **options)
        border()
        return answer

    return call


def test_what_was_noted_and_taken_out_since_comes_again(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "BATCH_ROWS", 2)
    table = write_table(tmp_path / "v.parquet", [(f"/s/{number}.wav", number % WIDTH) for number in range(8)])
    left = [3]  # the first commit and its note pass, and the second commit
    with pytest.MonkeyPatch.context() as stopping, pytest.raises(StoppedError):
        for owner, name in ((WindowsTable, "append"), (importing._Import, "_note")):
            stopping.setattr(owner, name, stopped(getattr(owner, name), left=left))
        taken_in(table, tmp_path / "index", commit_rows=2)
    assert make_index(tmp_path / "index").remove(["/s/0.wav"]) == 1
    index, report = taken_in(table, tmp_path / "index", commit_rows=2)
    assert len(contents(index)) == 8 and report.resumed < 2 <= report.added + report.replaced


def test_a_member_with_a_name_that_is_too_long_for_a_file_is_left_out_and_told(tmp_path):
    table = write_table(tmp_path / "v.parquet", [("x.tar:" + 300 * "a" + ".wav", 0), ("/whole.wav", 1)])
    index, report = taken_in(table, tmp_path / "index")
    assert (report.added, report.absent) == (1, 1) and contents(index) == {"/whole.wav": 1}


def test_an_address_with_two_slashes_can_be_taken_out(tmp_path):
    index, _ = taken_in(write_table(tmp_path / "v.parquet", [("s3://b/x//y.wav", 0)]), tmp_path / "index")
    assert (index.remove(["s3://b/x/y.wav"]), index.remove(["s3://b/x//y.wav"])) == (0, 1)


def test_what_can_be_known_beforehand_is_told_before_an_index_is_touched(tmp_path, lapis):
    good = write_table(tmp_path / "good.parquet", [("/a.wav", 0), ("/b.wav", 1)])
    assert lapis("index", "import", good).returncode == 0
    bad = write_table(tmp_path / "bad.parquet", [("/a.wav", 0)], said=SAID)
    rows = parquet.read_table(bad)
    nothing = pa.array([None], rows.schema.field("duration_seconds").type)
    place = rows.schema.get_field_index("duration_seconds")
    parquet.write_table(rows.set_column(place, rows.schema.field(place), nothing), bad)
    assert "expected a duration" in lapis("index", "import", bad, "--rebuild").stderr
    few = lapis("index", "import", good, "--rebuild", "--approximate").stderr
    assert "expected at least 256 rows" in few and "damaged" not in few
    few = lapis("index", "import", good, "--approximate").stderr
    assert "expected at least 256 rows" in few and "damaged" not in few
    assert "expected a path of this machine" in lapis("index", "import", good, "--root", "s3://b/x").stderr
    assert "expected a path of this machine" in lapis("index", "import", "s3://b/v.parquet").stderr
    assert set(contents(Index.open(tmp_path / "lapis-index"))) == {"/a.wav", "/b.wav"}


def test_what_was_noted_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "BATCH_ROWS", 2)
    table = write_table(tmp_path / "v.parquet", [(f"/{number}.wav", 1) for number in range(9)])
    with monkeypatch.context() as stopping:
        stopping.setattr(importing._Import, "_note", stopped(importing._Import._note, left=[3]))
        with pytest.raises(StoppedError):
            taken_in(table, tmp_path / "index", commit_rows=2)
    index, report = taken_in(table, tmp_path / "index", commit_rows=2)
    assert (report.resumed, report.added, report.replaced) == (4, 5, 0)
    _, report = taken_in(table, tmp_path / "index", commit_rows=2)
    assert (report.resumed, report.added, report.replaced) == (0, 0, 9), "it came to its end, and the note is gone"
    assert len(contents(index)) == 9


def change(path, /, **columns):
    table = parquet.read_table(path)
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        field = table.schema.field(name)
        table = table.set_column(at, field, pa.array(values, field.type))
    parquet.write_table(table, path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"vector": [None, [1, 0, 0, 0, 0]]}, "row 1: expected either a vector or an error"),
        ({"error": [None, "bad"]}, "row 2: expected either a vector or an error"),
        ({"path": ["/a", None]}, "row 2: expected a path, got none"),
        ({"path": ["", "/b"]}, "row 1: expected a path, got none"),
        ({"vector": [[1, 0, 0, 0, 0], [3, 0, 0, 0, 0]]}, "row 2: expected a vector of length one"),
        ({"vector": [[1, 0, 0, 0, 0], [0, None, 1, 0, 0]]}, "row 2: expected a vector of length one"),
        ({"duration_seconds": [float("nan"), 1.0]}, "row 1: expected a duration in seconds"),
        ({"duration_seconds": [1.0, None]}, "row 2: expected a duration in seconds"),
    ],
)
def test_a_row_that_is_none_is_named(tmp_path, columns, message):
    table = write_table(tmp_path / "v.parquet", [("/a", 1), ("/b", 2)])
    change(table, **columns)
    with pytest.raises(ValueError, match=message):
        taken_in(table, tmp_path / "index")
    assert make_index(tmp_path / "index").num_windows == 0


@pytest.mark.parametrize(
    ("said", "width", "message"),
    [
        ({}, WIDTH, "expected a table that `lapis embed` has written, but it does not say lapis.identity"),
        (SAID | {"lapis.width": "4"}, WIDTH, r"expected a column `vector` of fixed_size_list<item: float>\[4\]"),
        (SAID | {"lapis.width": "wide"}, WIDTH, "lapis.width: expected a number, got 'wide'"),
        (SAID | {"lapis.width": "4"}, 4, "has vectors of width 5, the table 4"),
        (SAID | {"lapis.identity": "other"}, WIDTH, "was built with tones, not with other: vectors of two models"),
    ],
)
def test_a_table_of_another_kind_or_model_is_refused(tmp_path, said, width, message):
    index = make_index(tmp_path / "index")
    table = write_table(tmp_path / "v.parquet", [("/a", 1)], said=said, width=width)
    with pytest.raises(ValueError, match=message):
        import_table(index, Embedded.open(table))


def test_tables_that_are_not_whole_are_refused(sounds, tmp_path, lapis):
    out = tmp_path / "v.parquet"
    folder = embed([str(sounds)], out, shards=3)
    parts = sorted(folder.iterdir())
    for table, message in ((out, "its shards lie in"), (sounds, "folder of its shards"), ("none", "there is none")):
        answer = lapis("index", "import", table)
        assert answer.returncode == 2 and message in answer.stderr
    one = parts[1].read_bytes()
    parts[1].write_bytes(one[:-20])
    assert "is not a whole shard" in lapis("index", "import", folder).stderr
    parts[1].unlink()
    assert "shard 1/3: not finished" in lapis("index", "import", folder).stderr
    assert not (tmp_path / "lapis-index").exists()
    assert lapis("index", "import", parts[0]).returncode == 0, "a shard by itself is a table of its own clips"
    parts[1].write_bytes(one)
    merge(out)
    assert lapis("index", "import", out).returncode == 0
    assert len(contents(Index.open(tmp_path / "lapis-index"))) == 6
    for words in (["--engine", "ray"], ["--workers", "2"], ["--approximate", "--address", "auto"]):
        assert "--engine ray" in lapis("index", "import", out, *words).stderr


def test_an_index_that_is_being_written_is_left_alone(tmp_path):
    index = make_index(tmp_path / "index")
    table = Embedded.open(write_table(tmp_path / "v.parquet", [("/a", 1)]))
    with index._place.claims.adding(), pytest.raises(ValueError, match="in use by another process"):
        import_table(index, table)


@given(st.lists(st.integers(0, 60), max_size=80), st.integers(1, 7))
def test_what_was_met_is_known_exactly(numbers, size):
    seen, before = importing._Seen(), set()
    for begin in range(0, len(numbers), size):
        some = [str(number) for number in numbers[begin : begin + size]]
        assert seen.add(some).tolist() == [name in before for name in some]
        before |= set(some)


IMPORT = """
import sys
from pathlib import Path
from lapis.search import embedded
from lapis.search.embedded import Embedded
from lapis.search.importing import import_table
from lapis.search.index import Index
embedded.BATCH_ROWS = 50
index = Index.create_or_open(sys.argv[2], embedder_identity="tones", width=5)
report = import_table(index, Embedded.open(sys.argv[1]), commit_rows=100)
print(report.added + report.replaced + report.resumed)
"""


@pytest.mark.slow
def test_an_import_that_is_killed_at_random_ends_with_each_row_once(tmp_path):
    generator = random.Random(0)
    rows = [(f"/sounds/{number % 4000}.wav", number % WIDTH) for number in range(5000)]
    table = write_table(tmp_path / "v.parquet", rows)
    words = [sys.executable, "-c", IMPORT, str(table), str(tmp_path / "index")]
    environment, killed = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, 0
    for _ in range(12):
        process = subprocess.Popen(words, stdout=subprocess.PIPE, env=environment)
        versions = tmp_path / "index" / "windows.lance" / "_versions"
        before, deadline = len(list(versions.glob("*"))), time.monotonic() + 60
        while process.poll() is None and len(list(versions.glob("*"))) <= before and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(generator.uniform(0, 0.3))
        killed += process.poll() is None
        process.kill()
        process.communicate()
    said = subprocess.run(words, check=False, capture_output=True, text=True, env=environment)
    assert said.returncode == 0 and said.stdout.strip() == "5000", said.stderr
    assert killed >= 6
    assert contents(Index.open(tmp_path / "index")) == dict(rows)
