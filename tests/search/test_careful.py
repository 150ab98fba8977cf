"""A file that ends the process that reads it costs its own row and no other."""

import json
import os
import resource
import signal
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet
from tones import ToneEmbedder, write_tone

from lapis.data.storage import StorageError
from lapis.search import careful, reading
from lapis.search.bulk import embed_files
from lapis.search.careful import NAME, Journal
from lapis.search.clips import find_clips

POISON_SECONDS = 0.27


class Poisoned(ToneEmbedder):
    """Does what `reaction` says where one sound is among those it gets."""

    def __init__(self, reaction):
        super().__init__()
        self.reaction = reaction

    def embed_audio(self, waveforms):
        if any(len(waveform) == POISON_SECONDS * self.sample_rate for waveform in waveforms):
            self.reaction()
        return super().embed_audio(waveforms)


def fail():
    raise RuntimeError("no kernel for this length")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def sounds(tmp_path) -> Path:
    for number in range(12):
        write_tone(tmp_path / "sounds" / f"{number:02d}.wav", 200 + 100 * number, seconds=(20 + number) / 100)
    return tmp_path / "sounds"


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "vectors.parquet"


def embed(sounds, out, *, embedder, **options):
    return embed_files([sounds], embedder=embedder, out=out, batch_seconds=0.5, part_clips=2, threads=2, **options)


def in_a_process(sounds, out, *, embedder) -> bool:
    """Whether it came to its end."""
    process = os.fork()
    if not process:
        try:
            embed(sounds, out, embedder=embedder)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(process, 0)[1] == 0


def errors_in(out) -> dict[str, str]:
    return {row["key"]: row["error"] for row in parquet.read_table(out).to_pylist() if row["error"]}


def test_a_sound_that_kills_is_left_out_in_the_end(sounds, out, monkeypatch):
    monkeypatch.setattr(careful, "PAUSE_SECONDS", 0.01)
    ended = [in_a_process(sounds, out, embedder=Poisoned(die)) for _ in range(7)]
    # One got as far as to it, two no further, and three took it by itself.
    assert ended == [False] * 6 + [True]
    assert errors_in(out) == {"07.wav": "the process ended whenever it came to this sound: crashed, or out of memory"}
    embed(sounds, out.with_name("whole.parquet"), embedder=ToneEmbedder())
    rows, whole = (parquet.read_table(path).to_pylist() for path in (out, out.with_name("whole.parquet")))
    assert rows[:7] + rows[8:] == whole[:7] + whole[8:]


def test_a_sound_on_which_the_model_fails_is_left_out_after_two_runs_got_no_further(sounds, out):
    for _ in range(3):
        with pytest.raises(RuntimeError, match="no kernel"):
            embed(sounds, out, embedder=Poisoned(fail))
    assert embed(sounds, out, embedder=Poisoned(fail)).failed == 1
    assert errors_in(out) == {"07.wav": "the model fails on it: RuntimeError: no kernel for this length"}


def test_a_model_that_fails_on_everything_makes_no_sound_guilty(sounds, out):
    class Broken(ToneEmbedder):
        def embed_audio(self, waveforms):
            raise RuntimeError("no device")

    for _ in range(7):
        with pytest.raises(RuntimeError, match="no device"):
            embed(sounds, out, embedder=Broken())
    assert embed(sounds, out, embedder=ToneEmbedder()).failed == 0


@pytest.mark.parametrize("reason", [KeyboardInterrupt, SystemExit])
def test_who_is_stopped_makes_no_sound_guilty(sounds, out, reason):
    def stop():
        raise reason("stopped")

    for _ in range(7):
        with pytest.raises(reason):
            embed(sounds, out, embedder=Poisoned(stop))
    journal = json.loads((out.with_name(f"{out.name}.parts") / NAME).read_text())
    assert journal["ends"] == journal["careful_until"] == 0
    assert embed(sounds, out, embedder=ToneEmbedder()).failed == 0


def test_a_machine_without_files_to_open_makes_no_sound_guilty(sounds):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    hogged = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        clips = list(find_clips([sounds]))
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                hogged.append(os.open("/dev/null", os.O_RDONLY))
        with pytest.raises(StorageError, match=r"00\.wav: Too many open files, so it is not read; run again"):
            list(reading.read_ahead(iter(clips), sample_rate=8000, max_seconds=9.0, ahead_seconds=9.0, threads=2))
    finally:
        for descriptor in hogged:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_sound_for_which_memory_does_not_suffice_is_tried_by_itself(sounds, out, monkeypatch):
    blocks = reading.audio.blocks

    def greedy(source, **options):
        if source.name == "07.wav":
            raise MemoryError("8 EiB")
        return blocks(source, **options)

    monkeypatch.setattr(reading.audio, "blocks", greedy)
    for _ in range(3):
        with pytest.raises(MemoryError):
            embed(sounds, out, embedder=ToneEmbedder())
    assert embed(sounds, out, embedder=ToneEmbedder()).failed == 1
    assert errors_in(out) == {"07.wav": "memory does not suffice for it: MemoryError: 8 EiB"}


def test_a_process_that_gets_further_each_time_is_never_careful(tmp_path):
    for begin in range(0, 60, 3):
        assert Journal(tmp_path, begin=begin, ahead=10).careful_until == 0
    for _ in range(2):
        assert Journal(tmp_path, begin=60, ahead=10).careful_until in (0, 70)
    assert Journal(tmp_path, begin=60, ahead=10).careful_until == 70
    assert Journal(tmp_path, begin=65, ahead=10).careful_until == 70
    assert Journal(tmp_path, begin=70, ahead=10).careful_until == 0


def test_a_process_that_ends_in_the_pause_acquits_the_clip(tmp_path, monkeypatch):
    monkeypatch.setattr(careful, "PAUSE_SECONDS", 0.01)
    for _ in range(3):
        journal = Journal(tmp_path, begin=5, ahead=10)
    for _ in range(2):
        journal.touch(5)
        journal = Journal(tmp_path, begin=5, ahead=10)

    def killed(seconds):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(careful.time, "sleep", killed)
        with pytest.raises(SystemExit):
            journal.touch(5)
    for _ in range(3):
        journal = Journal(tmp_path, begin=5, ahead=10)
        assert not journal.is_blamed(5)
        journal.touch(5)
    assert Journal(tmp_path, begin=5, ahead=10).is_blamed(5)


def test_a_journal_that_is_damaged_says_so(tmp_path):
    (tmp_path / NAME).write_text("{")
    with pytest.raises(ValueError, match=r"progress\.json is damaged .* --restart"):
        Journal(tmp_path, begin=0, ahead=1)


def test_vectors_are_those_of_a_model_that_was_never_afraid(sounds, out):
    for _ in range(3):
        with pytest.raises(RuntimeError):
            embed(sounds, out, embedder=Poisoned(fail))
    embed(sounds, out, embedder=ToneEmbedder())
    embed(sounds, out.with_name("whole.parquet"), embedder=ToneEmbedder())
    vectors = [
        np.array(parquet.read_table(path)["vector"].to_pylist()) for path in (out, out.with_name("whole.parquet"))
    ]
    np.testing.assert_array_equal(*vectors)
