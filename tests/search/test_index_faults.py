"""What may go wrong while a folder is indexed: kills at any moment, a full disk, files without content, a huge file."""

import contextlib
import multiprocessing
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from test_index import counts, make_index, windows_of
from tones import ToneEmbedder, write_tone

from lapis import recipe as recipes
from lapis.cli import main
from lapis.datasets.pocket import Pocket
from lapis.search.columns import hash_of
from lapis.search.index import Index

SMALL = ("model.audio.width=24", "model.audio.depth=3", "model.audio.heads=2", "model.audio.hidden=24")
KILLS = 100


def _command(folder: str, words: tuple[str, ...]) -> None:
    os.chdir(folder)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    main(words)


def _started(context, folder: Path, words: tuple[str, ...]) -> multiprocessing.Process:
    process = context.Process(target=_command, args=(str(folder), words))
    process.start()
    return process


def _wait_for_a_commit(process: multiprocessing.Process, versions: Path) -> None:
    before = set(versions.glob("*"))
    while process.is_alive() and set(versions.glob("*")) == before:
        time.sleep(0.002)


def _rows(index: Index) -> dict[tuple[str, int], dict]:
    return _by_key(index.table.to_arrow().to_pylist())


def _by_key(rows: list[dict]) -> dict[tuple[str, int], dict]:
    found = {(row["path"], row["window"]): row for row in rows}
    assert len(found) == len(rows), "a row is there twice"
    return found


def _files(index: Index) -> dict[str, tuple[str, int]]:
    """Of each file its content and how many windows it has."""
    found: dict[str, tuple[str, int]] = {}
    rows = index.table.search().select(["path", "window", "audio_hash"]).to_arrow().to_pylist()
    for (path, _), row in _by_key(rows).items():
        found[path] = (row["audio_hash"], found.get(path, ("", 0))[1] + 1)
    return found


def _stir(sounds: Path, generator: random.Random) -> None:
    """Move, copy, touch, change and delete some files."""
    for path in generator.sample(sorted(sounds.rglob("*.opus")), 12):
        what = generator.choice(["move", "copy", "touch", "delete", "change"])
        other = sounds / generator.choice(["a", "b", "c"]) / f"{generator.randrange(10**9)}.opus"
        if what == "move":
            path.rename(other)
        elif what == "copy":
            shutil.copy(path, other)
        elif what == "touch":
            path.touch()
        elif what == "delete":
            path.unlink()
        else:
            path.write_bytes(generator.choice(sorted(sounds.rglob("*.opus"))).read_bytes())


@pytest.mark.slow
def test_killed_at_a_hundred_moments_the_index_is_whole_each_time(tmp_path):
    """`lapis index` itself, on real clips, killed with SIGKILL at random; after each kill the folder changes too."""
    model, sounds, generator = tmp_path / "model", tmp_path / "sounds", random.Random(0)
    settings = (*SMALL, "budget.clips=6", "training.steps=2", "checks=[]", "threads=1")
    recipes.run(recipes.override(recipes.find("pocket"), settings), folder=model)
    clips = [sample.audio.open() for sample in Pocket("test", "sound").build()[:60]]
    for letter in "abc":
        (sounds / letter).mkdir(parents=True)
    for number, clip in enumerate(clips):
        (sounds / "abc"[number % 3] / f"{number}.opus").write_bytes(clip)
    words = ("index", "sounds", "--model", "model", "--window-seconds", "0.1")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "pytest", "lapis.cli", "lapis.hub", "lapis.recipe", "lapis.recipes.pocket"]
    )

    seconds = []
    for _ in range(2):  # the whole work, and none
        begun = time.monotonic()
        _started(context, tmp_path, (*words, "--index", "first")).join()
        seconds.append(time.monotonic() - begun)
    assert Index.open(tmp_path / "first").paths, "the uninterrupted run made an index"

    finished: dict[str, tuple[str, int]] = {}
    killed = while_writing = survived = version = 0
    while killed < KILLS:
        process = _started(context, tmp_path, words)
        if generator.random() < 0.6:  # most of a run is starting and hearing, and writing is what matters
            _wait_for_a_commit(process, tmp_path / "lapis-index" / "windows.lance" / "_versions")
            process.join(generator.uniform(0, 0.15))
        else:
            process.join(generator.uniform(0.5 * seconds[1], seconds[1] + 0.5 * (seconds[0] - seconds[1])))
        is_killed = process.is_alive()
        if is_killed:
            process.kill()
        process.join()
        assert is_killed or process.exitcode == 0
        killed, survived = killed + is_killed, survived + (not is_killed)
        if not (tmp_path / "lapis-index" / "index.json").exists():
            assert not finished  # killed before the index was made
            continue
        index = Index.open(tmp_path / "lapis-index")
        now = _files(index)
        lost = {path: (of, now.get(path)) for path, of in finished.items() if now.get(path) != of}
        assert not lost, f"finished files were lost after {killed} kills"
        while_writing += is_killed and index.table.version > version
        version = index.table.version
        _stir(sounds, generator)
        while len(list(sounds.rglob("*.opus"))) < 50:
            (sounds / "a" / f"{generator.randrange(10**9)}.opus").write_bytes(generator.choice(clips))
        # Of a file that was stirred after it was heard, the rows are not what they should be yet.
        finished = {path: of for path, of in now.items() if Path(path).exists() and hash_of(Path(path)) == of[0]}
    print(f"{killed} kills, {while_writing} of runs that had written; {survived} runs ended before theirs")
    assert while_writing >= KILLS / 10

    for name in ("lapis-index", "fresh"):
        process = _started(context, tmp_path, (*words, "--index", name))
        process.join()
        assert process.exitcode == 0
    kept, fresh = _rows(Index.open(tmp_path / "lapis-index")), _rows(Index.open(tmp_path / "fresh"))
    assert kept.keys() == fresh.keys()
    for key, row in fresh.items():
        vector, known = np.array(row.pop("vector")), kept[key]
        np.testing.assert_allclose(np.array(known.pop("vector")), vector, atol=1e-5)
        assert known == row


@contextlib.contextmanager
def no_room(num_bytes: int):
    """No file of this process may grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_the_rest_is_done_when_there_is_room(tmp_path):
    """Too little for the long file's rows, enough for those of the others."""
    for number in range(3):
        write_tone(tmp_path / "sounds" / f"{number}.wav", 300 + number, seconds=0.5)
    write_tone(tmp_path / "sounds" / "long.wav", 1000, seconds=20)
    index = make_index(tmp_path / "index", window_seconds=0.01)
    with no_room(60_000), pytest.raises(ValueError, match=r"cannot be written \(.*File too large"):
        index.update(tmp_path / "sounds", embedder=ToneEmbedder(), commit_windows=1)
    index = Index.open(tmp_path / "index")
    before = windows_of(index)
    names = {Path(path).name for path, _ in before}
    assert len(before) == len(set(before)) == 50 * len(names) and "long.wav" not in names
    report = index.update(tmp_path / "sounds", embedder=ToneEmbedder())
    assert (report.added, report.unchanged) == (4 - len(names), len(names))
    rows = windows_of(index)
    assert len(rows) == len(set(rows)) == 3 * 50 + 2000


@pytest.mark.parametrize("number", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_empty_files_are_counted_and_not_opened(tmp_path, number):
    sounds = tmp_path / "sounds"
    write_tone(sounds / "sound.wav", 300)
    for name in range(number):
        (sounds / f"{name:05}.wav").touch()
    index = make_index(tmp_path / "index")
    report = index.update(sounds, embedder=ToneEmbedder())
    assert counts(report) == {"added": 1, "unchanged": 0, "changed": 0, "removed": 0, "windows": 1}
    assert len(report.failed) == number and all("0 bytes" in reason for _, reason in report.failed)


LONG = """
import sys, resource
from tones import ToneEmbedder
from lapis.search.index import Index
index = Index.create_or_open(sys.argv[1], embedder_identity="tones", width=5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = index.update(sys.argv[2], embedder=ToneEmbedder())
print(report.windows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
def test_a_long_file_takes_the_memory_of_a_batch(tmp_path):
    """20 minutes of noise at 48 kHz in stereo, 230 MB."""
    (tmp_path / "sounds").mkdir()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (48_000 * 20, 2)).astype(np.float32)
    with soundfile.SoundFile(tmp_path / "sounds" / "noise.w64", "w", 48_000, 2, "PCM_16") as file:
        for _ in range(60):
            file.write(noise)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", LONG, str(tmp_path / "index"), str(tmp_path / "sounds")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    windows, megabytes = done.stdout.split()
    assert int(windows) == 120 and float(megabytes) < 150
