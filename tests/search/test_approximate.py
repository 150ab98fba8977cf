"""The table's own index and the map of it, held against numpy over the same vectors."""

import json
from datetime import timedelta
from functools import partial
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from lapis.cli_index import compact
from lapis.files import locked
from lapis.search import approximate, vector_map
from lapis.search.approximate import approximation_of, build, nearest, num_unindexed, refresh
from lapis.search.columns import File, Stamp, rows_of
from lapis.search.filters import Filter
from lapis.search.index import Index
from lapis.search.mapping import LOCK_NAME, build_map, refresh_map
from lapis.search.recall import exact, far_from
from lapis.search.vector_map import STAMP_NAME, VectorMap

WIDTH, ROWS, DEPTH = 32, 2500, 10
COLUMNS = ["path", "window"]
RANDOM = np.random.default_rng(0)
CENTRES = RANDOM.standard_normal((40, WIDTH))


def unit(vectors):
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def clustered(count, seed):
    random = np.random.default_rng(seed)
    return unit(CENTRES[random.integers(40, size=count)] + 0.8 * random.standard_normal((count, WIDTH)))


VECTORS = clustered(ROWS, 1)
QUERIES = np.concatenate([clustered(10, 2), far_from(clustered(10, 3), seed=4)])


def rows(vectors, *, first=0, number=pa.float32()):
    numbers = np.arange(first, first + len(vectors))
    values = pa.array(vectors.astype(number.to_pandas_dtype()).reshape(-1))
    columns = {
        "path": [f"{number}.wav" for number in numbers],
        "window": pa.array(numbers % 500, pa.int32()),
        "vector": pa.FixedSizeListArray.from_arrays(values, WIDTH),
    }
    return pa.table(columns)


def open_table(folder):
    return lancedb.connect(folder, read_consistency_interval=timedelta(0)).open_table("windows")


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    """A table with an index, which tests only read."""
    folder = tmp_path_factory.mktemp("table")
    table = lancedb.connect(folder).create_table("windows", rows(VECTORS))
    build(table, queries=20)
    return open_table(folder)


@pytest.fixture(scope="module")
def mapped(indexed, tmp_path_factory):
    """The map of it, which tests only read."""
    return build_map(tmp_path_factory.mktemp("map"), table=indexed, embedder_identity="model", columns=COLUMNS)


@pytest.fixture
def small(tmp_path):
    """A table of its own for a test that writes."""
    lancedb.connect(tmp_path / "table").create_table("windows", rows(VECTORS[:600]))
    return open_table(tmp_path / "table")


def best(vectors, query, *, among=None):
    cosines = vectors @ query
    if among is not None:
        cosines = np.where(among, cosines, -2)
    return {f"{number}.wav" for number in np.argsort(-cosines)[:DEPTH]}


def recall(ask, *, among=None):
    found = [set(ask(query).column("path").to_pylist()) for query in QUERIES]
    return np.mean([len(one & best(VECTORS, query, among=among)) / DEPTH for one, query in zip(found, QUERIES)])


def test_what_was_measured_is_so_and_stands_in_the_table(indexed):
    known = approximation_of(indexed)
    assert known is not None and known.is_reached and known.rows == ROWS and known.far == "made"
    assert min(known.recall_rows, known.recall_far) >= known.goal
    assert recall(lambda query: nearest(indexed, query, depth=DEPTH, columns=COLUMNS)) >= 0.9
    assert recall(lambda query: nearest(indexed, query, depth=DEPTH, columns=COLUMNS, exactly=True)) == 1
    plan = approximate._looking(approximate._query(indexed, QUERIES[0]), known).explain_plan()
    assert "ANN" in plan


def test_distances_are_of_the_whole_vectors_and_rise(indexed):
    found = nearest(indexed, QUERIES[0], depth=DEPTH, columns=COLUMNS)
    assert found.column_names == [*COLUMNS, "_distance"]
    distances = found.column("_distance").to_numpy()
    numbers = [int(path.removesuffix(".wav")) for path in found.column("path").to_pylist()]
    np.testing.assert_allclose(distances, 1 - VECTORS[numbers] @ QUERIES[0], atol=1e-5)
    assert (np.diff(distances) >= 0).all()


@pytest.mark.parametrize("where, among", [("window < 20", 20), ("window < 300", 300), ("window >= 0", 500)])
def test_conditions_of_any_strictness_are_honoured(indexed, mapped, where, among):
    meets = np.arange(ROWS) % 500 < among
    asked_table = recall(lambda query: nearest(indexed, query, depth=DEPTH, columns=COLUMNS, where=where), among=meets)
    asked_map = recall(lambda query: mapped.nearest(query, depth=DEPTH, where=where, table=indexed), among=meets)
    assert asked_table >= 0.9 and asked_map >= 0.9


def test_a_condition_that_no_row_meets_finds_nothing(indexed, mapped):
    for found in (
        nearest(indexed, QUERIES[0], depth=DEPTH, columns=COLUMNS, where="path = 'none'"),
        mapped.nearest(QUERIES[0], depth=DEPTH, where="path = 'none'", table=indexed),
    ):
        assert found.num_rows == 0 and found.column_names == [*COLUMNS, "_distance"]


def test_exact_search_of_many_queries_passes_once_through_the_table(indexed):
    found = exact(indexed, QUERIES, depth=DEPTH, where="window < 250")
    cosines = np.where(np.arange(ROWS) % 500 < 250, QUERIES @ VECTORS.T, -2)
    np.testing.assert_allclose(found.cosines, -np.sort(-cosines, axis=1)[:, :DEPTH], atol=1e-6)
    assert exact(indexed, QUERIES, depth=DEPTH, where="path IN ('1.wav', '2.wav')").rows.shape == (len(QUERIES), 2)
    assert exact(indexed, QUERIES, depth=DEPTH, where="path = 'none'").rows.shape == (len(QUERIES), 0)


def test_rows_that_come_later_are_found_at_once_and_taken_in_by_a_refresh(small):
    build(small, queries=10)
    new = clustered(50, 9)
    small.add(rows(new, first=ROWS))
    small.delete("path = '3.wav'")
    assert num_unindexed(small) == 50

    def check():
        for number in (0, 49):
            found = nearest(small, new[number], depth=1, columns=["path"]).column("path").to_pylist()
            assert found == [f"{ROWS + number}.wav"]
        assert "3.wav" not in nearest(small, VECTORS[3], depth=5, columns=["path"]).column("path").to_pylist()

    check()
    assert refresh(small) == approximation_of(small)
    assert num_unindexed(small) == 0
    check()


def test_an_index_is_trained_anew_when_the_table_has_outgrown_it(small):
    assert refresh(small) is None
    assert build(small, queries=10).rows == 600
    small.add(rows(clustered(700, 9), first=ROWS))
    known = refresh(small)
    assert known is not None and known.rows == 1300 and num_unindexed(small) == 0


def test_texts_vectors_may_be_given_and_half_precision_is_enough(tmp_path):
    table = lancedb.connect(tmp_path).create_table("windows", rows(VECTORS[:600], number=pa.float16()))
    known = build(table, far=QUERIES[10:], queries=10, goal=1.0)
    assert known.far == "given" and str(known).endswith("1.00 asked for")
    assert nearest(table, VECTORS[7], depth=1, columns=["path"]).column("path").to_pylist() == ["7.wav"]


def test_too_few_rows_are_refused(tmp_path):
    table = lancedb.connect(tmp_path).create_table("windows", rows(VECTORS[:20]))
    with pytest.raises(ValueError, match="at least 256 rows to make an index of, got 20"):
        build(table)
    assert not approximate.worthwhile(20) and approximation_of(table) is None


def test_a_search_as_deep_as_the_table_has_every_row(indexed):
    """The index too looks on until it has as many as are asked for."""
    for table, depth, total in ((indexed, ROWS, ROWS), (indexed, 1000, 1000)):
        found = nearest(table, QUERIES[0], depth=depth, columns=["path"])
        assert len(set(found.column("path").to_pylist())) == total


def test_the_graph_itself_honours_conditions(mapped, indexed, monkeypatch):
    monkeypatch.setattr(vector_map, "FEW_KEYS", 50)
    for where, below in (("window < 300", 300), ("window < 40", 40)):
        meets = np.arange(ROWS) % 500 < below
        found = partial(mapped.nearest, depth=DEPTH, where=where, table=indexed)
        assert recall(found, among=meets) >= 0.9


def test_a_map_answers_as_it_was_measured(mapped, monkeypatch):
    monkeypatch.setattr(vector_map, "FEW_KEYS", 50)
    assert min(mapped.stamp.recall_rows, mapped.stamp.recall_far) >= mapped.stamp.goal
    assert recall(lambda query: mapped.nearest(query, depth=DEPTH)) >= 0.9
    found = mapped.nearest(VECTORS[5], depth=3)
    assert found.column("path")[0].as_py() == "5.wav" and found.column_names == [*COLUMNS, "_distance"]
    np.testing.assert_allclose(found.column("_distance")[0].as_py(), 0, atol=1e-3)
    assert mapped.nearest(VECTORS[5], depth=2 * ROWS).num_rows == ROWS


def test_a_map_follows_its_table(small, tmp_path):
    first = build_map(tmp_path / "map", table=small, embedder_identity="model", columns=COLUMNS)
    new = clustered(30, 9)
    small.add(rows(new, first=3100))
    small.delete("window < 100 and path != '2.wav'")
    small.update(where="path = '400.wav'", values={"window": 7})
    with pytest.raises(ValueError, match="refresh it"):
        VectorMap.open(tmp_path / "map", table=small)
    with pytest.raises(ValueError, match="a condition needs the table in version"):
        first.nearest(new[0], depth=1, where="window > 3", table=small)
    second = refresh_map(tmp_path / "map", table=small)
    assert second.stamp.rows == small.count_rows() == len(second.graph)
    assert second.stamp.next_key == 600 + 31, "only what came or changed was added"
    everything = second.nearest(new[0], depth=ROWS)
    assert sorted(everything.column("path").to_pylist()) == sorted(small.to_arrow().column("path").to_pylist())
    assert everything.column("path")[0].as_py() == "3100.wav"
    assert second.nearest(VECTORS[2], depth=1).column("path").to_pylist() == ["2.wav"]
    seven = second.nearest(VECTORS[400], depth=1, where="window = 7", table=small)
    assert seven.column("path").to_pylist() == ["400.wav"]
    assert first.nearest(VECTORS[5], depth=1).column("path").to_pylist() == ["5.wav"], "whoever has it open keeps it"

    small.optimize()
    third = refresh_map(tmp_path / "map", table=small)
    assert third.stamp.graph_name == second.stamp.graph_name, "compaction changes no row"
    assert third.nearest(new[3], depth=1, where="window > 2", table=small).column("path").to_pylist() == ["3103.wav"]
    names = {path.name for path in (tmp_path / "map").iterdir()}
    assert names == {STAMP_NAME, LOCK_NAME, third.stamp.graph_name, third.stamp.rows_name}


def test_a_map_of_another_model_or_another_table_is_refused(mapped, small, tmp_path):
    with pytest.raises(ValueError, match="has vectors of model, not of other"):
        VectorMap.open(mapped.folder, embedder_identity="other")
    build_map(tmp_path / "map", table=small, embedder_identity="model", columns=COLUMNS)
    database = lancedb.connect(tmp_path / "table")
    database.drop_table("windows")
    again = database.create_table("windows", rows(VECTORS[600:1200]))
    assert again.version == small.version == 1
    with pytest.raises(ValueError, match="refresh it"):
        VectorMap.open(tmp_path / "map", table=again)
    assert refresh_map(tmp_path / "map", table=again).stamp.rows == 600


def test_a_damaged_map_is_refused_and_built_anew(small, tmp_path):
    folder = tmp_path / "map"
    with pytest.raises(ValueError, match="there is no map in"):
        VectorMap.open(folder)
    stamp = build_map(folder, table=small, embedder_identity="model", columns=COLUMNS).stamp
    good = (folder / stamp.graph_name).read_bytes()
    (folder / stamp.graph_name).write_bytes(good[:-100])
    with pytest.raises(ValueError, match="bytes, expected"):
        VectorMap.open(folder)
    (folder / stamp.graph_name).write_bytes(good)
    (folder / stamp.rows_name).write_bytes(b"nothing")
    with pytest.raises(ValueError, match="build the map anew"):
        VectorMap.open(folder)
    (folder / stamp.rows_name).unlink()
    with pytest.raises(ValueError, match="build the map anew"):
        VectorMap.open(folder)
    (folder / STAMP_NAME).write_text(json.dumps({"format": 1}))
    with pytest.raises(ValueError, match="is damaged"):
        VectorMap.open(folder)
    (folder / ".vectors-1.usearch.part").write_bytes(good[:50])  # as a process that was killed leaves it
    again = build_map(folder, table=small, embedder_identity="model", columns=COLUMNS)
    assert again.stamp.rows == 600 and not list(folder.glob(".*.part"))


def test_an_index_is_asked_through_its_map_as_long_as_that_is_current(tmp_path, caplog, capsys):
    index = Index.create_or_open(tmp_path / "index", embedder_identity="model", width=WIDTH)

    def add(numbers):
        files = [
            File(Path(f"/sounds/{n}.wav"), Stamp(1, 1), str(n), spans=[(0.0, 1.0)], vectors=[VECTORS[n : n + 1]])
            for n in numbers
        ]
        index._windows.replace(rows_of(files, width=WIDTH), of=[file.path for file in files])

    def answers(where=None):
        return [[hit.path.name for hit in index.search(query, where=where)] for query in QUERIES]

    def is_asked():
        return index._neighbours._map() is not None

    add(range(400))
    where = Filter(below="sounds", longest_seconds=1.0)
    expected = answers()
    assert not is_asked() and not index.has_map
    compact(index=str(tmp_path / "index"), map=True)
    assert "400 windows\nmap of 400 rows" in capsys.readouterr().out and is_asked()
    for found in (answers(), answers(where)):
        assert np.mean([len(set(one) & set(true)) / DEPTH for one, true in zip(found, expected)]) >= 0.9
    assert len(index.search(VECTORS[0], limit=400)) == 400

    add([401])  # now the table answers, and one line says so
    assert index.search(VECTORS[401], limit=1)[0].path.name == "401.wav" and not is_asked()
    (record,) = caplog.records
    assert "which now has version" in record.message and "compact" in record.message
    compact(index=str(tmp_path / "index"))
    assert is_asked() and index.search(VECTORS[401], limit=1)[0].path.name == "401.wav"

    (tmp_path / "index" / "map" / index._neighbours._map().stamp.graph_name).write_bytes(b"damaged")
    assert len(Index.open(tmp_path / "index").search(VECTORS[0], limit=3)) == 3 and "is damaged" in caplog.text
    index.update_map(anew=True)
    assert is_asked()
    Index.create_or_open(tmp_path / "index", embedder_identity="other", width=WIDTH, rebuild=True)
    assert not index.has_map


def test_one_process_at_a_time_writes_a_map(mapped, indexed):
    with locked(mapped.folder / LOCK_NAME), pytest.raises(ValueError, match="in use by another process"):
        refresh_map(mapped.folder, table=indexed)


def test_an_empty_table_has_no_map(tmp_path):
    table = lancedb.connect(tmp_path / "table").create_table("windows", rows(VECTORS[:5]))
    table.delete("true")
    with pytest.raises(ValueError, match="expected a table with rows"):
        build_map(tmp_path / "map", table=table, embedder_identity="model", columns=COLUMNS)
