"""Tables, lists and sound files as the corpora share them."""

import os

import pytest
from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.languages import CODES, flores
from lapis.datasets.reading import MissingClips, Sounds, lines, number, pairs, read_json, rows, warn_missing
from lapis.datasets.youtube import names, video_in


def test_rows_of_a_table_that_begins_with_a_mark(tmp_path):
    plant(tmp_path, {"a.csv": '\ufeffname,text\r\nx,"a\nb, ""c"""\r\n\r\ny,z\r\n'})
    table = tmp_path / "a.csv"
    assert list(rows(table, ["text"])) == [{"name": "x", "text": 'a\nb, "c"'}, {"name": "y", "text": "z"}]


def test_a_table_without_a_header_has_the_columns_it_is_given(tmp_path):
    plant(tmp_path, {"a.tsv": 'x\t"y\n'})
    table = rows(tmp_path / "a.tsv", ["one", "two"], named=False, delimiter="\t", quoted=False)
    assert list(table) == [{"one": "x", "two": '"y'}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("name\nx\n", "no column 'text'; the columns are \\['name'\\]"),
        ("name,text\nx\n", "row 1: expected 2 fields, got 1"),
        ("name,text\nx,y,z\n", "row 1: expected 2 fields, got 3"),
    ],
)
def test_tables_that_are_none(tmp_path, content, message):
    plant(tmp_path, {"a.csv": content})
    with pytest.raises(ValueError, match=f"a.csv.*{message}"):
        list(rows(tmp_path / "a.csv", ["name", "text"]))


def test_files_that_are_not_there_or_not_text(tmp_path):
    (tmp_path / "latin").write_bytes(b"caf\xe9 au lait\n")
    for read in (lines, pairs, lambda path: rows(path, ["a"]), read_json):
        for name, message in (("nothing", "there is none"), ("latin", "in UTF-8")):
            with pytest.raises(ValueError, match=f"{name}.*{message}"):
                list(read(tmp_path / name))


def test_names_and_words(tmp_path):
    plant(tmp_path, {"a.txt": "one  two three\r\n\nfour\tfive\n"})
    assert list(pairs(tmp_path / "a.txt")) == [("one", "two three"), ("four", "five")]
    plant(tmp_path, {"a.txt": "one\n"})
    with pytest.raises(ValueError, match=r"a\.txt, line 1: expected a name and words, got 'one'"):
        list(pairs(tmp_path / "a.txt"))


def test_numbers():
    assert number("1.5", where="here") == 1.5
    with pytest.raises(ValueError, match="here: expected a number, got 'x'"):
        number("x", where="here")


def test_sounds_by_path_or_by_name(tmp_path):
    plant(tmp_path, {"a/notes.txt": "x"}, ("a/x.y.flac", "b/Z.WAV", ".hidden/h.wav", "a/._x.y.flac"))
    assert [name for name, _ in Sounds(tmp_path)] == ["a/x.y", "b/Z"]
    sounds = Sounds(tmp_path, anywhere=True)
    assert sounds.find("nothing", "x.y") == Location(tmp_path / "a/x.y.flac")
    assert sounds.find("Z.mp3") == Location(tmp_path / "b/Z.WAV")
    assert [name for name, _ in Sounds(tmp_path, anywhere=True, within="b")] == ["Z"]


def test_one_clip_in_two_formats_is_one_clip(tmp_path):
    plant(tmp_path, {}, ("a/x.wav", "a/x.flac"))
    assert Sounds(tmp_path).find("a/x") == Location(tmp_path / "a/x.flac")


def test_links_to_folders_are_followed_once(tmp_path):
    plant(tmp_path, {}, ("disk/x.wav",))
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "audio").symlink_to(tmp_path / "disk", target_is_directory=True)
    (tmp_path / "disk" / "loop").symlink_to(tmp_path / "disk", target_is_directory=True)
    assert [name for name, _ in Sounds(tmp_path / "corpus")] == ["audio/x"]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_folder_that_cannot_be_read_is_an_error(tmp_path):
    plant(tmp_path, {}, ("a/x.wav",))
    (tmp_path / "a").chmod(0)
    with pytest.raises(PermissionError):
        Sounds(tmp_path)


def test_missing_clips_are_told_once(tmp_path):
    plant(tmp_path, {}, ("x.wav",))
    sounds = Sounds(tmp_path)
    samples = [Sample(name, audio) for name in ("x", "y", "z") if (audio := sounds.find(name))]
    with pytest.warns(MissingClips, match=r"2 of 3 clips of .*table .* the first is 'y'"):
        assert sounds.settle(samples, table=tmp_path / "table") == samples
    assert sounds.settle(samples, table=tmp_path / "table") == samples
    with pytest.raises(ValueError, match="table: expected clips, there are none"):
        sounds.settle([], table=tmp_path / "table")
    sounds.find("y")
    with pytest.raises(ValueError, match=r"table has 1 such clips, .*; the first would be 'y'"):
        sounds.settle([], table=tmp_path / "table")


def test_a_sentence_reaches_whoever_asked():
    with pytest.warns(MissingClips, match="gone"):
        warn_missing("gone")


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("de", "deu_Latn"),
        ("sv-SE", "swe_Latn"),
        ("es_419", "spa_Latn"),
        ("cmn_hans_cn", "zho_Hans"),
        ("zh-TW", "zho_Hant"),
        ("yue_hant_hk", "yue_Hant"),
        ("rm-vallader", "roh_Latn"),
        ("nb_no", "nob_Latn"),
    ],
)
def test_codes_of_languages(code, expected):
    assert flores(code) == expected


def test_a_code_that_is_none():
    assert len(CODES) > 150
    with pytest.raises(ValueError, match="no language 'qqq'"):
        flores("qqq")


def test_names_that_tell_clips_apart_come_first():
    found = names("abcdefghijk", 30.0, 40.0)
    assert found[-2:] == ["abcdefghijk", "Yabcdefghijk"]
    assert {"Yabcdefghijk_30_40", "abcdefghijk_30000_40000", "abcdefghijk_000030", "abcdefghijk_30"} <= set(found)
    assert "abcdefghijk" not in names("abcdefghijk", 30.0, alone=False)
    assert names("abcdefghijk") == ["abcdefghijk", "Yabcdefghijk"]


def test_ids_in_addresses():
    assert video_in("https://www.youtube.com/watch?v=zr2n1fLVasU&t=3") == "zr2n1fLVasU"
    assert video_in("https://youtu.be/--5llN02F84") == "--5llN02F84"
    assert video_in("N/A") is None
