import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data.corpus import SAMPLE_RATE, sound_bytes, tones, write_tar
from lapis import audio
from lapis.data.encoding import Codec
from lapis.data.folders import Folder
from lapis.data.prepare import prepare
from lapis.data.sources import Table, Tars
from lapis.datasets.pocket import Pocket

FLAC = Codec("flac")


def _files(folder):
    """All that is there, but what depends on when it was made."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def _problems(folder):
    return [json.loads(line) for line in (folder / "problems.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def tars(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(3):
        write_tar(tmp_path / "in" / f"{number}.tar", tones(4, name=f"töne/{number}-"))
    return Tars(f"{tmp_path}/in/*.tar")


def test_what_goes_in_comes_out(tars, tmp_path):
    report = prepare(tars, out=tmp_path / "out", codec=FLAC, shard_clips=5, workers=1)
    assert (report.shards, report.clips, report.left_out, report.warnings, report.kept) == (3, 12, 0, 0, 0)
    before, after = tars.build(), Tars(f"{tmp_path}/out/*.tar").build()
    assert len(before) == len(after) == 12
    for old, new in zip(before, after, strict=True):
        sound = audio.read(old.audio.open())
        assert replace(old, audio=new.audio, seconds=len(sound) / SAMPLE_RATE) == new
        np.testing.assert_array_equal(audio.read(new.audio.open()), sound)
    assert report.seconds == pytest.approx(sum(sample.seconds for sample in after))
    totals = json.loads((tmp_path / "out" / "prepared.json").read_text())
    assert totals["clips"] == 12 and totals["num_bytes"] == sum(
        path.stat().st_size for path in (tmp_path / "out").glob("*.tar")
    )


def test_the_pocket_corpus_in_opus_by_one_process_and_by_two(tmp_path):
    one = prepare(Pocket("val", "music"), out=tmp_path / "one", name="m", shard_clips=11, workers=1)
    two = prepare(Pocket("val", "music"), out=tmp_path / "two", name="m", shard_clips=11, workers=2)
    assert one.clips == two.clips == 53 and one.shards == 5
    assert _files(tmp_path / "one") == _files(tmp_path / "two")
    for sample in Tars(f"{tmp_path}/one/*.tar").build():
        assert audio.info(sample.audio.open()).seconds == sample.seconds


def test_a_second_time_there_is_nothing_to_do(tars, tmp_path):
    prepare(tars, out=tmp_path / "out", codec=FLAC, shard_clips=5, workers=1)
    files = _files(tmp_path / "out")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar*")}
    assert prepare(tars, out=tmp_path / "out", codec=FLAC, shard_clips=5, workers=2).kept == 3
    assert _files(tmp_path / "out") == files
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar*")}


@pytest.mark.parametrize("damage", ["cut", "gone", "no index", "line cut", "no journal", "rubbish left"])
def test_what_is_damaged_is_made_again_and_alike(tars, tmp_path, damage):
    out = tmp_path / "out"
    prepare(tars, out=out, codec=FLAC, shard_clips=5, workers=1)
    files = _files(out)
    shard, journal = out / "out-000001.tar", out / "shards.jsonl"
    match damage:
        case "cut":
            shard.write_bytes(shard.read_bytes()[:-3000])
        case "gone":
            shard.unlink()
        case "no index":
            (out / "out-000001.tar.index").unlink()
        case "line cut":
            journal.write_bytes(journal.read_bytes()[:-40])
        case "no journal":
            journal.unlink()
        case "rubbish left":
            (out / ".out-000001.tar.abc.part").write_bytes(b"half")
            (out / "out-000009.tar").write_bytes(b"of a killed process, when the source was longer")
    report = prepare(tars, out=out, codec=FLAC, shard_clips=5, workers=1)
    assert report.kept == {"no journal": 0, "rubbish left": 3}.get(damage, 2)
    assert _files(out) == files


@pytest.fixture
def faulty(tmp_path):
    """A table of sounds, of which some are bad in different ways."""
    sound = sound_bytes(1.0, format="WAV")
    contents = {
        "good0.wav": sound,
        "text.wav": b"this is text" * 100,
        "empty.mp3": b"",
        "good1.wav": sound,
        "cut.wav": sound[: len(sound) // 2],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    soundfile.write(tmp_path / "nan.wav", np.full(4000, np.nan, np.float32), SAMPLE_RATE, subtype="FLOAT")
    names = [*contents, "nan.wav", "missing.wav"]
    rows = [{"audio": name, "caption": f"words of {name}"} for name in names]
    (tmp_path / "table.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Table(str(tmp_path / "table.jsonl"))


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_files_are_named_with_reasons_and_counted(faulty, tmp_path, workers):
    report = prepare(faulty, out=tmp_path / "out", codec=FLAC, shard_clips=3, workers=workers)
    assert (report.clips, report.left_out, report.warnings) == (3, 4, 1)
    problems = _problems(tmp_path / "out")
    assert [(problem["key"], problem["left_out"]) for problem in problems] == [
        ("text.wav", True),
        ("empty.mp3", True),
        ("cut.wav", False),
        ("nan.wav", True),
        ("missing.wav", True),
    ]
    for problem, words in zip(problems, ("neither libsndfile nor", "0 bytes", "promises 1.00 s", "NaN", "no file")):
        assert words in problem["reason"] and problem["key"] in problem["where"]
    kept = Tars(f"{tmp_path}/out/*.tar").build()
    assert [sample.captions["eng_Latn"][0] for sample in kept] == [
        f"words of {name}.wav" for name in ("good0", "good1", "cut")
    ]
    assert kept[2].seconds == pytest.approx(0.5, abs=0.01)
    assert not (tmp_path / "out" / "out-000002.tar").exists()  # in which there would be nothing


def test_a_mended_file_is_taken_up_and_only_its_shard_is_made(faulty, tmp_path):
    prepare(faulty, out=tmp_path / "out", codec=FLAC, shard_clips=3, workers=1)
    (tmp_path / "missing.wav").write_bytes(sound_bytes(0.5, format="WAV"))
    report = prepare(faulty, out=tmp_path / "out", codec=FLAC, shard_clips=3, workers=1)
    assert (report.kept, report.clips, report.left_out, report.shards) == (2, 4, 3, 3)
    fresh = prepare(faulty, out=tmp_path / "fresh", name="out", codec=FLAC, shard_clips=3, workers=1)
    assert fresh.clips == 4 and _files(tmp_path / "fresh") == _files(tmp_path / "out")


def test_retry_asks_again_for_what_was_left_out(faulty, tmp_path):
    out = tmp_path / "out"
    prepare(faulty, out=out, codec=FLAC, shard_clips=3, workers=1)
    assert prepare(faulty, out=out, codec=FLAC, shard_clips=3, workers=1, retry=True).kept == 0
    # What is whole, or only shorter than promised (a warning), is not made again: three of seven shards.
    prepare(faulty, out=tmp_path / "single", codec=FLAC, shard_clips=1, workers=1)
    assert prepare(faulty, out=tmp_path / "single", codec=FLAC, shard_clips=1, workers=1, retry=True).kept == 3
    sound = sound_bytes(0.2, format="WAV")
    names = [json.loads(line)["audio"] for line in (tmp_path / "table.jsonl").read_text().splitlines()]
    assert names[0] == "good0.wav"
    (tmp_path / "table.jsonl").write_text(json.dumps({"audio": "good0.wav", "caption": "alone"}))
    (tmp_path / "good0.wav").write_bytes(sound)
    report = prepare(faulty, out=out, codec=FLAC, shard_clips=3, workers=1)  # a source that became shorter
    assert (report.shards, report.clips, report.left_out) == (1, 1, 0)
    assert sorted(path.name for path in out.glob("*.tar*")) == ["out-000000.tar", "out-000000.tar.index"]


def _cut(path):
    with tarfile.open(path) as tar:
        place = tar.getmembers()[4]
    path.write_bytes(path.read_bytes()[: place.offset_data + 100])
    return "cut short"


def _doubled(path):
    with tarfile.open(path, "a") as tar:
        member = tarfile.TarInfo(tar.getnames()[0])
        tar.addfile(member, io.BytesIO())
    return "twice"


def _latin(path):
    content = path.read_bytes()
    path.write_bytes(content.replace(b"tone 1", b"ton\xe9 1", 1))
    return "not JSON in UTF-8"


@pytest.mark.parametrize(("harm", "lost"), [(_cut, 4), (_doubled, 4), (_latin, 1)])
def test_a_faulty_shard_costs_no_other_and_is_taken_up_when_mended(tars, tmp_path, harm, lost):
    path = tmp_path / "in" / "1.tar"
    whole = path.read_bytes()
    told = harm(path)
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=told):
        tars.build()
    report = prepare(tars, out=out, codec=FLAC, shard_clips=4, workers=1)
    assert (report.clips, report.left_out) == (12 - lost, 1)
    (problem,) = _problems(out)
    assert told in problem["reason"] and str(path) in problem["where"]
    path.write_bytes(whole)
    again = prepare(tars, out=out, codec=FLAC, shard_clips=4, workers=1)
    assert (again.clips, again.left_out) == (12, 0)
    prepare(tars, out=tmp_path / "fresh", name="out", codec=FLAC, shard_clips=4, workers=1)
    sounds = [{n: c for n, c in _files(folder).items() if n.startswith("out-")} for folder in (out, tmp_path / "fresh")]
    assert sounds[0] == sounds[1]


def test_work_of_another_job_is_refused_and_thrown_away_when_asked(tars, tmp_path):
    out = tmp_path / "out"
    prepare(tars, out=out, codec=FLAC, shard_clips=5, workers=1)
    files = _files(out)
    with pytest.raises(ValueError, match=r"shards of another job, it differs in shard_clips: 5, now 4"):
        prepare(tars, out=out, codec=FLAC, shard_clips=4, workers=1)
    with pytest.raises(ValueError, match=r"it differs in codec"):
        prepare(tars, out=out, shard_clips=5, workers=1)
    assert _files(out) == files
    report = prepare(tars, out=out, codec=FLAC, shard_clips=12, workers=1, restart=True)
    assert (report.shards, report.kept) == (1, 0) and len(list(out.glob("*.tar"))) == 1
    (out / "shards.jsonl").write_text("rubbish\n")
    with pytest.raises(ValueError, match=r"shards\.jsonl is damaged .* with --restart"):
        prepare(tars, out=out, codec=FLAC, shard_clips=12, workers=1)
    assert prepare(tars, out=out, codec=FLAC, shard_clips=12, workers=1, restart=True).clips == 12
    with pytest.raises(ValueError, match="without a slash"):
        prepare(tars, out=out, name="../a", workers=1)


@pytest.mark.parametrize("place", ["out/*.tar", "link/*.tar", "links/*.tar", "table.jsonl"])
def test_a_source_within_the_folder_is_not_thrown_away(tars, tmp_path, place):
    out = tmp_path / "out"
    prepare(tars, out=out, codec=FLAC, workers=1)
    files = _files(out)
    (tmp_path / "link").symlink_to(out)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.tar").symlink_to(out / "out-000000.tar")
    (tmp_path / "table.jsonl").write_text('{"audio": "link/a.wav", "caption": "x"}')
    source = (Tars if "*" in place else Table)(f"{tmp_path}/{place}")
    with pytest.raises(ValueError, match="is of the source, and would be in --out"):
        prepare(source, out=out, codec=FLAC, workers=1, restart=True)
    assert _files(out) == files


def test_tars_of_another_name_are_nobody_elses_to_delete(tars, tmp_path):
    out = tmp_path / "out"
    prepare(tars, out=out, codec=FLAC, shard_clips=5, workers=1)
    others = [out / name for name in ("thesis-000001.tar", "my-out-000001.tar", "out-b-000001.tar", ".film.part")]
    for other in others:
        other.write_text("years of work")
    prepare(tars, out=out, codec=FLAC, shard_clips=5, workers=1)
    with pytest.raises(ValueError, match="holds other files"):
        prepare(tars, out=out, name="new", codec=FLAC, shard_clips=4, workers=1, restart=True)
    assert all(other.read_text() == "years of work" for other in others) and not list(out.glob("out-0*"))


def test_file_names_that_are_no_utf8(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, content in ((b"t\xf6n.wav", sound_bytes(0.2, format="WAV")), (b"b\xf6s.wav", b"text")):
        (folder / os.fsdecode(name)).write_bytes(content)
    out = tmp_path / os.fsdecode(b"aus\xe4")
    for kept in (0, 1):
        report = prepare(Folder(str(folder)), out=out, codec=FLAC, workers=1)
        assert (report.clips, report.left_out, report.kept) == (1, 1, kept)
    (problem,) = _problems(out)
    assert os.fsencode(problem["where"]) == os.fsencode(folder) + b"/b\xf6s.wav"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("prepared.json", '{"job": []}'),
        ("prepared.json", '{"job": ' + "[" * 100_000),
        ("shards.jsonl", "5\n"),
        ("shards.jsonl", '{"number": 0}\n'),
        ("shards.jsonl", None),
    ],
)
def test_a_damaged_description_is_named(tars, tmp_path, name, content):
    out = tmp_path / "out"
    prepare(tars, out=out, codec=FLAC, workers=1)
    line = json.loads((out / "shards.jsonl").read_text())
    (out / name).write_text(content or json.dumps(line | {"number": "0"}) + "\n")
    told = "" if content else r"number is '0'"
    with pytest.raises(ValueError, match=rf"{name} is damaged \({told}.* with --restart"):
        prepare(tars, out=out, codec=FLAC, workers=1)
    assert prepare(tars, out=out, codec=FLAC, workers=1, restart=True).clips == 12


def test_a_folder_with_other_things_is_left_alone(tars, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis-000001.tar").write_text("years of work")
    for restart in (False, True):
        with pytest.raises(ValueError, match=r"holds other files \(thesis-000001\.tar\)"):
            prepare(tars, out=tmp_path / "out", workers=1, restart=restart)
    assert (tmp_path / "out" / "thesis-000001.tar").read_text() == "years of work"


def _command(tmp_path, *options):
    arguments = ("prepare", f"{tmp_path}/in/*.tar", "--out", tmp_path / "out", "--codec", "flac", "--shard-clips", 4)
    return [sys.executable, "-m", "lapis.cli", "data", *map(str, (*arguments, *options))]


def _children(process):
    try:
        return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except FileNotFoundError:  # it has ended
        return []


def _running(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def longer(tmp_path):
    """Enough for a second or two of work."""
    (tmp_path / "in").mkdir()
    for number in range(4):
        write_tar(tmp_path / "in" / f"{number}.tar", tones(10, seconds=20.0, name=f"clip{number}-"))
    return Tars(f"{tmp_path}/in/*.tar")


def test_killed_at_random_moments(longer, tmp_path):
    state, ends = random.Random(4), []
    for _ in range(3):
        process = subprocess.Popen(_command(tmp_path, "--workers", 2), stdout=subprocess.PIPE, text=True)
        # Two workers, and what looks after the semaphores.
        while process.poll() is None and len(_children(process.pid)) < 3:
            time.sleep(0.01)
        time.sleep(state.uniform(0.0, 1.2))
        workers = _children(process.pid) if process.poll() is None else []
        process.kill()
        process.communicate()
        ends.append(process.returncode)
        give_up = time.monotonic() + 300
        while any(map(_running, workers)):
            assert time.monotonic() < give_up, "a worker outlived the process that began it"
            time.sleep(0.05)
        # Whatever is called a shard is whole.
        for path in (tmp_path / "out").glob("*.tar"):
            with tarfile.open(path) as tar:
                assert len(tar.getnames()) == 8
    assert -signal.SIGKILL in ends
    last = subprocess.run(_command(tmp_path, "--workers", 2), capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    assert "40 clips" in last.stdout and "0 clips left out" in last.stdout
    prepare(longer, out=tmp_path / "reference", name="out", codec=FLAC, shard_clips=4, workers=1)
    assert _files(tmp_path / "out") == _files(tmp_path / "reference")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopped_politely(longer, tmp_path, how):
    process = subprocess.Popen(
        _command(tmp_path, "--workers", 2), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not list((tmp_path / "out").glob("*.tar")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(how)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130 and "Traceback" not in errors, errors
    assert not list((tmp_path / "out").glob(".*.part"))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk(longer, tmp_path, workers):
    """No file may grow beyond so many bytes: less than a shard has."""

    def no_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))

    command = _command(tmp_path, "--workers", workers)
    full = subprocess.run(command, capture_output=True, text=True, preexec_fn=no_room, check=False)
    assert full.returncode == 2 and full.stderr.startswith("lapis: [Errno 27] File too large: ")
    assert "out-00000" in full.stderr and full.stderr.count("\n") == 1
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [".lock", "prepared.json", "shards.jsonl"]
    room = subprocess.run(command, capture_output=True, text=True, check=False)
    assert room.returncode == 0 and "40 clips" in room.stdout


def test_a_disk_that_is_full_later(longer, tmp_path, monkeypatch):
    """The ninth file that is to be brought to the disk finds no room: the job, the journal and some shards did."""
    calls = iter(range(1000))
    real = os.fsync

    def fsync(descriptor):
        if next(calls) == 8:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        prepare(longer, out=tmp_path / "out", codec=FLAC, shard_clips=4, workers=1)
    monkeypatch.undo()
    report = prepare(longer, out=tmp_path / "out", codec=FLAC, shard_clips=4, workers=1)
    assert report.kept > 0 and (report.clips, report.left_out) == (40, 0)
    prepare(longer, out=tmp_path / "reference", name="out", codec=FLAC, shard_clips=4, workers=1)
    assert _files(tmp_path / "out") == _files(tmp_path / "reference")


def test_two_at_once_are_refused(tars, tmp_path):
    from lapis.files import locked

    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out" / ".lock"), pytest.raises(ValueError, match="in use by another process"):
        prepare(tars, out=tmp_path / "out", workers=1)


def test_a_long_sound_needs_little_memory(tmp_path):
    """An hour in float32 at 16 kHz is 230 MB."""
    with soundfile.SoundFile(tmp_path / "hour.wav", "w", 8000, 1, "PCM_16") as file:
        for _ in range(3600):
            file.write(np.zeros(8000, np.float32))
    (tmp_path / "table.csv").write_text("audio,caption\nhour.wav,an hour of nothing\n")
    code = (
        "import resource\nfrom lapis.data.prepare import prepare\nfrom lapis.data.sources import Table\n"
        "from lapis.data.encoding import Codec\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"report = prepare(Table({str(tmp_path / 'table.csv')!r}), out={str(tmp_path / 'out')!r}, "
        "codec=Codec('flac'), workers=1)\n"
        "print(report.seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, kilobytes = answer.stdout.split()
    assert float(seconds) == 3600 and int(kilobytes) < 60_000
