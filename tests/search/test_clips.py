"""Sources of clips: every kind gives each of its sounds once, in order, and says what is wrong with it."""

import io
import json
import tarfile

import pyarrow as pa
import pytest
from pyarrow import parquet
from tones import write_tone

from data.corpus import tones, write_tar
from lapis.audio import read
from lapis.search.clips import find_clips

ROWS = [{"key": "first", "audio": "a.wav"}, {"key": "", "audio": "more/b ü.wav"}, {"key": "third", "audio": ""}]


def _write(path, rows):
    columns = list(rows[0])
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    elif path.suffix == ".jsonl":
        path.write_text("\n\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    else:
        delimiter = "," if path.suffix == ".csv" else "\t"
        lines = [delimiter.join(columns), *(delimiter.join(row.values()) for row in rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_tables_give_a_clip_a_row(tmp_path, suffix):
    table = _write(tmp_path / f"table.{suffix}", ROWS)
    clips = list(find_clips([table]))
    assert [clip.key for clip in clips] == ["first", "more/b ü.wav", "third"]
    assert [clip.path for clip in clips] == [
        str(tmp_path / "a.wav"),
        str(tmp_path / "more" / "b ü.wav"),
        f"{table}:row 3",
    ]
    assert [clip.error for clip in clips] == [None, None, f"{table}, row 3: expected a path in column 'audio'"]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_another_column_must_be_named(tmp_path, suffix):
    table = _write(tmp_path / f"table.{suffix}", [{"file": "a.wav", "words": "a bell"}])
    with pytest.raises(ValueError, match=r"no column 'audio' .* \['file', 'words'\].*--audio-column"):
        list(find_clips([table]))
    (clip,) = find_clips([table], audio_column="file")
    assert (clip.key, clip.path) == ("a.wav", str(tmp_path / "a.wav"))


def test_an_absolute_path_in_a_table_stays_one(tmp_path):
    sound = write_tone(tmp_path / "elsewhere" / "a.wav", 300)
    (tmp_path / "tables").mkdir()
    (clip,) = find_clips([_write(tmp_path / "tables" / "table.csv", [{"audio": str(sound)}])])
    assert clip.path == str(sound)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            b"audio,text\na.wav,rain, wind\n",
            "row 1 has more fields than .*: quote texts that hold ','",
        ),
        ("a.tsv", b"audio\ttext\na.wav\n", "row 1 has fewer fields"),
        ("a.csv", b"audio\n\xff.wav\n", "not a table in UTF-8"),
        ("a.jsonl", b'{"audio": "a.wav"}\n{"audio', "line 2 is not JSON"),
        ("a.jsonl", b'["a.wav"]\n', "line 1: expected an object, got list"),
        ("a.jsonl", b'{"audio": {"bytes": "x"}}\n', "row 1: expected a path in column 'audio', got dict"),
        ("a.parquet", b"PAR1 not really", "not a whole Parquet table"),
        ("a.parquet", b"", "not a whole Parquet table"),
        ("a.tar", b"no tar" * 200, "not a whole tar file"),
    ],
)
def test_damaged_sources_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        list(find_clips([tmp_path / name]))
    assert str(tmp_path / name) in str(error.value)


def test_a_source_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.wav: expected a sound file, a folder, a table or a tar, but there"):
        list(find_clips([tmp_path / "nothing.wav"]))


def test_a_tar_gives_its_sounds_and_names_records_without(tmp_path):
    tar = write_tar(tmp_path / "shard.tar", tones(3))
    clips = list(find_clips([tar]))
    assert [clip.key for clip in clips] == ["clip000", "clip001", "clip002"]
    assert clips[1].path == f"{tar}:clip001.flac"
    assert [len(read(clip.audio.open())) for clip in clips] == [4800, 4960, 5120]

    silent = write_tar(tmp_path / "silent.tar", {})
    with tarfile.open(silent, "w") as file:
        member = tarfile.TarInfo("words.json")
        member.size = 2
        file.addfile(member, io.BytesIO(b"{}"))
    (clip,) = find_clips([silent])
    assert clip.key == "words" and "expected a sound, this record has ['json']" in clip.error


def test_sources_come_one_after_another(tmp_path):
    for name in ("b.wav", "a.wav", "deep/c.wav", ".hidden.wav"):
        write_tone(tmp_path / "sounds" / name, 300, seconds=0.1)
    (tmp_path / "sounds" / "notes.txt").write_text("words")
    single = write_tone(tmp_path / "single.wav", 300, seconds=0.1)
    clips = list(find_clips([single, tmp_path / "sounds", str(single)]))
    assert [clip.key for clip in clips] == [str(single), "a.wav", "b.wav", "deep/c.wav", str(single)]
    assert clips[3].path == str(tmp_path / "sounds" / "deep" / "c.wav")
