"""Ray: the rows of a single process, whatever happens to workers; leases and journals without a cluster."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from tones import ToneEmbedder, write_tone

from lapis.data.sample import Location
from lapis.data.storage import Patience
from lapis.search import careful, ray_pool
from lapis.search.bulk import embed_files
from lapis.search.careful import ENDS
from lapis.search.clips import Clip, find_clips
from lapis.search.leases import Lease, leases_of
from lapis.search.parts import Parts
from lapis.search.ray_engine import embed_with_ray
from lapis.search.ray_worker import Told, Worker
from lapis.search.rows import Row
from lapis.search.stored import Stored

HERE = Path(__file__).parent
POISON_SECONDS = 0.27
FAILING_SECONDS = 0.29


@dataclass
class Poisoned(ToneEmbedder):
    """One sound ends the process that hears it, and another makes the model fail."""

    def embed_audio(self, waveforms):
        for waveform in waveforms:
            if len(waveform) == POISON_SECONDS * self.sample_rate:
                os.kill(os.getpid(), signal.SIGKILL)
            if len(waveform) == FAILING_SECONDS * self.sample_rate:
                raise RuntimeError("no kernel for this length")
        return super().embed_audio(waveforms)


@pytest.fixture
def sounds(tmp_path) -> Path:
    for number in range(12):
        write_tone(tmp_path / "sounds" / f"{number:02d}.wav", 200 + 100 * number, seconds=(20 + number) / 100)
    (tmp_path / "sounds" / "05 text.wav").write_text("this is text")
    return tmp_path / "sounds"


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "vectors.parquet"


def whole(sounds, out):
    embed_files([sounds], embedder=ToneEmbedder(), out=out.with_name("whole.parquet"), overwrite=True)
    return parquet.read_table(out.with_name("whole.parquet"))


def begun(folder, clips) -> Parts:
    return Parts.create_or_open(folder, clips=clips, identity="tones", width=5, sample_rate=8000, max_seconds=60.0)


def named(count, *, stored=()) -> list[Clip]:
    return [
        Clip(f"{n}", Stored(f"s3://bucket/{n}.wav") if n in stored else Location(Path(f"/{n}.wav")))
        for n in range(count)
    ]


def rows_of(clips) -> list[Row]:
    return [Row(clip, np.zeros(5, np.float32), 1.0) for clip in clips]


def test_leases_are_the_gaps_and_lie_on_one_grid(tmp_path):
    clips = named(23)
    parts = begun(tmp_path / "v.parts", clips)
    parts.write(rows_of(clips[3:6]), begin=3)
    parts.write(rows_of(clips[15:20]), begin=15)
    assert parts.gaps() == [(0, 3), (6, 15), (20, 23)] and parts.num_rows == 8
    leases = list(leases_of(parts, clips_each=5))
    assert [(lease.place, lease.begin, len(lease.clips)) for lease in leases] == [
        (0, 0, 3),
        (1, 6, 4),
        (2, 10, 5),
        (4, 20, 3),
    ]
    assert [clip for lease in leases for clip in lease.clips] == [*clips[:3], *clips[6:15], *clips[20:]]
    assert leases[1].after(2) == Lease(1, 8, tuple(clips[8:10]))


def test_a_lease_knows_others_in_stores(tmp_path):
    parts = begun(tmp_path / "v.parts", named(12, stored=(0, 1, 5, 9, 11)))
    first, second, third = leases_of(parts, clips_each=4, patience=Patience())
    assert [[clip.key for clip in lease.others] for lease in (first, second, third)] == [
        ["5", "9", "11"],
        ["9", "11", "0", "1"],
        ["0", "1", "5"],
    ]
    assert [clip.key for clip in third.only_first().others] == ["9", "11", "0", "1"]


def test_each_lease_has_a_journal_of_its_own(tmp_path):
    lease, other = Lease(0, 0, tuple(named(4))), Lease(1, 4, tuple(named(4)))
    for _ in range(ENDS):
        assert lease.journal(tmp_path).careful_until == 0
    assert lease.journal(tmp_path).careful_until == 4 and other.journal(tmp_path).careful_until == 0
    assert lease.after(1).journal(tmp_path).careful_until == 4
    lease.forget(tmp_path)
    assert lease.journal(tmp_path).careful_until == 0


def test_a_worker_gives_what_it_has_and_why_there_is_no_more(sounds, tmp_path):
    worker = Worker(Poisoned, {"max_seconds": 60.0, "batch_seconds": 0.5, "threads": 1}, Path.cwd())
    assert worker.load() == Told("tones", 5, 8000)
    lease = Lease(0, 0, tuple(clip for clip in find_clips([sounds]) if "07" not in clip.key))
    answer = worker.embed(lease, lease.seen())
    assert answer.failure == "RuntimeError: no kernel for this length" and not answer.store_is_away
    assert (
        0 < len(answer.table) <= 9
        and answer.table["key"].to_pylist() == [c.key for c in lease.clips][: len(answer.table)]
    )
    (row,) = worker.embed_carefully(lease.after(9).only_first()).table.to_pylist()
    assert row["key"] == "09.wav" and row["error"] == "the model fails on it: RuntimeError: no kernel for this length"
    with pytest.raises(ValueError, match="does not see this file, which the driver sees"):
        worker.embed(lease, tmp_path / "gone.wav")
    with pytest.raises(ValueError, match=r"gone: the machine .* has no such folder"):
        Worker(ToneEmbedder, {}, tmp_path / "gone").load()


class Here:
    """A worker in this process, which runs what it is handed one after another when an answer is asked for."""

    def __init__(self, handed: list[int]) -> None:
        self.worker, self.queue, self.answers = Worker(ToneEmbedder, OPTIONS, Path.cwd()), [], {}
        self.is_lost, self.handed = False, handed
        self.load, self.embed, self.embed_carefully, self.__ray_ready__ = map(Remote, [self] * 4, CALLS)

    def run(self, name, words):
        lease = words[0] if words else None
        if lease is not None:
            self.handed.append(lease.begin)
        self.is_lost |= lease is not None and any("07" in clip.key for clip in lease.clips)
        if self.is_lost:
            raise ray_pool._LostError("gone")
        return None if name == "__ray_ready__" else getattr(self.worker, name)(*words)


CALLS = ("load", "embed", "embed_carefully", "__ray_ready__")
OPTIONS = {"max_seconds": 60.0, "batch_seconds": 0.5, "threads": 1}


@dataclass(frozen=True, eq=False)
class Remote:
    here: Here
    name: str

    def remote(self, *words):
        self.here.queue.append((self.name, words))
        return self.here, len(self.here.queue) - 1


class PoolHere(ray_pool.Pool):
    def __init__(self, handed):
        super().__init__(ToneEmbedder, {}, 2, 0)
        self.handed = handed

    def _launch(self):
        worker = Here(self.handed)
        return worker, worker.load.remote()

    def _answer_of(self, asked, *, late_after_seconds=0.0):
        here, number = asked
        for own in range(len(here.answers), number + 1):
            here.answers[own] = here.run(*here.queue[own])
        return here.answers[number]


def test_a_lease_behind_one_that_ends_workers_is_not_blamed(sounds, tmp_path, monkeypatch):
    """Without a cluster: two leases at a worker, of which the second dies with the first."""
    monkeypatch.setattr(careful, "PAUSE_SECONDS", 0.0)
    clips, handed, told = list(find_clips([sounds])), [], []
    parts = begun(tmp_path / "v.parts", clips)
    pool = PoolHere(handed)
    pool.launch()
    first, _ = pool.started()
    pool.work(parts, lease_clips=2, patience=None, progress=lambda *of: told.append(of), first=first)
    report = parts.merge(tmp_path / "v.parquet", metadata={})
    table = parquet.read_table(tmp_path / "v.parquet")
    assert table["key"].to_pylist() == [clip.key for clip in clips] and told[-1] == (13, 13)
    assert report.num_failed == 2 and [path for path, error in report.failures if "process ended" in error] == [
        str(sounds / "07.wav")
    ]
    # It ended a worker twice with its lease and three times by itself; no other lease was taken apart.
    assert clips[8].key == "07.wav" and Counter(handed) == {0: 1, 2: 1, 4: 1, 6: 1, 8: 5, 9: 1, 10: 1, 12: 1}
    assert not list((tmp_path / "v.parts").glob("*.progress.json"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "workers must be at least 1"),
        ({"gpus_per_worker": 2}, "gpus_per_worker must be 0 or 1"),
        ({"lease_clips": 0}, "lease_clips must be at least 1"),
        ({"out": "x.csv"}, r"ends in \.parquet"),
    ],
)
def test_what_cannot_be_done_is_said_before_a_cluster_is_started(sounds, out, options, message):
    with pytest.raises(ValueError, match=message):
        embed_with_ray([sounds], make=ToneEmbedder, **{"out": out} | options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "ray", "--shard", "0/2"], "--shard and --engine ray are two ways to share the work"),
        (["--workers", "2"], "--workers, --gpus-per-worker and --address are options of --engine ray"),
        (["--engine", "spark"], "engine"),
    ],
)
def test_the_command_refuses_what_does_not_go_together(sounds, lapis, words, message):
    answer = lapis("embed", "sounds", "--model", "m", "--out", "vectors.parquet", *words)
    assert answer.returncode != 0 and message in answer.stdout + answer.stderr


def descendants(process: int) -> dict[int, str]:
    """The processes that this one has started, and theirs, by name."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_text(errors="replace")
        except OSError:
            continue  # it has just ended
    found = {process}
    for _ in range(6):
        found |= {child for child, parent in parents.items() if parent in found}
    return {number: names.get(number, "") for number in found - {process}}


DRIVER = """
import sys
sys.path.insert(0, sys.argv[1])
from functools import partial
from lapis.search import careful
from lapis.search.ray_engine import embed_with_ray
from test_ray_engine import Poisoned
careful.PAUSE_SECONDS = 0.1
made = partial(Poisoned, pause_seconds=float(sys.argv[4]))
report = embed_with_ray([sys.argv[2]], make=made, out=sys.argv[3], workers=2, lease_clips=3, batch_seconds=0.3)
print(report.written, report.failed, report.resumed)
"""


def driver(sounds, out, *, pause_seconds=0.0) -> subprocess.Popen:
    words = [sys.executable, "-c", DRIVER, str(HERE), str(sounds), str(out), str(pause_seconds)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent), *sys.path])}
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
def test_the_same_table_after_workers_and_the_driver_were_killed(sounds, out):
    """A sound that kills, one that fails the model, SIGKILL to workers by chance and then to the driver."""
    pytest.importorskip("ray")
    chance = random.Random(0)
    process = driver(sounds, out, pause_seconds=0.2)
    deadline = time.monotonic() + 120
    while not list(Path(f"{out}.parts").glob("rows-*")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    workers = [number for number, name in descendants(process.pid).items() if name.startswith("ray::Worker")]
    os.kill(chance.choice(workers), signal.SIGKILL)
    time.sleep(1.0)
    process.kill()
    process.wait()
    assert not out.exists()
    process = driver(sounds, out)
    said, _ = process.communicate(timeout=300)  # what Ray says of lost workers is not in it
    written, failed, resumed = map(int, said.split())
    assert process.returncode == 0 and (written, failed) == (13, 3) and resumed >= 1
    table, expected = parquet.read_table(out), whole(sounds, out)
    assert table["key"].equals(expected["key"])
    rows, others = table.to_pylist(), expected.to_pylist()
    errors = {row["key"]: row["error"] for row in rows if row["error"]}
    assert errors["07.wav"].startswith("the process ended whenever") and "no kernel" in errors["09.wav"]
    assert [row for row in rows if row["key"] not in ("07.wav", "09.wav")] == [
        row for row in others if row["key"] not in ("07.wav", "09.wav")
    ]
    assert not Path(f"{out}.parts").exists()
