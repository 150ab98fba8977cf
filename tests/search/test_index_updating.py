"""What an index knows of files it has heard: moved, touched, copied, labelled; and processes that add at once."""

import csv
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
import soundfile
from pyarrow import parquet
from test_index import counts, make_index, windows_of
from tones import SAMPLE_RATE, ToneEmbedder, tone, write_tone

from lapis.search.claims import slot_of
from lapis.search.columns import File, Labels, Stamp, hash_of, rows_of
from lapis.search.filters import Filter
from lapis.search.index import Index
from lapis.search.labels import own_labels, read_labels
from lapis.search.place import Place
from lapis.search.windows_table import WindowsTable


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    folder = tmp_path / "sounds"
    write_tone(folder / "low.wav", 300, seconds=3)
    write_tone(folder / "deep" / "high.wav", 1000)
    return folder


@pytest.fixture
def index(tmp_path: Path, sounds: Path) -> Index:
    index = make_index(tmp_path / "index", window_seconds=2.0)
    index.update(sounds, embedder=ToneEmbedder())
    return index


def heard(index: Index, folder: Path, **options) -> tuple:
    """The report of an update, and the seconds of sound that the model heard for it."""
    listener = ToneEmbedder()
    return index.update(folder, embedder=listener, **options), sum(listener.seconds_heard)


def test_a_row_says_what_is_known_of_its_file(index, sounds):
    path = sounds.resolve() / "low.wav"
    (file,) = [file for file in index.files() if file.path == path]
    assert (file.duration_seconds, file.size) == (3.0, path.stat().st_size)
    assert file.audio_hash == hash_of(path) and len(file.audio_hash) == 32
    assert abs(file.modified.timestamp() - path.stat().st_mtime) < 1
    assert (file.tags, file.text) == ((), "")


def test_moved_and_renamed_files_keep_their_vectors(index, sounds):
    before = {row["audio_hash"]: row["vector"] for row in index.table.to_arrow().to_pylist()}
    (sounds / "low.wav").rename(sounds / "deep" / "renamed.wav")
    (sounds / "deep" / "high.wav").rename(sounds / "high.wav")
    report, seconds = heard(index, sounds)
    assert (report.moved, report.added, report.removed, report.unchanged, seconds) == (2, 0, 0, 0, 0)
    root = sounds.resolve()
    assert index.paths == (root / "deep" / "renamed.wav", root / "high.wav")
    assert {row["audio_hash"]: row["vector"] for row in index.table.to_arrow().to_pylist()} == before
    assert len(windows_of(index)) == len(set(windows_of(index))) == 3
    assert heard(index, sounds)[0].unchanged == 2


def test_a_renamed_folder_is_one_commit_and_swapped_files_are_not_heard(index, sounds):
    for number in range(8):
        write_tone(sounds / "deep" / f"{number}.wav", 100 + 60 * number)
    index.update(sounds, embedder=ToneEmbedder())
    index.compact()
    before = index.table.version
    (sounds / "deep").rename(sounds / "renamed")
    report, seconds = heard(index, sounds)
    assert (report.moved, report.unchanged, seconds, index.num_windows) == (9, 1, 0, 11)
    assert index.table.version - before <= 3, "rows are written once, and then compacted"
    for old, new in (("0.wav", "x"), ("1.wav", "0.wav"), ("x", "1.wav")):
        (sounds / "renamed" / old).rename(sounds / "renamed" / new)
    report, seconds = heard(index, sounds)
    assert (report.changed, report.unchanged, seconds, index.num_windows) == (2, 8, 0, 11)
    for file in index.files(where=Filter(below="renamed")):
        assert file.audio_hash == hash_of(file.path)


def test_a_moved_file_with_a_twin_and_one_that_changed_as_it_moved(index, sounds):
    shutil.copy(sounds / "low.wav", sounds / "twin.wav")
    (sounds / "low.wav").rename(sounds / "moved.wav")
    (sounds / "deep" / "high.wav").unlink()
    write_tone(sounds / "other.wav", 1001)
    report, seconds = heard(index, sounds)
    assert (report.moved, report.added, report.removed, report.windows, seconds) == (1, 2, 1, 1, 1)
    assert [path.name for path in index.paths] == ["moved.wav", "other.wav", "twin.wav"]
    assert index.num_windows == 5


def test_a_touched_file_of_the_same_content_is_not_heard_again(index, sounds):
    os.utime(sounds / "low.wav", (1e9, 1e9))
    report, seconds = heard(index, sounds)
    assert counts(report) == {"added": 0, "unchanged": 2, "changed": 0, "removed": 0, "windows": 0} and seconds == 0
    assert [file.modified.year for file in index.files(where=Filter(until=date(2001, 12, 31)))] == [2001]
    assert heard(index, sounds) == (report, 0)


def test_a_copy_is_a_file_of_its_own_with_the_same_vectors(index, sounds):
    shutil.copy(sounds / "low.wav", sounds / "copy.wav")
    write_tone(sounds / "deep" / "high.wav", 300, seconds=3)  # and this one now has that content too
    report, seconds = heard(index, sounds)
    assert (report.added, report.changed, report.windows, seconds) == (1, 1, 0, 0)
    assert [name.partition("sounds/")[2] for name, _ in windows_of(index)] == [
        "copy.wav", "copy.wav", "deep/high.wav", "deep/high.wav", "low.wav", "low.wav",
    ]  # fmt: skip


def test_single_files_are_added_and_removed(index, sounds, tmp_path):
    more = [write_tone(tmp_path / "more" / name, 3000) for name in ("a.wav", "b.wav")]
    report = index.add([*more, tmp_path / "more" / "none.wav"], embedder=ToneEmbedder())
    assert (report.added, report.removed, [path.name for path, _ in report.failed]) == (2, 0, ["none.wav"])
    assert index.remove([more[0], sounds / "deep", "nowhere"]) == 2
    assert [path.name for path in index.paths] == ["b.wav", "low.wav"]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_labels_come_from_a_table(index, sounds, suffix):
    rows = [
        {"path": "low.wav", "tags": "wet; roof", "text": "rain on  a roof"},
        {"path": "deep/../deep/high.wav", "tags": "l'été", "text": ""},
    ]
    table = sounds / f"labels{suffix}"
    if suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist([{**row, "tags": row["tags"].split("; ")} for row in rows]), table)
    elif suffix == ".jsonl":
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], delimiter="," if suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    labels = read_labels(table)
    assert labels[sounds.resolve() / "low.wav"] == Labels(("wet", "roof"), "rain on a roof")
    report, seconds = heard(index, sounds, labels=labels)
    assert (report.relabelled, report.unchanged, seconds) == (2, 2, 0)
    assert [file.path.name for file in index.files(where=Filter(tags=("wet", "roof")))] == ["low.wav"]
    assert [file.path.name for file in index.files(where=Filter(tags=("l'été",)))] == ["high.wav"]
    assert heard(index, sounds, labels=labels)[0].relabelled == 0
    # Labels stay when the file moves, or nothing is told.
    (sounds / "low.wav").rename(sounds / "moved.wav")
    heard(index, sounds)
    assert {file.path.name: file.text for file in index.files()} == {"moved.wav": "rain on a roof", "high.wav": ""}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "file,tags\nx.wav,a\n", "row 1: expected a path in column `path`"),
        ("a.csv", "path\nx.wav\n", "row 1: expected a column `tags` or `text`, got path"),
        ("a.jsonl", '{"path": "x.wav", "tags": [1]}\n', "row 1: expected tags as a text or a list"),
        ("a.jsonl", "[]\n", "expected an object a line"),
        ("a.parquet", "no table", "expected a Parquet table"),
        ("a.xls", "", "expected a table that ends in"),
    ],
)
def test_tables_that_are_none(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        read_labels(tmp_path / name)


def test_labels_of_files_that_are_not_there_are_told(index, sounds):
    with pytest.warns(UserWarning, match=r"labels of 1 files that are not there, the first: .*none\.wav"):
        heard(index, sounds, labels={sounds / "none.wav": Labels(("a",))})


def test_a_new_file_has_what_its_header_says(index, sounds):
    with soundfile.SoundFile(sounds / "titled.flac", "w", SAMPLE_RATE, 1) as file:
        file.title, file.comment, file.genre = "Door", "slams twice", "Foley; Wood"
        file.write(tone(700))
    heard(index, sounds)
    (file,) = index.files(where=Filter(tags=("Foley", "Wood")))
    assert (file.path.name, file.text) == ("titled.flac", "Door slams twice")


@pytest.mark.parametrize(("suffix", "coding"), [(".m4a", "aac"), (".webm", "libopus")])
def test_so_has_one_that_libsndfile_does_not_read(suffix, coding, index, sounds):
    with av.open(sounds / f"titled{suffix}", "w", format={".m4a": "ipod"}.get(suffix)) as file:
        file.metadata.update({"title": "Tür", "comment": "slams twice", "genre": "Foley; Wood"})
        stream = file.add_stream(coding, rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 48_000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48_000
        file.mux([*stream.encode(frame), *stream.encode(None)])
    heard(index, sounds)
    (file,) = index.files(where=Filter(tags=("Foley", "Wood")))
    assert (file.path.name, file.text) == (f"titled{suffix}", "Tür slams twice")
    assert own_labels(sounds / "none.m4a") == own_labels(Path(__file__)) == Labels()


def test_what_was_told_of_a_file_goes_before_its_header_when_it_moves(index, sounds):
    with soundfile.SoundFile(sounds / "titled.flac", "w", SAMPLE_RATE, 1) as file:
        file.title = "Untitled 1"
        file.write(tone(700))
    heard(index, sounds, labels={(sounds / "titled.flac").resolve(): Labels(("door",), "slams")})
    (sounds / "titled.flac").rename(sounds / "door.flac")
    assert heard(index, sounds)[0].moved == 1
    (file,) = index.files(where=Filter(tags=("door",)))
    assert (file.path.name, file.text) == ("door.flac", "slams")


def test_a_folder_that_lost_all_its_sounds_is_asked_about(index, sounds, tmp_path):
    """As a disk that is not mounted does."""
    sounds.rename(tmp_path / "disk")
    sounds.mkdir()
    with pytest.raises(ValueError, match=r"has no sounds, and the index has 2 files of it: is its disk mounted\?"):
        index.update(sounds, embedder=ToneEmbedder())
    assert len(index.paths) == 2 and index.remove([sounds]) == 2
    assert counts(index.update(sounds, embedder=ToneEmbedder()))["removed"] == 0


def test_files_of_a_folder_that_cannot_be_looked_into_stay(index, sounds, monkeypatch):
    def lstat(path: Path) -> os.stat_result:
        if path.parent.name == "deep":
            raise PermissionError(path)
        return genuine(path)

    genuine = Path.lstat
    (sounds / "deep").rename(sounds / ".deep")  # so that it is not found
    monkeypatch.setattr(Path, "lstat", lstat)
    assert heard(index, sounds)[0].removed == 0 and len(index.paths) == 2


def test_what_another_process_heard_meanwhile_is_not_taken_out(index, sounds):
    """low.wav is half-written when we come to it, and whole when the other does."""
    (sounds / "low.wav").write_bytes(b"RIFF")
    # Not one that shares its claim with low.wav, for which the other, who is in this very thread, would wait for ever.
    others_claim = slot_of(sounds / "low.wav")
    more = next(path for number in range(99) if slot_of(path := sounds / f"more {number}.wav") != others_claim)
    write_tone(more, 100)
    others = []

    def progress(done: int, total: int) -> None:
        if done == total:
            write_tone(sounds / "low.wav", 310)
            others.append(Index.open(index.folder).add([sounds / "low.wav"], embedder=ToneEmbedder()))

    report, _ = heard(index, sounds, progress=progress)
    assert [path.name for path, _ in report.failed] == ["low.wav"] and others[0].changed == 1
    assert [path.name for path in index.paths] == ["high.wav", "low.wav", more.name]


ADDING = """
import sys
from pathlib import Path
from tones import ToneEmbedder
from lapis.search.index import Index
index = Index.create_or_open(sys.argv[1], embedder_identity="tones", width=5, window_seconds=1.0)
listener = ToneEmbedder(pause_seconds=0.01)
report = index.update(sys.argv[2], embedder=listener, batch_seconds=2.0, commit_windows=4)
print(report.added, report.unchanged, report.windows, len(report.failed), len(listener.seconds_heard))
"""


def adding(index: Path, folder: Path) -> subprocess.Popen:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", ADDING, str(index), str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_threads_add_at_once_and_hear_each_file_once(tmp_path):
    for number in range(12):
        write_tone(tmp_path / "sounds" / f"{number:02}.wav", 100 + 40 * number)
    make_index(tmp_path / "index", window_seconds=1.0)

    def add(number: int) -> tuple[int, int]:
        listener = ToneEmbedder(pause_seconds=0.005)
        index = Index.open(tmp_path / "index")
        report = index.update(tmp_path / "sounds", embedder=listener, batch_seconds=1.0, commit_windows=2)
        return report.added, len(listener.seconds_heard)

    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(add, range(2)))
    assert sum(added for added, _ in told) == sum(heard for _, heard in told) == 12
    rows = windows_of(Index.open(tmp_path / "index"))
    assert len(rows) == len(set(rows)) == 12


def test_a_table_takes_no_key_twice_even_without_claims(tmp_path):
    """What keeps an index in a store whole, where machines do not see each other's locks."""
    names = [tmp_path / f"{number}.wav" for number in range(6)]
    index = make_index(tmp_path / "index")

    def insert(seed: int) -> None:
        windows = WindowsTable(Index.open(index.folder).table, place=Place(index.folder))
        for name in names:
            vectors = [np.full((1, 5), seed, np.float32) for _ in range(3)]
            file = File(name, Stamp(1, 1), "0", spans=[(0.0, 1.0)] * 3, vectors=vectors)
            windows.replace(rows_of([file], width=5), of=[name])

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(insert, range(3)))
    rows = windows_of(index)
    assert len(rows) == len(set(rows)) == 18


@pytest.mark.slow
def test_processes_add_at_once_to_a_new_index_and_hear_each_file_once(tmp_path):
    for number in range(24):
        write_tone(tmp_path / "both" / f"{number:02}.wav", 100 + 40 * number, seconds=2)
        write_tone(tmp_path / "own" / f"{number:02}.wav", 110 + 40 * number, seconds=2)
    folders = [tmp_path / "both", tmp_path / "both", tmp_path / "own"]
    processes = [adding(tmp_path / "index", folder) for folder in folders]
    told = []
    for process in processes:
        output, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        told.append([int(word) for word in output.split()])
    added, unchanged, windows, failed, times = zip(*told)
    assert (sum(added), added[2], sum(failed)) == (48, 24, 0)
    assert added[0] + unchanged[0] == added[1] + unchanged[1] == 24
    assert sum(windows) == sum(times) == 96  # nothing was heard twice
    rows = windows_of(Index.open(tmp_path / "index"))
    assert len(rows) == len(set(rows)) == 96
