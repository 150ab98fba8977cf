"""The index that a cluster builds: read and measured as the table's own, and no worse."""

from datetime import timedelta

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from lapis.search import approximate, ray_index
from lapis.search.approximate import approximation_of, build, nearest, num_unindexed, refresh
from lapis.search.ray_index import build_with_ray, builder
from lapis.search.recall import exact, far_from

DEPTH = 10


def made(count, seed, *, width):
    """Vectors in many clusters that touch each other."""
    random, fixed = np.random.default_rng(seed), np.random.default_rng(0)
    basis, centres = fixed.standard_normal((24, width)), fixed.standard_normal((300, 24))
    vectors = (centres[random.integers(300, size=count)] + 0.7 * random.standard_normal((count, 24))) @ basis
    vectors += 1.5 * random.standard_normal((count, width))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def rows(vectors, name):
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return pa.table({"path": [f"{name}-{number}.wav" for number in range(len(vectors))], "vector": column})


def table_in(folder, *, count, fragments, width):
    database = lancedb.connect(folder, read_consistency_interval=timedelta(0))
    table = database.create_table("windows", schema=rows(made(1, 0, width=width), 0).schema)
    for number in range(fragments):
        table.add(rows(made(count // fragments, number, width=width), number))
    return table


def found(table, queries):
    return [nearest(table, query, depth=DEPTH, columns=["path"])["path"].to_pylist() for query in queries]


def recall(table, queries):
    told = table.search().select(["path"]).with_row_id(True).to_arrow()
    path_of = dict(zip(told["_rowid"].to_pylist(), told["path"].to_pylist()))
    truth = exact(table, queries, depth=DEPTH).rows.tolist()
    shares = [len({path_of[row] for row in true} & set(one)) / DEPTH for one, true in zip(found(table, queries), truth)]
    return float(np.mean(shares))


@pytest.mark.slow
def test_a_cluster_builds_what_the_table_builds(tmp_path):
    """60,000 vectors in four fragments, by two workers; then rows that come later."""
    pytest.importorskip("lance_ray")
    own = table_in(tmp_path / "own", count=60_000, fragments=4, width=64)
    by_ray = table_in(tmp_path / "ray", count=60_000, fragments=4, width=64)
    known, other = build(own), build_with_ray(by_ray, workers=2)
    assert approximation_of(by_ray) == other and other.is_reached
    assert (other.rows, other.partitions) == (known.rows, known.partitions) == (60_000, 245)
    (index,) = by_ray.list_indices()
    assert (index.name, index.num_segments, num_unindexed(by_ray)) == ("vector_idx", 2, 0)
    queries = np.concatenate([made(100, 91, width=64), far_from(made(100, 92, width=64), seed=1)])
    assert recall(by_ray, queries) >= max(0.9, recall(own, queries) - 0.03)
    by_ray.add(rows(made(500, 93, width=64), "new"))
    assert num_unindexed(by_ray) == 500
    refreshed = refresh(by_ray)
    assert refreshed == approximation_of(by_ray) and refreshed.rows == other.rows and refreshed.is_reached
    assert num_unindexed(by_ray) == 0
    assert recall(by_ray, queries) >= 0.9


def test_what_is_measured_is_what_is_built(tmp_path):
    """Measuring apart from building notes the same as building does."""
    table = table_in(tmp_path, count=600, fragments=2, width=16)
    known = build(table, queries=10)
    assert approximate.measure(table, partitions=known.partitions, queries=10) == known == approximation_of(table)


def test_what_cannot_be_built_is_said_before_a_cluster_is_started(tmp_path, monkeypatch):
    table = table_in(tmp_path / "few", count=20, fragments=1, width=16)
    with pytest.raises(ValueError, match="at least 256 rows to make an index of, got 20"):
        build_with_ray(table)
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        build_with_ray(table, workers=0)
    table = table_in(tmp_path / "narrow", count=300, fragments=1, width=12)
    with pytest.raises(ValueError, match="a multiple of 8, got 12"):
        build_with_ray(table)

    def import_module(name):
        raise ImportError(name)

    monkeypatch.setattr(ray_index, "import_module", import_module)
    table = table_in(tmp_path / "well", count=300, fragments=1, width=16)
    with pytest.raises(ValueError, match=r"pip install 'lapis-audio\[ray\]'"):
        build_with_ray(table)


def test_the_options_say_who_builds():
    assert builder("process") is approximate.build
    assert builder("ray", workers=2).keywords == {"workers": 2, "address": "local"}
    for options in ({"workers": 2}, {"address": "auto"}):
        with pytest.raises(ValueError, match="--workers and --address are options of --engine ray"):
            builder("process", **options)
