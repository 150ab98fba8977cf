import io
import threading
from itertools import islice

import numpy as np
import pytest
import soundfile
import torch

from data.corpus import sound_bytes, tones, write_tar
from lapis import audio
from lapis.data.batching import Budget
from lapis.data.loader import Loader, Reader, Reading
from lapis.data.mixture import Mixture, Part
from lapis.data.sources import Tars
from lapis.data.variation import Variation

BUDGET = Budget(clips=4, seconds=2.0, clip_seconds=0.35)


@pytest.fixture
def mixture(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    write_tar(tmp_path / "a.tar", tones(7))
    write_tar(tmp_path / "b.tar", tones(5, name="b"))
    return Mixture.Config((Part(Tars("a.tar"), 2.0), Part(Tars("b.tar"), 1.0))).build(seed=3)


def _loader(mixture, **reading):
    return Loader(mixture, budget=BUDGET, sample_rate=16_000, reading=Reading(**reading))


def _same(one, other):
    return (
        torch.equal(one.waveforms.rows, other.waveforms.rows)
        and one.waveforms.lengths == other.waveforms.lengths
        and (one.captions, one.draws, one.position) == (other.captions, other.draws, other.position)
    )


@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_same_batches(mixture, workers, threads):
    alone = list(islice(_loader(mixture, workers=0).batches(0), 12))
    together = list(islice(_loader(mixture, workers=workers, threads=threads).batches(0), 12))
    assert all(map(_same, alone, together))
    assert max(alone[0].waveforms.lengths) <= 0.35 * 16_000


def test_going_on_from_a_position_gives_what_would_have_come(mixture):
    whole = list(islice(_loader(mixture, workers=0).batches(0), 10))
    rest = list(islice(_loader(mixture, workers=1).batches(whole[3].position), 6))
    assert all(map(_same, whole[4:], rest))


@pytest.mark.parametrize("threads", [False, True])
def test_kept_sound_is_the_same_sound(mixture, threads):
    read = list(islice(_loader(mixture, workers=0).batches(0), 12))
    for keep_bytes in (50_000, 1 << 30):
        reading = {"workers": 3 * threads, "threads": threads, "keep_bytes": keep_bytes}
        kept = list(islice(_loader(mixture, **reading).batches(0), 12))
        assert all(map(_same, read, kept))


def test_threads_end_with_whoever_asked_for_batches(mixture):
    batches = _loader(mixture, workers=3, threads=True).batches(0)
    next(batches)
    mine = _readers()
    assert mine
    batches.close()
    for thread in mine:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in mine)


def _readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("lapis-reader")]


def test_threads_need_at_least_one():
    with pytest.raises(ValueError, match="at least one where they are threads"):
        Reading(workers=0, threads=True)


def test_what_cannot_be_read_is_named_and_the_rest_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    samples = tones(4)
    samples["broken"] = (b"this is text", {"captions": {"eng_Latn": ["broken"]}, "seconds": 0.3})
    samples["empty"] = (b"", {"captions": {"eng_Latn": ["empty"]}, "seconds": 0.3})
    write_tar(tmp_path / "a.tar", samples)
    mixture = Mixture.Config((Part(Tars("a.tar")),)).build(seed=0)
    loader = Loader(mixture, budget=Budget(clips=6), sample_rate=16_000, reading=Reading(workers=0))
    batch = next(loader.batches(0))
    assert len(batch) == 4 and batch.position == 6
    assert {drop.name.rsplit(":")[-1] for drop in batch.dropped} == {"broken.flac", "empty.flac"}
    assert all(drop.reason for drop in batch.dropped)


@pytest.mark.parametrize("reading", [Reading(workers=0), Reading(workers=1), Reading(workers=1, threads=True)])
def test_a_batch_with_nothing_to_read_stops_with_the_reason(tmp_path, monkeypatch, reading):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    write_tar(tmp_path / "a.tar", {"broken": (b"text", {"captions": {"eng_Latn": ["x"]}})})
    mixture = Mixture.Config((Part(Tars("a.tar")),)).build(seed=0)
    loader = Loader(mixture, budget=Budget(clips=2), sample_rate=16_000, reading=reading)
    with pytest.raises(ValueError, match=r"no clip of a batch could be read; the first: .*broken\.flac"):
        next(loader.batches(0))
    with pytest.raises(ValueError) as problem:
        next(loader.batches(0))
    assert "Traceback" not in str(problem.value)


@pytest.mark.parametrize("known", [True, False])
def test_of_a_long_clip_only_the_window_is_read(tmp_path, monkeypatch, known):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    words = {"captions": {"eng_Latn": ["x"]}} | ({"seconds": 60.0} if known else {})
    time = np.arange(60 * 16_000) / 16_000
    buffer = io.BytesIO()
    soundfile.write(buffer, time / 60, 16_000, format="FLAC")  # the value tells the second
    write_tar(tmp_path / "a.tar", {"x": (buffer.getvalue(), words)})
    mixture = Mixture.Config((Part(Tars("a.tar")),)).build(seed=0)
    budget = Budget(clips=8, seconds=16.0, clip_seconds=2.0)
    read = []
    original = audio.read
    monkeypatch.setattr(audio, "read", lambda *a, **k: read.append(original(*a, **k)) or read[-1])
    loader = Loader(mixture, budget=budget, sample_rate=16_000, reading=Reading(workers=0, keep_bytes=1 << 30))
    batch = next(loader.batches(0))
    assert batch.waveforms.lengths == (32_000,) * 8 and {len(waveform) for waveform in read} == {32_000}
    begins = [clip[0].item() * 60 for clip in batch.waveforms.split()]
    assert len({round(begin, 2) for begin in begins}) == 8 and min(begins) >= 0 and max(begins) <= 58


def test_sound_is_resampled_to_the_models_rate(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    write_tar(tmp_path / "a.tar", {"x": (sound_bytes(1.0), {"captions": {"eng_Latn": ["x"]}, "seconds": 1.0})})
    mixture = Mixture.Config((Part(Tars("a.tar")),)).build(seed=0)
    loader = Loader(mixture, budget=Budget(clips=1), sample_rate=8_000, reading=Reading(workers=0))
    assert next(loader.batches(0)).waveforms.lengths == (8_000,)


def test_a_companion_is_not_decoded_over_the_clip_it_joins(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    samples = {
        name: (content, {**words, "domain": "sound", "seconds": 0.3}) for name, (content, words) in tones(8).items()
    }
    write_tar(tmp_path / "a.tar", samples)
    mixture = Mixture.Config((Part(Tars("a.tar")),), variation=Variation(mixed=1.0)).build(seed=0)
    batch = next(_loader(mixture, workers=0).batches(0))
    reader = Reader(mixture, budget=BUDGET, sample_rate=16_000, keep_bytes=0)
    for place, clip in enumerate(batch.waveforms.split()):
        draw = mixture[batch.draws[place].number]
        _, alone = mixture.varied(draw, reader._read(draw), read=reader._read)
        assert np.array_equal(clip.numpy(), alone)
