"""Streams and folders that are followed: what is heard, what is let go of, and what is ready."""

import io
import os
import threading
import time
from dataclasses import dataclass, replace

import numpy as np
import pytest

import tiny
from lapis.calibration import Calibration, FrameCalibration, Logistic
from lapis.search.events import FrameScores, events_of
from lapis.watching import capture
from lapis.watching.capture import Buffer, Pcm
from lapis.watching.folder import ready_files
from lapis.watching.follow import Account, Lost, Told, follow
from lapis.watching.live import Live, StreamListening
from search.tones import SAMPLE_RATE, ToneEmbedder, tone


@dataclass
class Listener(ToneEmbedder):
    calibration: Calibration | None = None


def sound(seconds, *parts):
    """A rumble, with parts (begin, end) in which it is high instead."""
    waveform = tone(100, seconds=seconds)
    for begin, end in parts:
        first, last = round(begin * SAMPLE_RATE), round(end * SAMPLE_RATE)
        waveform[first:last] = tone(1200, seconds=seconds)[first:last]
    return waveform


def heard(live, waveform, *pieces):
    """All that is told of a waveform that comes in such pieces, in samples, again and again."""
    found, begin, number = [], 0, 0
    while begin < len(waveform):
        size = pieces[number % len(pieces)]
        found += live.hear(waveform[begin : begin + size])
        begin, number = begin + size, number + 1
    return found + live.lost(0.0)


LISTENING = StreamListening(threshold=0.5)


def test_events_are_those_of_the_whole_however_the_stream_is_cut():
    waveform, texts = sound(12.3, (3.0, 5.0), (9.0, 9.8)), ["high", "rumble"]
    embedder = Listener()
    found = heard(Live(embedder, texts=texts, listening=LISTENING), waveform, len(waveform))
    for pieces in ((400,), (7001, 123, 20_000)):
        assert heard(Live(embedder, texts=texts, listening=LISTENING), waveform, *pieces) == found
    # The same by plain products, a median and runs of frames.
    begins = np.arange(0, len(waveform) - SAMPLE_RATE + 1, SAMPLE_RATE // 5)
    vectors = embedder.embed_audio([waveform[begin : begin + SAMPLE_RATE] for begin in begins])
    scores = vectors.astype(np.float64) @ embedder.embed_text(texts).astype(np.float64).T
    padded = np.pad(scores, ((1, 1), (0, 0)), mode="edge")
    smooth = np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)
    middles = begins / SAMPLE_RATE + 0.5
    seconds = np.stack([middles - 0.1, middles + 0.1], axis=1)
    seconds[0, 0] = 0.0
    wanted = events_of(FrameScores(smooth, seconds), classes=texts, threshold=0.5)
    ended = sorted((of.text, of.begin_seconds, of.end_seconds) for of in found if of.end_seconds is not None)
    assert len(ended) == 5
    for of, event in zip(ended, sorted(wanted, key=lambda event: (event.label, event.begin_seconds))):
        assert of == (event.label, pytest.approx(event.begin_seconds), pytest.approx(event.end_seconds))
    assert sorted(of.begin_seconds for of in found if of.end_seconds is None) == sorted(of[1] for of in ended)


def test_an_event_goes_on_down_to_the_lower_threshold_of_the_calibration():
    frames = FrameCalibration("windows", Logistic(8.0, -2.0), 0.0, (0.0,) * 5, begin_score=0.9, continue_score=0.3)
    of = replace(tiny.calibration("tones", width=5), frames=(frames,))
    waveform = np.concatenate(
        [tone(100, seconds=3.0), tone(1200, seconds=2.0), tone(100, 1200, 300, seconds=2.0), tone(100, seconds=3.0)]
    )
    (begin, end) = heard(Live(Listener(calibration=of), texts=["high"]), waveform, 1000)
    assert begin.begin_seconds == pytest.approx(3.0, abs=0.5) and end.begin_seconds == begin.begin_seconds
    assert end.end_seconds == pytest.approx(7.0, abs=0.5)  # the mixed part alone would not have begun it
    assert end.score == pytest.approx(1.0, abs=1e-3) and end.probability == pytest.approx(
        1 / (1 + np.exp(-6.0)), abs=1e-3
    )
    # What is usual rises with what is heard: a lasting sound is no event for ever.
    lifted = replace(of, frames=(replace(frames, usual_weight=-1.0, known_seconds=1.0, continue_score=0.2),))
    found = heard(Live(Listener(calibration=lifted), texts=["high"]), sound(30.0, (3.0, 30.0)), 1000)
    assert len(found) == 2 and 4.0 < found[1].end_seconds < 29.0
    # One that was fitted to clips alone decides by its one threshold.
    clips = tiny.calibration("tones", width=5, centre=(0.0,) * 5, least_score=0.9)
    assert len(heard(Live(Listener(calibration=clips), texts=["high"]), sound(6.0, (3.0, 5.0)), 1000)) == 2


def test_without_a_calibration_what_stands_out_counts_once_it_is_known_what_is_usual():
    random = np.random.default_rng(0)
    waveform = sound(20.0, (3.0, 5.0), (15.0, 17.0)) + random.normal(size=20 * SAMPLE_RATE).astype(np.float32) * 0.01
    found = heard(Live(Listener(), texts=["high"]), waveform, 5000)
    assert [of.begin_seconds for of in found] == pytest.approx([15.0, 15.0], abs=0.6) and found[0].probability is None


def test_a_gap_ends_what_was_heard_and_time_goes_on():
    live = Live(Listener(), texts=["high"], listening=LISTENING)
    assert [of.end_seconds for of in live.hear(sound(4.0, (2.0, 4.0)))] == [None]
    (ended,) = live.lost(10.0)
    assert ended.end_seconds == pytest.approx(3.6) and live.seconds == 14.0  # what a whole window was heard of
    again = live.hear(sound(3.0, (0.0, 3.0)))
    assert again[0].begin_seconds == 14.0
    short = Live(Listener(), texts=["high"], listening=LISTENING)
    assert short.hear(sound(0.5, (0.0, 0.5))) == []
    assert [(of.begin_seconds, of.end_seconds) for of in short.lost(0.0)] == [(0.0, None), (0.0, 0.5)]


def test_what_cannot_be_listened_for_is_refused():
    for texts, message in (([], "got none"), ([" "], "text 0 is empty")):
        with pytest.raises(ValueError, match=message):
            Live(Listener(), texts=texts)
    for wrong in ({"step_seconds": 2.0}, {"smooth_steps": 2}, {"window_seconds": 400.0}):
        with pytest.raises(ValueError, match=r"expected 0 < step|odd"):
            StreamListening(**wrong)
    with pytest.raises(ValueError, match="above 0"):
        Pcm(channels=0)


def test_samples_are_decoded():
    two = np.array([[16384, -16384], [16384, 16384]], "<i2")
    assert Pcm(channels=2).decoded(two.tobytes()).tolist() == [0.0, 0.5]
    floats = np.array([0.25, np.nan, np.inf, 7.0], "<f4")
    assert Pcm(encoding="f32").decoded(floats.tobytes()).tolist() == [0.25, 0.0, 0.0, 1.0]
    assert Pcm(encoding="s32").decoded(np.array([-(2**31)], "<i4").tobytes()).tolist() == [-1.0]


def test_a_buffer_lets_go_of_the_oldest_and_counts_it():
    buffer = Buffer(100)
    assert buffer.take(seconds=0.0) is None
    for number in range(5):
        assert buffer.put(np.full(40, number, np.float32))
    piece = buffer.take(seconds=0.0)
    assert piece.lost_samples == 120 and piece.waveform.tolist() == [3.0] * 40 + [4.0] * 40
    buffer.put(np.ones(1, np.float32), lost_samples=7)
    buffer.close(OSError("gone"))
    assert not buffer.put(np.zeros(1, np.float32)) and buffer.take(seconds=0.0).lost_samples == 7
    with pytest.raises(OSError, match="gone"):
        buffer.take(seconds=0.0)


def test_of_a_recording_nothing_is_let_go_of():
    buffer, content = Buffer(1000, waits=True), np.arange(8000, dtype="<i2").tobytes() + b"x"
    capture.start(capture.from_file(io.BytesIO(content), pcm=Pcm(8000)), into=buffer)
    found = []
    with pytest.raises(EOFError):
        while True:
            piece = buffer.take(seconds=1.0)
            assert piece.lost_samples == 0 and len(piece.waveform) <= 1000
            found.append(piece.waveform)
    assert (np.concatenate(found) * 32768).tolist() == list(range(8000))


def test_a_file_that_grows_is_followed_by_whole_samples(tmp_path):
    path, pcm = tmp_path / "grows", Pcm(8000)
    path.write_bytes(np.full(10, 5, "<i2").tobytes() + b"\x07")
    buffer = Buffer(100_000)
    with capture.open_growing(path, pcm=pcm, from_beginning=False) as file, path.open("ab") as other:
        thread = capture.start(capture.from_file(file, pcm=pcm, grows=True), into=buffer)
        for content in (b"\x00\x08", b"\x00\x09\x00"):
            other.write(content)
            other.flush()
        found = np.zeros(0)
        while len(found) < 3:
            piece = buffer.take(seconds=5.0)
            found = np.concatenate([found, piece.waveform * 32768])
        assert found.tolist() == [7, 8, 9]
        os.truncate(path, 2)  # The recorder has begun anew.
        with pytest.raises(ValueError, match="grows has become shorter"):
            while True:
                buffer.take(seconds=5.0)
        thread.join(5)
        assert not thread.is_alive()
    with pytest.raises(ValueError, match="expected a file of samples"):
        capture.open_growing(tmp_path / "none", pcm=pcm, from_beginning=True)


def test_a_stream_is_told_of_with_its_times_and_what_is_too_much_is_counted():
    # Four seconds at once, where two may wait: the first two are gone.
    buffer = Buffer(2 * 16_000)
    whole = np.repeat(sound(4.0, (0.0, 1.0), (3.0, 4.0)), 2)  # at twice the rate
    for begin in range(0, len(whole), 1600):
        buffer.put(whole[begin : begin + 1600])
    buffer.close()
    account = Account()
    told = list(
        follow(
            buffer,
            live=Live(Listener(), texts=["high"], listening=LISTENING),
            sample_rate=16_000,
            account=account,
            stopped=lambda: False,
        )
    )
    lost, begin, end = sorted(told, key=lambda of: isinstance(of, Told))
    assert lost == Lost(2.0) and account.lost_seconds == 2.0 and account.seconds == pytest.approx(4.0)
    assert begin.ends is None and begin.heard.begin_seconds == pytest.approx(3.0, abs=0.5) and account.events == 1
    assert (end.ends - end.begins).total_seconds() == pytest.approx(
        end.heard.end_seconds - end.heard.begin_seconds, abs=1e-3
    )
    assert list(account.delays) == [begin.delay_seconds] and begin.delay_seconds > 0.5


def test_times_go_on_right_after_many_gaps():
    """What a resampler holds back at a gap is sound that came."""
    rate = 11_025
    buffer, account = Buffer(3000, waits=True), Account()
    live = Live(Listener(), texts=["high"], listening=LISTENING)

    def fill(into):
        for _ in range(40):
            into.put(np.zeros(3000, np.float32), lost_samples=1000)

    capture.start(fill, into=buffer)
    list(follow(buffer, live=live, sample_rate=rate, account=account, stopped=lambda: False))
    assert account.seconds == pytest.approx(40 * 4000 / rate) and account.lost_seconds == pytest.approx(40_000 / rate)
    assert live.seconds == pytest.approx(account.seconds, abs=1e-3)


def test_one_who_is_told_to_stop_stops_and_says_what_was_heard():
    buffer = Buffer(10 * SAMPLE_RATE)
    buffer.put(sound(3.0, (1.0, 3.0)))
    live, account = Live(Listener(), texts=["high"], listening=LISTENING), Account()
    stop = threading.Event()
    told = []
    for one in follow(buffer, live=live, sample_rate=SAMPLE_RATE, account=account, stopped=stop.is_set):
        told.append(one)
        stop.set()
    assert len(told) == 2 and told[1].ends is not None and buffer.closed


def test_a_file_is_ready_when_it_no_longer_changes(tmp_path):
    (tmp_path / "old.wav").write_bytes(b"old")
    looks = ready_files(tmp_path, stopped=lambda: False, every_seconds=0.01, settle_seconds=0.05)
    assert next(looks) == []
    (tmp_path / "deep").mkdir()
    new = tmp_path / "deep" / "new.wav"
    for size in range(1, 6):
        new.write_bytes(b"x" * size)  # still written to
        begin = time.monotonic()
        assert next(looks) == []
    (tmp_path / "text.txt").write_text("no sound")

    def ready():
        found = []
        while not found:
            found = next(looks)
        return found

    assert ready() == [new] and time.monotonic() - begin >= 0.05
    assert next(looks) == []
    os.utime(tmp_path / "old.wav", ns=(1, 1))
    assert ready() == [tmp_path / "old.wav"]
    # Gone and there again, as a network disk may be.
    tmp_path.rename(tmp_path.with_name("away"))
    thread = threading.Timer(0.1, lambda: tmp_path.with_name("away").rename(tmp_path))
    thread.start()
    (tmp_path.with_name("away") / "deep" / "new.wav").unlink()
    assert next(looks) == []
    thread.join()
    # Its disk away and there again: the place of it was empty.
    looks = ready_files(tmp_path, stopped=lambda: False, every_seconds=0.01, settle_seconds=0.0)
    assert next(looks) == []
    (tmp_path / "old.wav").rename(tmp_path / ".hidden")
    thread = threading.Timer(0.1, lambda: (tmp_path / ".hidden").rename(tmp_path / "old.wav"))
    thread.start()
    assert next(looks) == []
    thread.join()
    assert [next(looks) for _ in range(2)] == [[], []]
    everything = ready_files(tmp_path, stopped=lambda: False, every_seconds=0.01, settle_seconds=0.0, known=False)
    assert next(everything) == [] and next(everything) == [tmp_path / "old.wav"]
    with pytest.raises(ValueError, match="expected a folder"):
        next(ready_files(tmp_path / "none", stopped=lambda: False))
