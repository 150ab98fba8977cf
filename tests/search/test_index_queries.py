"""Which files, what is wanted and what is not; what an index has twice; and the index as a table."""

import json
import os
import tracemalloc
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from test_index import CalibratedTones, make_index
from tones import ToneEmbedder, tone, write_sound, write_tone

import tiny
from lapis.cli_index import Files, _print_hits
from lapis.search.columns import File, Labels, Stamp, rows_of
from lapis.search.duplicates import exact_duplicates, near_duplicates
from lapis.search.exporting import export
from lapis.search.filters import Filter
from lapis.search.hits import Hit
from lapis.search.index import Index
from lapis.search.query import Query


def day(path: Path, *numbers: int) -> None:
    moment = datetime(*numbers, 12, tzinfo=UTC).timestamp()
    os.utime(path, (moment, moment))


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    root = tmp_path_factory.mktemp("filtered")
    sounds = root / "sounds"
    day(write_tone(sounds / "Foley" / "low.wav", 300, seconds=1), 2024, 1, 1)
    day(write_tone(sounds / "Foley" / "Doors" / "high.wav", 1000, seconds=5), 2024, 1, 2)
    day(write_tone(sounds / "Foley%_" / "both's.wav", 300, 1000, seconds=3), 2023, 12, 31)
    labels = {
        sounds / "Foley" / "low.wav": Labels(("wet", "l'eau"), "a drop"),
        sounds / "Foley%_" / "both's.wav": Labels(("wet",)),
    }
    index = make_index(root / "index", window_seconds=2.0)
    index.update(sounds, embedder=ToneEmbedder(), labels=labels)
    return index


@pytest.mark.parametrize(
    ("where", "names"),
    [
        (Filter(), "both's high low"),
        (Filter(below="Foley"), "high low"),
        (Filter(below="Foley/Doors/"), "high"),
        (Filter(below="Foley%_"), "both's"),
        (Filter(below="oley"), ""),
        (Filter(shortest_seconds=3.0), "both's high"),
        (Filter(shortest_seconds=1.0, longest_seconds=3.0), "both's low"),
        (Filter(tags=("wet",)), "both's low"),
        (Filter(tags=("wet", "l'eau")), "low"),
        (Filter(since=date(2024, 1, 1)), "high low"),
        (Filter(until=date(2024, 1, 1)), "both's low"),
        (Filter(since=date(2024, 1, 2), until=date.max), "high"),
        (Filter(below="Foley", tags=("wet",), longest_seconds=2.0, until=date(2025, 1, 1)), "low"),
    ],
)
def test_a_search_is_about_the_files_that_a_filter_leaves(index, where, names):
    hits = index.search_text("low", embedder=ToneEmbedder(), where=where)
    assert " ".join(sorted(hit.path.stem for hit in hits)) == names
    assert " ".join(sorted(file.path.stem for file in index.files(where=where))) == names
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_whole_path_is_that_folder(index):
    folder = next(file.path for file in index.files(where=Filter(below="Doors"))).parent
    assert [file.path.stem for file in index.files(where=Filter(below=str(folder)))] == ["high"]
    assert not list(index.files(where=Filter(below=f"{folder}/high.wav")))
    assert len(list(index.files(where=Filter(below=str(folder.parent))))) == 2


def test_a_path_at_the_command_line_is_told_whole(tmp_path, monkeypatch):
    (tmp_path / "disk" / "Foley").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    monkeypatch.chdir(tmp_path / "disk")
    whole = str((tmp_path / "disk" / "Foley").resolve())
    for below in ("./Foley", "../disk/Foley/", f"{tmp_path}/link/Foley"):
        assert Files(below=below).where().below == whole
    assert [Files(below=name).where().below for name in ("Foley", ".hidden", None)] == ["Foley", ".hidden", None]


def test_a_long_path_is_printed_whole(tmp_path, capsys):
    path = tmp_path / ("long" * 30) / "rain.wav"
    _print_hits([Hit(path, 0.0, 1.0, 0.5)], title="rain", as_json=False)
    assert str(path) in "".join(
        line.rpartition("│")[0].rpartition("│")[2].strip() for line in capsys.readouterr().out.splitlines()
    )


def test_no_conditions_are_no_sql():
    assert Filter().sql() is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shortest_seconds": -1.0}, "shortest_seconds: expected a number of seconds"),
        ({"longest_seconds": float("nan")}, "longest_seconds: expected"),
        ({"below": "/"}, "below: expected the name of a folder"),
        ({"tags": (" ",)}, "tags: expected words"),
        ({"shortest_seconds": 2.0, "longest_seconds": 1.0}, "expected shortest_seconds to be at most longest_seconds"),
        ({"since": date(2024, 1, 2), "until": date(2024, 1, 1)}, "expected since to be at most until"),
    ],
)
def test_filters_without_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Filter(**options)


def test_a_query_is_what_is_wanted_less_half_of_what_is_not(tmp_path):
    embedder = ToneEmbedder()
    hiss = write_tone(tmp_path / "hiss.wav", 3000, seconds=5)
    low, high, top = (vector.astype(np.float64) for vector in embedder.embed_text(["low", "high", "hiss"]))
    both = (low + high) / np.sqrt(2)
    vector = Query(("low", "high"), (hiss,), unlike_texts=("middle",)).vector(embedder, window_seconds=2.0)
    wanted = (both + top) / np.linalg.norm(both + top)
    np.testing.assert_allclose(vector, wanted - 0.5 * embedder.embed_text(["middle"])[0], atol=1e-3)
    np.testing.assert_allclose(Query(sounds=(hiss,)).vector(embedder, window_seconds=2.0), top, atol=1e-3)


def test_what_is_not_wanted_goes_down(index):
    def order(query: Query) -> list[str]:
        return [hit.path.stem for hit in index.search_query(query, embedder=ToneEmbedder())]

    assert order(Query(("low",))) == ["low", "both's", "high"]
    assert order(Query(("low", "high"), unlike_texts=("low",)))[0] == "high"
    heard = next(file.path for file in index.files(where=Filter(below="Doors")))
    assert order(Query(("low",), unlike_sounds=(heard,)))[-1] == "high"


def test_only_of_one_text_alone_a_probability_is_told(index):
    model = CalibratedTones(calibration=tiny.calibration("tones", width=5))
    told = index.search_query(Query(("low",)), embedder=model)
    assert told == index.search_text("low", embedder=model) and told[0].probability is not None
    for query in (Query(("low", "high")), Query(("low",), unlike_texts=("high",))):
        assert {hit.probability for hit in index.search_query(query, embedder=model)} == {None}


@pytest.mark.parametrize("options", [{}, {"unlike_texts": ("low",)}, {"texts": (" ",)}])
def test_queries_for_nothing_are_refused(options):
    with pytest.raises(ValueError, match="expected words to search for"):
        Query(**options)


def test_duplicates_are_files_of_the_same_content_and_files_almost_alike(tmp_path):
    sounds, generator = tmp_path / "sounds", np.random.default_rng(0)
    parts = np.concatenate([tone(hertz) for hertz in (100, 300, 1000, 3000)])
    write_sound(sounds / "one.wav", parts)
    (sounds / "same.wav").write_bytes((sounds / "one.wav").read_bytes())
    write_sound(sounds / "louder.wav", 2 * parts)
    write_sound(sounds / "begins-alike.wav", np.concatenate([parts[:24000], *[tone(600)] * 9]))
    write_sound(sounds / "noise.wav", generator.normal(0, 0.1, 8000).astype(np.float32))
    index = make_index(tmp_path / "index", window_seconds=1.0)
    index.update(sounds, embedder=ToneEmbedder())
    (exact,) = exact_duplicates(index)
    assert (exact.first.name, exact.second.name, exact.is_same_content) == ("one.wav", "same.wav", True)
    found = {}
    for rows in (1, 4, 1000):  # however the rows fall into blocks
        found[rows] = near_duplicates(index, least_cosine=0.99, block_rows=rows)
        near, *rest = found[rows]
        assert {near.first.name, near.second.name} == {"louder.wav", "one.wav"}
        assert near.share == 1 and near.cosine > 0.999
        # Three of four windows are alike; of the file with the same content only one is compared.
        assert [(of.first.name, of.second.name, of.share) for of in rest] == [
            ("begins-alike.wav", "louder.wav", 0.75),
            ("begins-alike.wav", "one.wav", 0.75),
        ]
    assert [of.first for of in found[1]] == [of.first for of in found[1000]]
    assert len(near_duplicates(index, least_cosine=0.99, least_share=0.8)) == 1
    assert not near_duplicates(index, where=Filter(longest_seconds=2.0))
    with pytest.raises(ValueError, match="more than 1 pairs of files"):
        near_duplicates(index, least_cosine=0.5, most_pairs=1)
    with pytest.raises(ValueError, match="least_share"):
        near_duplicates(index, least_share=0.0)


def test_much_silence_takes_little_memory_to_compare(tmp_path):
    silence = np.eye(5, dtype=np.float32)[:1]
    index = make_index(tmp_path / "index")
    files = [
        File(tmp_path / name, Stamp(1, 1), name, spans=[(0.0, 1.0)] * 800, vectors=[silence] * 800) for name in "ab"
    ]
    index._windows.replace(rows_of(files, width=5), of=[file.path for file in files])
    tracemalloc.start()
    (found,) = near_duplicates(index)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.share, found.cosine) == (1, 1) and peak < 8 * 1600**2


def test_the_table_as_parquet(index, tmp_path):
    assert export(index, tmp_path / "all.parquet") == index.num_windows == 6
    table = parquet.read_table(tmp_path / "all.parquet")
    told = json.loads(table.schema.metadata[b"lapis"])
    assert (told["embedder_identity"], told["width"]) == ("tones", 5)
    assert table.to_pylist() == index.table.to_arrow().to_pylist()
    assert export(index, tmp_path / "some.parquet", where=Filter(tags=("wet",))) == 3
    with pytest.raises(ValueError, match=r"ends in \.parquet"):
        export(index, tmp_path / "all.csv")


def test_indices_on_columns_change_no_answer(index, tmp_path, monkeypatch):
    from lapis.search import windows_table

    kinds = ({"below": "Foley"}, {"tags": ("wet",)}, {"since": date(2024, 1, 1)}, {"longest_seconds": 2.0})
    queries = [Filter(**kind) for kind in kinds]
    before = [index.search(np.ones(5), where=where) for where in queries]
    monkeypatch.setattr(windows_table, "ROWS_WORTH_AN_INDEX", 1)
    index.compact()
    assert {index.columns[0] for index in index.table.list_indices()} == set(windows_table.SCALAR_INDICES)
    assert [index.search(np.ones(5), where=where) for where in queries] == before
