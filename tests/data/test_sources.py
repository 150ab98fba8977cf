import csv
import json
import pickle

import pytest

from data.corpus import SAMPLE_RATE, sound_bytes, tones, write_tar
from lapis import audio
from lapis.data.sources import HuggingFaceFolder, Table, Tars


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    return tmp_path


def _sounds(folder, count=3):
    (folder / "töne 音").mkdir()
    for number in range(count):
        (folder / "töne 音" / f"clip {number}.flac").write_bytes(sound_bytes(0.2 + 0.1 * number))
    return [f"töne 音/clip {number}.flac" for number in range(count)]


def _durations(samples):
    return [round(len(audio.read(sample.audio.open())) / SAMPLE_RATE, 2) for sample in samples]


def test_csv(folder):
    with (folder / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["audio", "caption", "label", "seconds"])
        writer.writerows(
            [name, f"caption, with a comma {number}", "", 0.2] for number, name in enumerate(_sounds(folder))
        )
    samples = Table("table.csv").build()
    assert [sample.captions for sample in samples] == [
        {"eng_Latn": (f"caption, with a comma {number}",)} for number in range(3)
    ]
    assert samples[0].seconds == 0.2
    assert _durations(samples) == [0.2, 0.3, 0.4]


def test_jsonl_with_captions_by_language(folder):
    rows = [
        {"audio": name, "captions": {"eng_Latn": ["one", "two"], "zho_Hans": ["三"]}, "domain": "sound"}
        for name in _sounds(folder)
    ]
    (folder / "table.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    samples = Table("table.jsonl").build()
    assert samples[2].captions == {"eng_Latn": ("one", "two"), "zho_Hans": ("三",)}
    assert samples[2].domain == "sound" and samples[2].seconds is None


def test_parquet(folder):
    import pyarrow as pa
    from pyarrow import parquet

    names = _sounds(folder)
    table = pa.table({"file": names, "text": [["a", "b"]] * 3, "label": ["x", None, "z"]})
    parquet.write_table(table, folder / "table.parquet")
    samples = Table("table.parquet", audio="file", caption="text", language="deu_Latn").build()
    assert samples[0].captions == {"deu_Latn": ("a", "b")}
    assert [sample.label for sample in samples] == ["x", None, "z"]
    assert _durations(samples) == [0.2, 0.3, 0.4]


@pytest.mark.parametrize("form", ["hub", "bytes", "named"])
def test_parquet_with_the_sounds_in_it(folder, form):
    import pyarrow as pa
    from pyarrow import parquet

    names = _sounds(folder)
    contents = [(folder / name).read_bytes() for name in names]
    cells = {
        "hub": [{"bytes": content, "path": name} for name, content in zip(names, contents)],
        "bytes": contents,
        "named": [{"bytes": None, "path": name} for name in names],
    }[form]
    table = pa.table({"caption": ["a", "b", "c"], "sound": cells})
    parquet.write_table(table, folder / "table.parquet", row_group_size=2)
    samples = Table("table.parquet", audio="sound").build()
    assert [sample.key for sample in samples] == (["1", "2", "3"] if form == "bytes" else names)
    assert samples[2].captions == {"eng_Latn": ("c",)} and str(samples[2].audio).endswith("table.parquet, row 3, sound")
    assert _durations(pickle.loads(pickle.dumps(samples))) == [0.2, 0.3, 0.4]


def test_a_sound_that_is_not_there_is_named_by_its_row(folder):
    import pyarrow as pa
    from pyarrow import parquet

    import datasets

    sound = {"bytes": sound_bytes(0.1), "path": None}
    cells, words = [sound, {"bytes": None, "path": None}, None], ["a", "b", "c"]
    parquet.write_table(pa.table({"audio": cells, "caption": words}), folder / "t.parquet")
    cell = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    kinds = {"audio": cell, "caption": datasets.Value("string"), "number": datasets.Value("int64")}
    rows = {"audio": cells, "caption": words, "number": [1, 2, 3]}
    datasets.Dataset.from_dict(rows, features=datasets.Features(kinds)).save_to_disk(str(folder / "saved"))
    for source in (Table("t.parquet"), HuggingFaceFolder("saved")):
        first, *others = source.build()
        assert first.audio.open() == sound["bytes"]
        for sample in others:
            with pytest.raises(ValueError, match=r"row \d, audio: expected a sound, its bytes or its path"):
                sample.audio.open()
    with pytest.raises(ValueError, match="row 0, eng_Latn: expected a caption, or a list of captions, got 1"):
        HuggingFaceFolder("saved", caption="number").build()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.csv",
            "audio,words\na.wav,hello\n",
            r"t\.csv, row 1: no column 'caption' or 'captions'; the columns are \['audio', 'words'\]",
        ),
        (
            "t.csv",
            "file,caption\na.wav,hello\n",
            r"row 1: no sound in column 'audio'; the columns are \['caption', 'file'\]",
        ),
        ("t.csv", "audio,caption\n", "has no rows"),
        ("t.csv", "audio,caption,seconds\na.wav,hello,long\n", "expected seconds as a number, got 'long'"),
        ("t.jsonl", '{"audio": "a.wav", "caption": "x"}\n{oops\n', r"t\.jsonl, line 2 is not JSON"),
        ("t.jsonl", "[1]\n", "line 1: expected an object, got list"),
        ("t.csv", "audio,caption\na.wav,a dog, barking\n", r"t\.csv, row 1 has more fields than the header"),
        ("t.csv", "audio,caption,label\na.wav,a dog\n", r"t\.csv, row 1 has fewer fields than the header"),
        ("t.csv", "audio,caption\na.wav," + "x" * 200_000 + "\n", r"t\.csv is not a CSV table"),
        ("t.jsonl", '{"audio": "a.wav", "caption": "x", "seconds": NaN}\n', "seconds as a number above zero, got nan"),
        ("t.jsonl", '{"audio": "a.wav", "captions": ["x"]}\n', "row 1: expected captions by language, got list"),
        ("t.jsonl", '{"audio": "a.wav", "caption": 3}\n', "row 1, eng_Latn: expected a caption, .* got 3"),
        ("t.jsonl", '{"audio": "a.wav", "captions": {"deu_Latn": 5}}\n', "row 1, deu_Latn: expected a caption"),
        ("t.jsonl", '{"audio": "a.wav", "captions": {"eng_Latn": {"a": "b"}}}\n', "got {'a': 'b'}"),
        ("t.jsonl", '{"audio": "a.wav", "captions": {"eng_Latn": ["x", 1]}}\n', r"got \['x', 1\]"),
        ("t.jsonl", '{"audio": "a.wav", "captions": {}, "label": {"a": 1}}\n', "row 1: expected label as a text"),
        ("t.jsonl", '{"audio": "a.wav", "captions": {}, "label": NaN}\n', "row 1: expected label as a text, got nan"),
        ("t.jsonl", '{"audio": "a.wav", "captions": {}, "label": ["x", ["y"]]}\n', "expected label as a text"),
        (
            "t.jsonl",
            '{"audio": "a.wav", "captions": {}, "seconds": 1' + "0" * 400 + "}\n",
            "seconds as a number, got 1",
        ),
        ("t.jsonl", "[" * 200_000, "line 1 is not JSON"),
        ("t.jsonl", '{"audio": {"bytes": ""}, "captions": {}}\n', "row 1: expected a path in column 'audio', got dict"),
        ("t.parquet", "no table", r"t\.parquet is not a Parquet table"),
        ("t.txt", "hello", r"expected a \.csv, \.jsonl or \.parquet table, got '\.txt'"),
    ],
)
def test_bad_tables_are_explained(folder, name, content, message):
    (folder / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        Table(name).build()


def test_a_table_in_another_encoding_is_named(folder):
    (folder / "t.csv").write_bytes("audio,caption\na.wav,T\u00f6ne\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"t\.csv is not a CSV table in UTF-8"):
        Table("t.csv").build()


def test_one_text_a_language_is_one_text(folder):
    (folder / "t.jsonl").write_text('{"audio": "a.wav", "captions": {"eng_Latn": "a dog", "deu_Latn": ["Hund"]}}')
    assert Table("t.jsonl").build()[0].captions == {"eng_Latn": ("a dog",), "deu_Latn": ("Hund",)}


def test_brackets_in_the_name_of_the_data_folder(tmp_path, monkeypatch):
    (tmp_path / "we[ir]d").mkdir()
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path / "we[ir]d"))
    write_tar(tmp_path / "we[ir]d" / "a-000.tar", tones(1))
    assert len(Tars("a-*.tar").build()) == len(Tars(str(tmp_path / "we[[]ir]d" / "a-*.tar")).build()) == 1


def test_a_missing_table_is_named(folder):
    with pytest.raises(ValueError, match=r"nothing\.csv: expected a table"):
        Table("nothing.csv").build()


def test_tars(folder):
    write_tar(folder / "a-000.tar", tones(3, name="a"))
    write_tar(folder / "a-001.tar", tones(2, name="b"))
    samples = Tars("a-*.tar").build()
    assert [sample.key for sample in samples] == ["a000", "a001", "a002", "b000", "b001"]
    assert samples[1].captions["deu_Latn"] == ("Ton 1",) and samples[1].licence == "CC0-1.0"
    assert _durations(samples)[:3] == [0.3, 0.31, 0.32]
    assert [sample.key for sample in Tars("a-*.tar", domain="music").build()] == ["a001", "b001"]


def test_tars_that_do_not_fit_are_explained(folder):
    with pytest.raises(ValueError, match="no tar matches"):
        Tars("a-*.tar").build()
    write_tar(folder / "a-000.tar", {"x": (sound_bytes(0.1), {"seconds": [1]})})
    with pytest.raises(ValueError, match=r"x\.json: expected seconds as a number"):
        Tars("a-*.tar").build()


def test_hugging_face_folder(folder):
    datasets = pytest.importorskip("datasets")
    names = _sounds(folder)
    rows = {
        "sound": [{"bytes": (folder / name).read_bytes(), "path": None} for name in names],
        "caption": ["one", "two", "three"],
        "label": ["a", "b", "c"],
    }
    table = datasets.Dataset.from_dict(rows).cast_column("sound", datasets.Audio(SAMPLE_RATE))
    datasets.DatasetDict({"train": table, "other": table}).save_to_disk(str(folder / "corpus"))
    samples = HuggingFaceFolder("corpus", audio="sound", split="train").build()
    assert [sample.captions["eng_Latn"] for sample in samples] == [("one",), ("two",), ("three",)]
    assert [sample.label for sample in samples] == ["a", "b", "c"]
    assert _durations(samples) == [0.2, 0.3, 0.4]
    assert str(samples[0].audio) != str(HuggingFaceFolder("corpus", audio="sound", split="other").build()[0].audio)
    with pytest.raises(ValueError, match=r"expected a split among \['other', 'train'\], got 'test'"):
        HuggingFaceFolder("corpus", audio="sound", split="test").build()
    with pytest.raises(ValueError, match="no column 'audio'"):
        HuggingFaceFolder("corpus", split="train").build()
    with pytest.raises(ValueError, match="expected a folder that datasets saved"):
        HuggingFaceFolder("nothing").build()
