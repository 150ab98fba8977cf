"""Shards: all together are what one process writes, whatever happened to each, and the check sees what is not whole."""

import json
import os
import random
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from tones import ToneEmbedder, write_tone

from lapis.search import fragments
from lapis.search.bulk import embed_files
from lapis.search.parts import held
from lapis.search.sharding import Shard, fragments_folder


@pytest.fixture
def sounds(tmp_path) -> Path:
    """Eleven tones of different lengths, and a file that is none."""
    for number in range(11):
        write_tone(tmp_path / "sounds" / f"{number:02d}.wav", 200 + 100 * number, seconds=(20 + number) / 100)
    (tmp_path / "sounds" / "05 text.wav").write_text("this is text")
    return tmp_path / "sounds"


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "vectors.parquet"


def embed(sounds, out, *, shard=None, embedder=None, **options):
    options = {"batch_seconds": 0.5, "part_clips": 2, "threads": 1, "model": "m"} | options
    return embed_files([sounds], embedder=embedder or ToneEmbedder(), out=out, shard=shard, **options)


def whole(sounds, out) -> pa.Table:
    """What one process writes."""
    path = out.with_name("whole.parquet")
    embed(sounds, path, overwrite=True)
    return parquet.read_table(path)


@pytest.mark.parametrize("count", [1, 2, 5, 15])
def test_shards_together_are_one_process(sounds, out, monkeypatch, count):
    monkeypatch.setattr(fragments, "ROW_GROUP_ROWS", 4)
    reports = [embed(sounds, out, shard=Shard(index, count)) for index in reversed(range(count))]
    assert sum(report.written for report in reports) == 12 and sum(report.failed for report in reports) == 1
    checked = fragments.check(out)
    assert checked.is_whole and (checked.num_whole, checked.num_listed, checked.num_rows) == (count, 12, 12)
    assert checked.num_failed == 1 and checked.failures[0][0].endswith("05 text.wav")
    assert fragments.merge(out) == checked
    merged, alone = parquet.read_table(out), whole(sounds, out)
    assert merged.equals(alone, check_metadata=True)
    assert checked.audio_seconds == pytest.approx(
        sum(alone.filter(alone["error"].is_null())["duration_seconds"].to_pylist())
    )
    assert not fragments_folder(out).exists()
    with pytest.raises(ValueError, match="already exists"):
        embed(sounds, out, shard=Shard(0, count))


def test_the_shards_are_tables_that_others_read_as_one(sounds, out):
    import pyarrow.dataset

    for index in range(3):
        embed(sounds, out, shard=Shard(index, 3))
    table = pyarrow.dataset.dataset(fragments_folder(out), format="parquet").to_table()
    assert sorted(table["number"].to_pylist()) == list(range(12))
    assert table.sort_by("number").drop_columns(["number"]).equals(whole(sounds, out))


def test_a_finished_shard_run_again_stays_as_it_is(sounds, out):
    first = embed(sounds, out, shard=Shard(1, 2))
    path = Shard(1, 2).fragment(out)
    before = path.read_bytes()
    listener = ToneEmbedder()
    again = embed(sounds, out, shard=Shard(1, 2), embedder=listener)
    assert listener.seconds_heard == [] and path.read_bytes() == before
    assert (again.written, again.failed, again.resumed, again.audio_seconds) == (
        6,
        first.failed,
        6,
        first.audio_seconds,
    )
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    write_tone(sounds / "new.wav", 300)
    with pytest.raises(ValueError, match=r"is the finished shard of another job.*the number of clips: 12, now 13"):
        embed(sounds, out, shard=Shard(1, 2))
    assert path.read_bytes() == before and [found.name for found in path.parent.iterdir()] == [path.name]
    embed(sounds, out, shard=Shard(1, 2), restart=True)
    assert parquet.read_table(path)["number"].to_pylist() == [1, 3, 5, 7, 9, 11]


def test_what_is_missing_is_named_and_nothing_is_merged(sounds, out):
    with pytest.raises(ValueError, match=r"expected shards of vectors\.parquet, there are none"):
        fragments.check(out)
    embed(sounds, out, shard=Shard(2, 3))
    with pytest.raises(RuntimeError):
        embed(sounds, out, shard=Shard(0, 3), embedder=Failing(batches_left=1))
    checked = fragments.check(out)
    assert not checked.is_whole and (checked.shards, checked.num_whole, checked.num_rows) == (3, 1, 4)
    assert checked.problems == ("shard 0/3: not finished, 1 parts are written", "shard 1/3: not finished, or not begun")
    with pytest.raises(ValueError, match=r"cannot be merged:\nshard 0/3: not finished"):
        fragments.merge(out)
    assert not out.exists() and Shard(2, 3).fragment(out).exists()


class Failing(ToneEmbedder):
    """Breaks off in place of the batch of this number."""

    def __init__(self, *, batches_left):
        super().__init__()
        self.batches_left = batches_left

    def embed_audio(self, waveforms):
        if not self.batches_left:
            raise RuntimeError("out of memory, say")
        self.batches_left -= 1
        return super().embed_audio(waveforms)


def _rewrite(path: Path, change) -> None:
    table = parquet.read_table(path)
    parquet.write_table(change(table).replace_schema_metadata(table.schema.metadata), path)


def _copy_of_a_row(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table.slice(0, 1), table.slice(0, 1), table.slice(2)])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "is not a whole shard"),
        (lambda path: _rewrite(path, lambda table: table.slice(0, 3)), "has 3 rows of 4"),
        (lambda path: _rewrite(path, _copy_of_a_row), "has rows of other clips, or twice"),
        (lambda path: _rewrite(path, lambda table: table.take([1, 0, 2, 3])), "has rows of other clips, or twice"),
        (
            lambda path: _rewrite(path, lambda table: table.set_column(5, "error", pa.array(["why"] * 4))),
            "a row has neither a vector nor an error, or both",
        ),
        (lambda path: path.write_bytes((path.parent / "shard-00000-of-00003.parquet").read_bytes()), "is shard 0/3 by"),
    ],
)
def test_the_check_sees_what_is_not_as_it_was_written(sounds, out, damage, message):
    for index in range(3):
        embed(sounds, out, shard=Shard(index, 3))
    assert fragments.check(out).is_whole
    damage(Shard(1, 3).fragment(out))
    (problem,) = fragments.check(out).problems
    assert problem.startswith("shard 1/3: ") and message in problem


@pytest.mark.parametrize(
    ("change", "message"),
    [("model", "identity: other, there tones"), ("clips", "num_listed: 13, there 12"), ("names", "listing_digest")],
)
def test_shards_of_different_listings_are_not_taken_for_one(sounds, out, change, message):
    embed(sounds, out, shard=Shard(0, 2))
    if change == "clips":
        write_tone(sounds / "new.wav", 300)
    elif change == "names":
        (sounds / "00.wav").rename(sounds / "99.wav")  # every second clip is another now, and the number is the same
    embed(sounds, out, shard=Shard(1, 2), embedder=ToneEmbedder(identity="other" if change == "model" else "tones"))
    (problem,) = fragments.check(out).problems
    assert "is of another job than shard 0: it differs in" in problem and message in problem
    with pytest.raises(ValueError, match="cannot be merged"):
        fragments.merge(out)


def test_what_is_merged_is_what_was_checked(sounds, out, monkeypatch):
    """A process that comes back late, between the check and the merge, finds its shard in use."""
    for index in range(2):
        embed(sounds, out, shard=Shard(index, 2))
    contents, late = fragments.contents_of, []

    def meanwhile(path):
        found = contents(path)
        with pytest.raises(ValueError, match="in use by another process"):
            embed(sounds, out, shard=Shard(0, 2), embedder=ToneEmbedder(identity="other"), restart=True)
        late.append(path)
        return found

    monkeypatch.setattr(fragments, "contents_of", meanwhile)
    fragments.merge(out)
    assert len(late) == 2 and parquet.read_table(out).num_rows == 12


def test_no_shard_is_merged_from_under_a_process(sounds, out):
    for index in range(2):
        embed(sounds, out, shard=Shard(index, 2))
    path = Shard(1, 2).fragment(out)
    with held(path.with_name(f"{path.name}.parts")), pytest.raises(ValueError, match="in use by another process"):
        fragments.merge(out)
    assert path.exists() and not out.exists()
    assert fragments.merge(out).is_whole


@pytest.mark.parametrize("left", [0, 1, 3])
def test_a_merge_that_was_killed_while_it_deleted_the_shards_is_ended_by_the_next(sounds, out, monkeypatch, left):
    for index in range(3):
        embed(sounds, out, shard=Shard(index, 3))
    paths = [Shard(index, 3).fragment(out) for index in range(3)]
    unlink = Path.unlink

    def killed(path, missing_ok=False):
        if (path in paths and sum(map(Path.exists, paths)) == left) or (
            left == 0 and path.name == fragments.MERGED_NAME
        ):
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", killed)
        fragments.merge(out)
    assert sum(map(Path.exists, paths)) == left
    before = out.stat()
    checked = fragments.check(out)
    assert checked.is_whole and fragments.merge(out) == checked and (checked.num_whole, checked.num_rows) == (3, 12)
    assert out.stat().st_mtime_ns == before.st_mtime_ns and parquet.read_table(out).equals(whole(sounds, out))
    assert not fragments_folder(out).exists()


def test_shards_that_were_made_anew_since_are_not_taken_for_merged_ones(sounds, out, monkeypatch):
    for index in range(2):
        embed(sounds, out, shard=Shard(index, 2))
    unlink = Path.unlink

    def killed(path, missing_ok=False):
        if path.name == fragments.MERGED_NAME:
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "unlink", killed)
        fragments.merge(out)
    embed(sounds, out, shard=Shard(1, 2), embedder=ToneEmbedder(identity="other"), overwrite=True)
    assert fragments.check(out).problems == ("shard 0/2: not finished, or not begun",)
    embed(sounds, out, shard=Shard(0, 2), embedder=ToneEmbedder(identity="other"), overwrite=True)
    assert fragments.merge(out, overwrite=True).is_whole
    assert parquet.read_schema(out).metadata[b"lapis.identity"] == b"other" and not fragments_folder(out).exists()


def _started(sounds, out, *, shard, pause_seconds) -> int:
    """A process that embeds a shard, by its number."""
    process = os.fork()
    if process:
        return process
    try:
        embed(sounds, out, shard=shard, embedder=ToneEmbedder(pause_seconds=pause_seconds), part_clips=1)
    finally:
        os._exit(0)


def _killed(processes) -> None:
    for process in processes:
        os.kill(process, signal.SIGKILL)
    for process in processes:
        os.waitpid(process, 0)


def test_kill_9_of_two_shards_at_once_costs_no_row_and_doubles_none(sounds, out):
    shards = [Shard(index, 2) for index in range(2)]
    with ExitStack() as stack:
        processes = [_started(sounds, out, shard=shard, pause_seconds=0.1) for shard in shards]
        stack.callback(_killed, processes)
        deadline = time.monotonic() + 30
        for shard in shards:
            parts = Path(f"{shard.fragment(out)}.parts")
            while len(list(parts.glob("rows-*"))) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.005)
    listeners = [ToneEmbedder() for _ in shards]
    reports = [embed(sounds, out, shard=shard, embedder=each) for shard, each in zip(shards, listeners)]
    for report, listener in zip(reports, listeners):
        assert 2 <= report.resumed < report.written == 6
        assert report.written - report.failed >= len(listener.seconds_heard) >= 6 - report.resumed - 1
    assert fragments.merge(out).is_whole
    assert parquet.read_table(out).equals(whole(sounds, out))


@pytest.mark.slow
def test_kill_9_at_a_hundred_random_moments(sounds, out):
    chance = random.Random(0)
    shards = [Shard(index, 2) for index in range(2)]
    kills = 0
    while kills < 100:
        processes = [_started(sounds, out, shard=shard, pause_seconds=0.01) for shard in shards]
        time.sleep(chance.uniform(0.0, 0.25))
        _killed(processes)
        kills += len(processes)
        if fragments_folder(out).exists() and chance.random() < 0.2:
            for shard in shards:
                embed(sounds, out, shard=shard)
            assert fragments.merge(out).is_whole
            merged = parquet.read_table(out)
            assert merged.equals(whole(sounds, out))
            out.unlink()


def test_row_groups_are_of_bounded_size_and_all_failures_are_counted(tmp_path, out, monkeypatch):
    monkeypatch.setattr(fragments, "ROW_GROUP_ROWS", 64)
    listing = tmp_path / "names.txt"
    listing.write_text("\n".join(f"gone {number}.wav" for number in range(300)))
    for index in range(7):
        embed_files([listing], embedder=ToneEmbedder(), out=out, shard=Shard(index, 7), threads=1)
    checked = fragments.merge(out)
    assert checked.num_failed == 300 and len(checked.failures) == 100
    with parquet.ParquetFile(out) as file:
        assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [64] * 4 + [44]
        assert file.read()["key"].to_pylist() == [f"gone {number}.wav" for number in range(300)]


def test_the_job_lies_in_the_shard_and_not_in_the_merged_table(sounds, out):
    embed(sounds, out, shard=Shard(0, 1))
    told = json.loads(parquet.read_schema(Shard(0, 1).fragment(out)).metadata[b"lapis.job"])
    assert (told["shard"], told["shards"], told["num_listed"], told["identity"]) == (0, 1, 12, "tones")
    fragments.merge(out)
    assert b"lapis.job" not in parquet.read_schema(out).metadata
    vectors = np.array([vector for vector in parquet.read_table(out)["vector"].to_pylist() if vector is not None])
    assert vectors.shape == (11, 5)


def test_the_command_checks_and_merges(sounds, out, lapis):
    embed(sounds, out, shard=Shard(0, 2))
    answer = lapis("embed", "--check", "--out", "vectors.parquet")
    assert answer.returncode == 1 and answer.stdout.splitlines()[-2:] == [
        "shard 1/2: not finished, or not begun",
        "1 of 2 shards are whole; 6 of 12 clips have their row, 0 of these no vector; 0.00 hours of sound",
    ]
    answer = lapis("embed", "--merge", "--out", "vectors.parquet")
    assert answer.returncode == 2 and "vectors.parquet cannot be merged:\nshard 1/2: not finished" in answer.stderr
    embed(sounds, out, shard=Shard(1, 2))
    assert lapis("embed", "--check", "--out", "vectors.parquet").returncode == 0
    answer = lapis("embed", "--merge", "--out", "vectors.parquet")
    assert answer.returncode == 0 and "without a vector: " in answer.stdout and "05 text.wav" in answer.stdout
    assert "12 of 12 clips have their row, 1 of these no vector" in answer.stdout.splitlines()[-1]
    assert answer.stdout.endswith("; merged into vectors.parquet\n") and parquet.read_table(out).num_rows == 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sounds", "--merge"], "--merge and --check take only --out, got sounds"),
        (["--merge", "--check"], "take only --out, got both"),
        (["--check", "--shard", "0/2"], "take only --out, got --shard"),
        (["sounds"], "expected sources and --model"),
        (["sounds", "--model", "m", "--shard", "2/2"], "expected a shard from 0/2 to 1/2, got 2/2"),
        (["sounds", "--model", "m", "--shard", "auto"], "none of RANK, SLURM_PROCID"),
    ],
)
def test_the_command_refuses_what_is_not_sure(sounds, lapis, words, message):
    answer = lapis("embed", *words, "--out", "vectors.parquet")
    assert answer.returncode == 2 and message in answer.stderr
