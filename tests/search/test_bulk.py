"""Bulk embedding: a row a clip whatever happens to it, in order, and interrupted equals uninterrupted."""

import contextlib
import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
import soundfile
from pyarrow import parquet
from tones import SAMPLE_RATE, ToneEmbedder, tone, write_sound, write_tone

import lapis
import tiny
from data.corpus import tones, write_tar
from lapis import audio, saved
from lapis.data.sample import Location
from lapis.files import locked
from lapis.search import parts as part_files
from lapis.search.bulk import embed_files
from lapis.search.clips import Clip, find_clips
from lapis.search.parts import LOCK_NAME, Parts
from lapis.search.reading import MEASURED_CLIPS, read_ahead
from lapis.search.rows import Row

HERE = Path(__file__).parent


@pytest.fixture
def sounds(tmp_path) -> Path:
    """Twelve tones, each of its own duration, so that one can tell which were heard."""
    for number in range(12):
        write_tone(tmp_path / "sounds" / f"{number:02d}.wav", 200 + 100 * number, seconds=(50 + number) / 100)
    return tmp_path / "sounds"


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "vectors.parquet"


def parts_of(out: Path) -> Path:
    return out.with_name(f"{out.name}.parts")


def vectors_in(table: pa.Table) -> np.ndarray:
    return np.array(table["vector"].to_pylist(), np.float32)


@dataclass
class Interrupted(ToneEmbedder):
    """Breaks off in place of the batch of this number."""

    batches_left: int = 3
    breaks_with: type[BaseException] = RuntimeError

    def embed_audio(self, waveforms):
        if not self.batches_left:
            raise self.breaks_with("out of memory, say")
        self.batches_left -= 1
        return super().embed_audio(waveforms)


def test_a_row_equals_the_embedding_of_its_file_alone(tmp_path, out):
    model = tiny.model()
    folder = tmp_path / "sounds"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number, (suffix, rate) in enumerate([("wav", 8000), ("flac", 44_100), ("ogg", 16_000), ("mp3", 22_050)] * 3):
        waveform = 0.1 * generator.standard_normal(round((0.2 + 0.37 * number) * rate))
        soundfile.write(folder / f"{number:02d}.{suffix}", waveform, rate)
    report = embed_files([folder], embedder=model, out=out, batch_seconds=5.0, threads=3)
    table = parquet.read_table(out)
    assert (report.written, report.failed, report.resumed, report.failures) == (12, 0, 0, ())
    assert table["key"].to_pylist() == sorted(path.name for path in folder.iterdir())
    for row in table.to_pylist():
        waveform = audio.read(row["path"], sample_rate=model.sample_rate)
        assert row["duration_seconds"] == len(waveform) / model.sample_rate
        np.testing.assert_allclose(row["vector"], model.embed_audio([waveform])[0], atol=1e-5)
    assert report.audio_seconds == pytest.approx(sum(table["duration_seconds"].to_pylist()))


def test_the_table_says_what_made_it(sounds, out):
    embed_files([sounds], embedder=ToneEmbedder(), out=out, model="my model")
    schema = parquet.read_schema(out)
    assert schema.field("vector").type == pa.list_(pa.float32(), ToneEmbedder().width)
    assert [field.name for field in schema] == ["key", "path", "vector", "duration_seconds", "error"]
    assert schema.metadata == {
        b"lapis.version": lapis.__version__.encode(),
        b"lapis.model": b"my model",
        b"lapis.identity": b"tones",
        b"lapis.sample_rate": b"8000",
        b"lapis.width": b"5",
    }
    assert not parts_of(out).exists()


def test_sources_of_all_kinds_in_the_order_given(tmp_path, sounds, out):
    single = write_tone(tmp_path / "single é.wav", 1000)
    table = tmp_path / "table.csv"
    table.write_text("key,audio\nlast,sounds/03.wav\nfirst,sounds/01.wav\n", encoding="utf-8")
    tar = write_tar(tmp_path / "shard.tar", tones(2))
    embed_files([table, single, tar, sounds], embedder=ToneEmbedder(), out=out, batch_seconds=1.0)
    rows = parquet.read_table(out).to_pylist()
    expected = ["last", "first", str(single), "clip000", "clip001", *(f"{number:02d}.wav" for number in range(12))]
    assert [row["key"] for row in rows] == expected
    assert rows[0]["vector"] == rows[5 + 3]["vector"] and rows[0]["path"] == str(sounds / "03.wav")
    assert rows[3]["path"] == f"{tar}:clip000.flac" and rows[3]["duration_seconds"] == pytest.approx(0.3)


def test_what_cannot_be_embedded_is_a_row_that_says_why(tmp_path, sounds, out):
    (sounds / "01 text.wav").write_text("this is text\n" * 100)
    (sounds / "02 empty.mp3").write_bytes(b"")
    soundfile.write(sounds / "03 nan.wav", np.full(4000, np.nan, np.float32), SAMPLE_RATE, subtype="FLOAT")
    soundfile.write(sounds / "04 nothing.wav", np.zeros(0, np.float32), SAMPLE_RATE)
    table = tmp_path / "table.csv"
    table.write_text('audio,label\nsounds/gone.wav,a\n"",b\nsounds/00.wav,c\n', encoding="utf-8")
    report = embed_files([table, sounds], embedder=ToneEmbedder(), out=out)
    rows = parquet.read_table(out).to_pylist()
    failed = {row["key"]: row["error"] for row in rows if row["error"] is not None}
    assert (report.written, report.failed) == (len(rows), len(failed)) == (3 + 16, 6)
    for key, reason in {
        "sounds/gone.wav": "there is no file of this name",
        "row 2": "row 2: expected a path in column 'audio'",
        "01 text.wav": "neither libsndfile nor FFmpeg can open",
        "02 empty.mp3": "empty (0 bytes)",
        "03 nan.wav": "NaN or infinity at 0.000 s",
        "04 nothing.wav": "holds no samples",
    }.items():
        assert reason in failed[key]
    assert report.failures == tuple((row["path"], row["error"]) for row in rows if row["error"] is not None)
    assert all((row["vector"] is None) == (row["error"] is not None) for row in rows)
    assert rows[2]["vector"] == rows[3]["vector"]  # 00.wav by the table and by the folder


def test_names_in_any_script_and_in_none(tmp_path, out):
    names = ["Söunds 音/犬が吠える.wav", 'a\'b "c" %20, d.wav', "e\nf.wav", "e\u0301.wav"]
    for name in names:
        write_tone(tmp_path / "sounds" / name, 300)
    broken = os.fsencode(tmp_path / "sounds") + b"/caf\xe9.wav"
    Path(os.fsdecode(broken)).write_bytes((tmp_path / "sounds" / names[0]).read_bytes())
    embed_files([tmp_path / "sounds"], embedder=ToneEmbedder(), out=out)
    rows = {row["key"]: row for row in parquet.read_table(out).to_pylist()}
    assert set(rows) == {*names, "caf\\udce9.wav"}
    assert all(rows[name]["error"] is None and Path(rows[name]["path"]).is_file() for name in names)
    assert "its name is not UTF-8" in rows["caf\\udce9.wav"]["error"]


def test_a_sound_beyond_the_limit_is_never_cut(tmp_path, out):
    write_tone(tmp_path / "s" / "a short.wav", 300, seconds=2.0)
    write_tone(tmp_path / "s" / "b long.wav", 300, seconds=2.05)
    listener = ToneEmbedder()
    report = embed_files([tmp_path / "s"], embedder=listener, out=out, max_seconds=2.0, batch_seconds=0.5)
    short, long = parquet.read_table(out).to_pylist()
    assert report.failed == 1 and listener.seconds_heard == [2.0]
    assert short["error"] is None and long["vector"] is None and long["duration_seconds"] == 2.05
    assert long["error"] == "it lasts 2.05 s, and at most 2 s are embedded whole: raise --max-seconds"


def test_a_header_that_promises_too_little_does_not_pass_the_limit(tmp_path, out):
    path = tmp_path / "s" / "liar.mkv"
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono", format="s16")
        for number, chunk in enumerate(np.split((tone(300, seconds=3.0) * 32767).astype(np.int16), 10)):
            frame = av.AudioFrame.from_ndarray(chunk[None], format="s16", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE, number * len(chunk)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    content = path.read_bytes()
    place = content.index(b"\x44\x89\x88") + 3  # the duration, in milliseconds
    path.write_bytes(content[:place] + struct.pack(">d", 500.0) + content[place + 8 :])
    assert audio.info(path).seconds == 0.5
    listener = ToneEmbedder()
    embed_files([path.parent], embedder=listener, out=out, max_seconds=1.0)
    (row,) = parquet.read_table(out).to_pylist()
    assert row["vector"] is None and "over 1 s" in row["error"] and listener.seconds_heard == []
    embed_files([path.parent], embedder=listener, out=out, max_seconds=3.0, overwrite=True)
    assert listener.seconds_heard == [3.0]


def test_batches_hold_so_many_seconds_and_a_long_sound_is_one_by_itself(tmp_path, out):
    @dataclass
    class Batches(ToneEmbedder):
        def embed_audio(self, waveforms):
            batches.append([len(waveform) / SAMPLE_RATE for waveform in waveforms])
            return super().embed_audio(waveforms)

    batches: list[list[float]] = []
    for number, seconds in enumerate([1.0, 1.0, 0.5, 4.0, 0.5, 2.0, 0.5, 0.5]):
        write_tone(tmp_path / "s" / f"{number}.wav", 300, seconds=seconds)
    embed_files([tmp_path / "s"], embedder=Batches(), out=out, batch_seconds=2.5)
    assert batches == [[1.0, 1.0, 0.5], [4.0], [0.5, 2.0], [0.5, 0.5]]


@pytest.mark.parametrize("breaks_with", [RuntimeError, KeyboardInterrupt])
def test_interrupted_equals_uninterrupted_and_nothing_is_embedded_twice(sounds, out, tmp_path, breaks_with):
    (sounds / "04 text.wav").write_text("this is text")
    heard: list[float] = []
    for batches in (2, 3, 1):
        embedder = Interrupted(batches_left=batches, breaks_with=breaks_with)
        with pytest.raises(breaks_with):
            embed_files([sounds], embedder=embedder, out=out, batch_seconds=1.1, part_clips=3)
        heard += embedder.seconds_heard
        assert not out.exists()
    seen: list[tuple[int, int]] = []
    last = ToneEmbedder()
    report = embed_files(
        [sounds], embedder=last, out=out, batch_seconds=1.1, progress=lambda done, total: seen.append((done, total))
    )
    assert sorted(heard + last.seconds_heard) == [(50 + number) / 100 for number in range(12)]
    assert report.resumed == len(heard) + 1 == 10 and report.written == 13
    assert seen == [(done, 13) for done in range(report.resumed, 14)]
    embed_files([sounds], embedder=ToneEmbedder(), out=tmp_path / "whole.parquet", batch_seconds=1.1)
    assert parquet.read_table(out).equals(parquet.read_table(tmp_path / "whole.parquet"))


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from tones import ToneEmbedder
from lapis.search.bulk import embed_files
embed_files([sys.argv[2]], embedder=ToneEmbedder(pause_seconds=0.1), out=sys.argv[3], batch_seconds=0.7, part_clips=2)
"""


def test_after_kill_9_no_part_is_embedded_again(sounds, out):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(HERE), str(sounds), str(out)], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(list(parts_of(out).glob("rows-*"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read().decode()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    listener = ToneEmbedder()
    report = embed_files([sounds], embedder=listener, out=out)
    assert 4 <= report.resumed < 12 and report.resumed % 2 == 0
    assert listener.seconds_heard == [(50 + number) / 100 for number in range(report.resumed, 12)]
    assert parquet.read_table(out)["key"].to_pylist() == [f"{number:02d}.wav" for number in range(12)]
    assert [path.name for path in out.parent.iterdir() if path.name.startswith((".", "vectors"))] == [out.name]


def test_work_that_only_waits_for_the_merge_is_merged(sounds, out):
    embedder = ToneEmbedder()
    parts_of(out).mkdir()
    parts = Parts.create_or_open(
        parts_of(out),
        clips=find_clips([sounds]),
        identity=embedder.identity,
        width=embedder.width,
        sample_rate=SAMPLE_RATE,
        max_seconds=3600.0,
    )
    rows = [Row(clip, embedder.embed_audio([audio.read(clip.path)])[0], 0.5) for clip in parts.clips(begin=0)]
    parts.write(rows, begin=0)
    listener = ToneEmbedder()
    report = embed_files([sounds], embedder=listener, out=out)
    assert listener.seconds_heard == [] and report.resumed == report.written == 12


def test_the_merge_writes_row_groups_of_bounded_size(tmp_path, out, monkeypatch):
    monkeypatch.setattr(part_files, "ROW_GROUP_ROWS", 8)
    for number in range(21):
        write_tone(tmp_path / "s" / f"{number:02d}.wav", 200, 1000 + 100 * number, seconds=0.1 + 0.01 * number)
    for number in (0, 7, 8, 20):
        (tmp_path / "s" / f"{number:02d}.wav").write_text("this is text")
    report = embed_files([tmp_path / "s"], embedder=ToneEmbedder(), out=out, part_clips=3)
    with parquet.ParquetFile(out) as file:
        assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [8, 8, 5]
        rows = file.read().to_pylist()
    assert [row["key"] for row in rows] == [f"{number:02d}.wav" for number in range(21)]
    assert [number for number, row in enumerate(rows) if row["vector"] is None] == [0, 7, 8, 20]
    assert report.failed == 4
    for row in rows:
        if row["vector"] is not None:
            np.testing.assert_array_equal(row["vector"], ToneEmbedder().embed_audio([audio.read(row["path"])])[0])


def test_only_the_first_failures_are_listed(tmp_path, out, monkeypatch):
    monkeypatch.setattr(part_files, "LISTED_FAILURES", 5)
    for number in range(9):
        (tmp_path / f"{number}.wav").write_bytes(b"")
    report = embed_files([tmp_path], embedder=ToneEmbedder(), out=out, part_clips=2)
    assert report.failed == 9 and [Path(path).name for path, _ in report.failures] == [f"{n}.wav" for n in range(5)]


class Seen(Location):
    """A place that notes when it is opened: once to measure, once to read."""

    def open(self):
        opened.append(self.path.name)
        if self.path.name.startswith("slow"):
            time.sleep(0.2)
        return super().open()


opened: list[str] = []


def test_reading_ahead_stops_at_its_budget(tmp_path):
    sound = write_tone(tmp_path / "a.wav", 300, seconds=1.0)
    opened.clear()
    clips = (Clip(str(number), Seen(sound)) for number in range(1000))
    ahead = read_ahead(clips, sample_rate=SAMPLE_RATE, max_seconds=60.0, ahead_seconds=5.0, threads=2)
    for number in range(10):
        assert next(ahead).clip.key == str(number)
    before = -1
    while len(opened) > before:  # until the threads have done all that they may
        before = len(opened)
        time.sleep(0.3)
    ahead.close()
    assert len(opened) <= (10 + 5 + MEASURED_CLIPS) + (10 + 5) and len(list(clips)) >= 1000 - (10 + 5 + MEASURED_CLIPS)


def test_order_is_kept_when_a_first_file_is_slow(tmp_path):
    names = ["slow.wav", *(f"{number}.wav" for number in range(6)), "slow too.wav", "last.wav"]
    paths = [write_tone(tmp_path / name, 300, seconds=0.3) for name in names]
    clips = iter([Clip(path.name, Seen(path)) for path in paths])
    ahead = read_ahead(clips, sample_rate=SAMPLE_RATE, max_seconds=60.0, ahead_seconds=2.0, threads=4)
    assert [sound.clip.key for sound in ahead] == names


def test_a_clip_that_the_model_refuses_costs_its_neighbours_nothing(sounds, out):
    @dataclass
    class Picky(ToneEmbedder):
        def embed_audio(self, waveforms):
            if any(len(waveform) == 4400 for waveform in waveforms):
                raise ValueError("expected no clip of 0.55 s")
            vectors = super().embed_audio(waveforms)
            vectors[[len(waveform) == 4480 for waveform in waveforms]] = np.nan
            return vectors

    report = embed_files([sounds], embedder=Picky(), out=out)
    rows = parquet.read_table(out).to_pylist()
    assert {row["key"]: row["error"] for row in rows if row["error"]} == {
        "05.wav": "the model refuses it: expected no clip of 0.55 s",
        "06.wav": "the model gives no finite vector for it",
    }
    assert report.failed == 2 and rows[4]["vector"] is not None and rows[6]["duration_seconds"] == 0.56


def test_vectors_of_another_shape_stop_the_work(sounds, out):
    with pytest.raises(ValueError, match=r"expected vectors of shape \(12, 4\) from tones, got \(12, 5\)"):
        embed_files([sounds], embedder=ToneEmbedder(width=4), out=out)


@pytest.fixture
def begun(sounds, out) -> Path:
    """Sounds of which some are embedded."""
    with pytest.raises(RuntimeError):
        embed_files([sounds], embedder=Interrupted(), out=out, batch_seconds=1.1)
    return sounds


@pytest.mark.parametrize("change", ["model", "another file", "a changed file", "limit", "order"])
def test_unfinished_work_of_another_job_is_refused(begun, out, change):
    embedder, sources, limit = ToneEmbedder(), [begun], 3600.0
    if change == "model":
        embedder, message = ToneEmbedder(identity="other tones"), "differs in the model: tones, now other tones"
    elif change == "another file":
        write_tone(begun / "new.wav", 300)
        message = "differs in the number of clips: 12, now 13"
    elif change == "a changed file":
        write_tone(begun / "00.wav", 300, seconds=0.9)
        message = "differs in the sources, or files in them"
    elif change == "limit":
        limit, message = 10.0, r"differs in --max-seconds: 3600\.0, now 10\.0"
    else:
        sources, message = sorted(begun.iterdir(), reverse=True), "differs in the sources"
    before = {path: path.read_bytes() for path in parts_of(out).iterdir()}
    with pytest.raises(ValueError, match=f"{message}.*--restart"):
        embed_files(sources, embedder=embedder, out=out, max_seconds=limit)
    assert {path: path.read_bytes() for path in parts_of(out).iterdir()} == before
    report = embed_files(sources, embedder=embedder, out=out, max_seconds=limit, restart=True)
    assert report.resumed == 0 and report.written == len(list(begun.iterdir()))


def test_a_part_that_is_lost_is_made_anew(sounds, out, tmp_path):
    with pytest.raises(RuntimeError):
        embed_files([sounds], embedder=Interrupted(batches_left=4), out=out, batch_seconds=1.1, part_clips=2)
    _, lost, *others = sorted(parts_of(out).glob("rows-*"))
    assert others
    lost.unlink()
    listener = ToneEmbedder()
    seen: list[tuple[int, int]] = []
    report = embed_files(
        [sounds], embedder=listener, out=out, progress=lambda done, total: seen.append((done, total)), part_clips=2
    )
    assert 0 < report.resumed == 12 - len(listener.seconds_heard)
    assert sorted(set(seen)) == [(done, 12) for done in range(report.resumed, 13)] and seen == sorted(seen)
    embed_files([sounds], embedder=ToneEmbedder(), out=tmp_path / "whole.parquet")
    assert parquet.read_table(out).equals(parquet.read_table(tmp_path / "whole.parquet"))


def test_what_was_killed_in_the_merge_leaves_no_half_table(sounds, out):
    """A table of a hundred million rows is hundreds of gigabytes, and each kill would leave another half of it."""
    half, other = out.with_name(f".{out.name}.k3x_.part"), out.with_name(".other.parquet.k3x_.part")
    half.write_bytes(b"PAR1")
    other.write_bytes(b"PAR1")
    embed_files([sounds], embedder=ToneEmbedder(), out=out)
    assert other.exists() and not half.exists() and parquet.read_table(out).num_rows == 12


def test_a_folder_is_held_by_the_lock_that_lies_there(tmp_path, monkeypatch):
    """Who opened the lock before its holder deleted it holds nothing: another may hold the new one."""
    folder = tmp_path / "v.parts"
    taken = []

    @contextmanager
    def late(path):
        if not taken:
            path.parent.mkdir(exist_ok=True)
            taken.append(path.open("w"))
            path.unlink()  # by the holder, as it ends, between this process's opening and its locking
            with contextlib.ExitStack() as stack:
                fcntl.flock(taken[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
                stack.callback(taken[0].close)
                yield
        else:
            with locked(path):
                yield

    monkeypatch.setattr(part_files, "locked", late)
    with part_files.held(folder):
        assert (folder / LOCK_NAME).exists()
        with pytest.raises(ValueError, match="in use"), locked(folder / LOCK_NAME):
            pass
    assert not folder.exists()


def test_damaged_work_is_refused_with_a_way_out(begun, out):
    first, *_ = sorted(parts_of(out).glob("rows-*"))
    first.write_bytes(first.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"rows-.* is damaged .* --restart"):
        embed_files([begun], embedder=ToneEmbedder(), out=out)
    first.rename(first.with_name("rows-000000000000-000000000011.parquet"))
    with pytest.raises(ValueError, match=r"is damaged: a part ends before row 11.* --restart"):
        embed_files([begun], embedder=ToneEmbedder(), out=out)
    for content in ("{", json.dumps({"identity": "tones"})):
        (parts_of(out) / "job.json").write_text(content)
        with pytest.raises(ValueError, match=r"job\.json is damaged .* --restart"):
            embed_files([begun], embedder=ToneEmbedder(), out=out)
    assert embed_files([begun], embedder=ToneEmbedder(), out=out, restart=True).written == 12


def test_a_table_is_replaced_only_when_told_and_only_by_a_whole_one(sounds, out):
    embed_files([sounds], embedder=ToneEmbedder(), out=out)
    before = out.read_bytes()
    with pytest.raises(ValueError, match="already exists: add --overwrite"):
        embed_files([sounds], embedder=ToneEmbedder(), out=out)
    with pytest.raises(RuntimeError):
        embed_files([sounds], embedder=Interrupted(batches_left=0), out=out, overwrite=True)
    assert out.read_bytes() == before
    write_tone(sounds / "new.wav", 300)
    assert embed_files([sounds], embedder=ToneEmbedder(), out=out, overwrite=True, restart=True).written == 13


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sources": "sounds"}, "expected a list of sources, got 'sounds'"),
        ({"sources": ["nowhere.wav"]}, r"nowhere\.wav: expected a sound file, a folder"),
        ({"sources": ["empty"]}, "expected sounds to embed, but there is none"),
        ({"sources": ["sounds", "table.parquet"], "out": "table.parquet"}, "is a source"),
        ({"out": "vectors.csv"}, r"vectors\.csv: expected the name of a file that ends in \.parquet"),
        ({"out": "folder.parquet"}, r"folder\.parquet: expected the name of a file"),
        ({"max_seconds": 0.0}, "max_seconds must be a number above zero, got 0"),
        ({"batch_seconds": float("nan")}, "batch_seconds must be a number above zero, got nan"),
        ({"part_clips": 0}, "part_clips must be at least 1, got 0"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(tmp_path, sounds, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    for folder in ("empty", "folder.parquet"):
        (tmp_path / folder).mkdir()
    (tmp_path / "table.parquet").write_bytes(b"precious")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=message):
        embed_files(**{"sources": ["sounds"], "out": "vectors.parquet", "embedder": ToneEmbedder()} | changes)
    assert sorted(tmp_path.rglob("*")) == before


def test_two_processes_do_not_write_one_table(sounds, out):
    with locked(parts_of(out) / LOCK_NAME), pytest.raises(ValueError, match="in use by another process"):
        embed_files([sounds], embedder=ToneEmbedder(), out=out)
    assert embed_files([sounds], embedder=ToneEmbedder(), out=out).written == 12


def test_what_others_put_into_the_folder_stays(begun, out):
    (parts_of(out) / "notes.txt").write_text("mine")
    embed_files([begun], embedder=ToneEmbedder(), out=out)
    assert [path.name for path in parts_of(out).iterdir()] == ["notes.txt"]


def test_a_cut_file_gives_what_is_there_and_a_warning(tmp_path, out):
    path = write_sound(tmp_path / "s" / "cut.wav", tone(300, seconds=2.0))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.warns(audio.AudioWarning, match="its header promises 2.00 s, but only 1.00 s are there"):
        embed_files([path.parent], embedder=ToneEmbedder(), out=out)
    (row,) = parquet.read_table(out).to_pylist()
    assert row["error"] is None and row["duration_seconds"] == pytest.approx(1.0, abs=0.01)


def test_the_command(sounds, tmp_path, lapis):
    saved.save(tiny.model(0), model := tmp_path / "model")
    (sounds / "bad.wav").write_text("this is text")
    answer = lapis("embed", "sounds/00.wav", "sounds", "--model", model, "--out", "v.parquet")
    assert answer.returncode == 0 and "embedding" not in answer.stderr, answer.stderr
    *failures, last = answer.stdout.splitlines()
    assert len(failures) == 1 and failures[0].startswith("without a vector: sounds/bad.wav: expected a sound file")
    assert last.startswith("14 clips in v.parquet, 1 of them without a vector; 0.00 hours of sound; 0 clips were there")
    assert parquet.read_table(tmp_path / "v.parquet").num_rows == 14
    again = lapis("embed", "sounds", "--model", "nowhere", "--out", "v.parquet")
    assert again.returncode == 2 and again.stderr.startswith("lapis: v.parquet already exists")
    assert again.stderr.count("\n") == 1
