"""When words sound: stretches, scores on frames, spans, and the picture of them, each against a plain way to get it."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
import soundfile

import tiny
from lapis import audio
from lapis.audio_encoders.dasheng import Dasheng
from lapis.audio_encoders.m2d import M2d
from lapis.calibration import Calibration
from lapis.search import frame_grid
from lapis.search.events import FrameScores
from lapis.search.frame_grid import Listening, grid_scores
from lapis.search.frames import dense_vectors, instant_vectors, window_vectors
from lapis.search.heat import clock, heat, spectrogram
from lapis.search.localise import Located, Locations, Rule, Span, locate
from lapis.search.stretches import stretches

RATE = 16_000
TOWERS = {
    "slap": tiny.CONFIG.audio,
    "dasheng": Dasheng.Config(width=16, depth=1, heads=2, hidden=16),
    "m2d": M2d.Config(width=16, depth=1, heads=2, hidden=16),
}


def noise(seconds, seed=0):
    return np.random.default_rng(seed).normal(size=round(seconds * RATE)).astype(np.float32) * 0.1


@dataclass
class Tones:
    """Hears in which of eight bands the loudest frequency lies; without a level to hear, all of them alike."""

    identity: str = "tones"
    sample_rate: int = RATE
    width: int = 8
    calibration: Calibration | None = None
    longest_batch: int = 0

    def embed_audio(self, waveforms):
        self.longest_batch = max(self.longest_batch, len(waveforms))
        hertz = [np.abs(np.fft.rfft(of)).argmax() / len(of) * RATE for of in waveforms]
        loud = np.array([np.abs(of).max() > 0.05 for of in waveforms])
        bands = np.eye(8)[np.minimum(np.array(hertz) // 1000, 7).astype(int)]
        return np.where(loud[:, None], bands, 8**-0.5).astype(np.float32)

    def embed_text(self, texts):
        return np.eye(8, dtype=np.float32)[[int(text.split()[0]) for text in texts]]


def beeps(seconds, *times, hertz=2500):
    waveform = noise(seconds) * 0.01
    for begin, end in times:
        of = np.arange(round(begin * RATE), round(end * RATE))
        waveform[of] += 0.5 * np.sin(2 * np.pi * hertz * of / RATE)
    return waveform.astype(np.float32)


@pytest.mark.parametrize("begin", [0, -1, -300])
@pytest.mark.parametrize("samples", [1, 399, 400, 401, 700, 1000, 40_000])
def test_stretches_are_slices_up_to_the_first_that_reaches_the_end(samples, begin):
    whole = noise(samples / RATE)
    found = list(stretches(whole, sample_rate=RATE, length=400, hop=300, begin=begin))
    planned = [begin + 300 * number for number in range(len(found))]
    assert [of.planned_sample for of in found] == planned
    assert [of.last for of in found] == [False] * (len(found) - 1) + [True]
    assert planned[-1] + 400 >= samples and all(of + 400 < samples for of in planned[:-1])
    for of in found:
        assert of.begin_sample == max(of.planned_sample, 0)
        assert (of.waveform == whole[of.begin_sample : of.planned_sample + 400]).all()


def test_stretches_leave_no_gaps():
    for length, hop, begin in ((400, 401, 0), (400, 0, 0), (400, 300, 1), (400, 300, -400)):
        with pytest.raises(ValueError, match="expected 0 < hop <= length"):
            next(stretches(noise(1.0), sample_rate=RATE, length=length, hop=hop, begin=begin))
    with pytest.raises(audio.AudioError):
        next(stretches(np.zeros(0, np.float32), sample_rate=RATE, length=4, hop=4))


@pytest.mark.parametrize("name", TOWERS)
def test_pooled_instants_are_the_mean_of_vectors_of_slices_of_tokens(name):
    model = tiny.model(audio=TOWERS[name]).eval()
    clips = [noise(2.0, seed) for seed in range(2)]
    alone, seconds = instant_vectors(model, clips)
    assert alone[1] == pytest.approx(dense_vectors(model, clips[1])[0], abs=1e-5)
    pooled, same = instant_vectors(model, clips, around_seconds=(0.0, 1.0))
    assert (seconds == same).all() and pooled.shape == alone.shape
    times, middles = model.audio_encoder.token_seconds(len(clips[0])).mean(axis=1), seconds.mean(axis=1)
    for frame in (0, len(seconds) // 2):
        near = np.abs(times - times[times <= middles[frame] + 1e-9].max()) <= 0.5 + 1e-6
        taken = np.flatnonzero(near)
        vectors = model.audio_features(
            clips[:1],
            of=lambda tokens, rows=taken: model.project_audio(
                replace(tokens, rows=tokens.rows[rows], lengths=(len(rows),))
            ),
            width=model.width,
        )
        assert pooled[0, frame] == pytest.approx((alone[0, frame] + vectors[0]) / 2, abs=1e-5)
    with pytest.raises(ValueError, match="expected clips of one length"):
        instant_vectors(model, [clips[0], clips[1][1:]])


def texts_of(model, number=2):
    return model.embed_text([f"text {of}" for of in range(number)])


@pytest.mark.parametrize("shift", [0.0, 0.35])
def test_a_frame_has_the_weighted_mean_of_all_windows_that_hear_it(shift):
    model = tiny.model(2).eval()
    texts, waveform = texts_of(model), noise(3.33)
    listening = Listening(window_seconds=1.0, overlap=3, shift_seconds=shift, around_seconds=(0.0, 0.3))
    found = grid_scores(waveform, texts=texts, embedder=model, listening=listening)
    hop = frame_grid._hop_samples(model, longest_seconds=1.0, overlap=3)
    assert found.seconds[-1, 1] == pytest.approx(3.33) and len(found.seconds) == 34
    heard = []
    begin = -(round(shift * RATE) % hop)
    while not heard or heard[-1][0] + 3 * hop < len(waveform):
        first = max(begin, 0)
        piece = waveform[first : begin + 3 * hop]
        vectors, instants = instant_vectors(model, [piece], around_seconds=(0.0, 0.3))
        heard.append((begin, first, len(piece), vectors[0] @ texts.T, instants.mean(axis=1) + first / RATE))
        begin += hop
    for frame in range(34):
        middle = (frame + 0.5) * 0.1
        total, weights = np.zeros(2), 0.0
        for planned, first, length, scores, middles in heard:
            reaches_end = first + length == len(waveform)
            if first / RATE <= middle and (middle < (first + length) / RATE or reaches_end):
                weight = max(np.sin(np.pi * min((middle - planned / RATE) / (3 * hop / RATE), 1)), 1e-3)
                total += weight * np.array([np.interp(middle, middles, of) for of in scores.T])
                weights += weight
        assert found.scores[frame] == pytest.approx(total / weights, abs=2e-5)


@pytest.mark.parametrize("name", TOWERS)
def test_the_same_from_a_file_and_on_every_run_whatever_goes_together(name, tmp_path, monkeypatch):
    model = tiny.model(audio=TOWERS[name], chunk_seconds=None if name != "slap" else 4.0).eval()
    texts, waveform = texts_of(model), noise(10.7)
    soundfile.write(tmp_path / "a.wav", waveform, RATE, subtype="FLOAT")
    found = grid_scores(waveform, texts=texts, embedder=model)
    again = grid_scores(tmp_path / "a.wav", texts=texts, embedder=model)
    assert (found.scores == again.scores).all() and (found.seconds == again.seconds).all()
    monkeypatch.setattr(frame_grid, "BATCH_SECONDS", 0.1)
    assert grid_scores(waveform, texts=texts, embedder=model).scores == pytest.approx(found.scores, abs=1e-5)


def test_windows_are_those_of_the_whole_sound():
    embedder = Tones()
    waveform = beeps(70.1, (3.0, 5.0), (40.0, 41.0))
    text = embedder.embed_text(["2"])
    found = grid_scores(waveform, texts=text, embedder=embedder)
    assert embedder.longest_batch == 256
    # A window of ours lies around each multiple of 0.2 s, one of that function around the middle of each frame.
    vectors, seconds = window_vectors(embedder, waveform[round(0.1 * RATE) :], window_seconds=1.0, hop_seconds=0.2)
    expected = np.interp(found.seconds.mean(axis=1), seconds.mean(axis=1) + 0.1, vectors @ text[0])
    assert found.scores[10:-10, 0] == pytest.approx(expected[10:-10], abs=1e-6)


@pytest.mark.parametrize("seconds", [0.0001, 0.05, 0.1, 0.95])
@pytest.mark.parametrize("hearing", ["dense", "windows"])
def test_a_short_sound_has_frames_to_its_end(seconds, hearing):
    model = tiny.model().eval()
    waveform = noise(seconds)
    found = grid_scores(waveform, texts=texts_of(model), embedder=model, listening=Listening(hearing=hearing))
    assert found.seconds[0, 0] == 0 and found.seconds[-1, 1] == pytest.approx(len(waveform) / RATE)
    assert np.isfinite(found.scores).all() and len(found.scores) == max(1, np.ceil(seconds / 0.1 - 1e-9))


def test_beeps_are_found_and_counted():
    waveform = beeps(20.0, (3.0, 5.0), (9.0, 9.8), (15.0, 16.0))
    found = locate(waveform, texts=["2 beep", "5 beep"], embedder=Tones())
    beep, other = found.found
    assert beep.count == 3 and "no calibration" in beep.rule
    for span, (begin, end) in zip(beep.spans, ((3.0, 5.0), (9.0, 9.8), (15.0, 16.0))):
        assert span.begin_seconds == pytest.approx(begin, abs=0.65)  # a window of a second hears it that much earlier
        assert span.end_seconds == pytest.approx(end, abs=0.65)
        assert span.score == 1.0 and span.probability is None
    # Quiet noise is a little like everything: what is usual in this recording is not heard.
    assert other.count == 0 and other.nearest.score == pytest.approx(8**-0.5, abs=1e-4) and found.seconds == 20.0
    long_only = locate(waveform, texts=["2"], embedder=Tones(), rule=Rule(shortest_seconds=2.9))
    assert long_only.found[0].count == 1
    told = locate(waveform, texts=["5"], embedder=Tones(), rule=Rule(threshold=0.2))
    assert told.found[0].count > 1 and "given" in told.found[0].rule


def test_the_calibration_decides_where_there_is_one():
    waveform = beeps(20.0, (3.0, 5.0))
    least = tiny.calibration("tones", centre=tuple([0.0] * 8), least_score=0.9)
    beep, other = locate(waveform, texts=["2", "5"], embedder=Tones(calibration=least)).found
    assert (beep.count, other.count) == (1, 0) and beep.threshold == 0.9
    assert "at most 1% of unrelated pairs do" in beep.rule
    assert beep.spans[0].probability == pytest.approx(1 / (1 + np.exp(-6.0)))
    deaf = replace(least, least_score=1.1)
    assert not locate(waveform, texts=["2"], embedder=Tones(calibration=deaf)).found[0].spans
    # A text near to all sounds must come nearer: its background is subtracted.
    near = replace(least, centre=(0.0, 0.0, 1.0, *[0.0] * 5))
    assert locate(waveform, texts=["2"], embedder=Tones(calibration=near)).found[0].threshold == pytest.approx(1.4)
    with pytest.raises(ValueError, match="fitted to other weights"):
        locate(waveform, texts=["2"], embedder=Tones(calibration=replace(least, identity="other")))


def test_a_sound_in_which_nothing_happens_has_no_events():
    found = locate(np.zeros(5 * RATE, np.float32), texts=["2"], embedder=Tones())
    assert found.found[0].count == 0 and found.found[0].heard_seconds == 0


def test_answers_as_values_and_as_labels():
    spans = (Span(4.0, 5.0, 0.5, 0.25), Span(7.0, 7.5, 0.5, None))
    frames = FrameScores(np.zeros((1, 2)), np.array([[0.0, 9.0]]))
    found = Locations(
        (
            Located("a\tdog\nbarks", spans, 0.2, "why", spans[0]),
            Located("rain", (Span(2.0, 6.0, 0.3, None),), 0.2, "why", spans[0]),
        ),
        frames,
    )
    assert (
        found.labels() == "2.000000\t6.000000\train\n4.000000\t5.000000\ta dog barks\n7.000000\t7.500000\ta dog barks\n"
    )
    values = json.loads(json.dumps(found.to_dict()))
    assert values["seconds"] == 9.0 and values["found"][0]["count"] == 2 and values["found"][0]["heard_seconds"] == 1.5
    assert values["found"][0]["spans"][0] == {
        "begin_seconds": 4.0, "end_seconds": 5.0, "score": 0.5, "probability": 0.25,
    }  # fmt: skip


def test_spans_of_the_shortest_duration_are_kept_wherever_they_lie():
    times = [(1.1, 1.4), (3.1, 3.4), (4.4, 4.7), (7.3, 7.6)]
    rule, listening = Rule(smooth_seconds=0.0, threshold=0.9), Listening(window_seconds=0.1, overlap=1)
    (all_of,) = locate(beeps(9.0, *times), texts=["2"], embedder=Tones(), rule=rule, listening=listening).found
    shortest = [span for span in all_of.spans if round(span.end_seconds - span.begin_seconds, 6) >= 0.3]
    assert len(shortest) >= 3 and any(span.end_seconds - span.begin_seconds < 0.3 for span in shortest)
    rule = replace(rule, shortest_seconds=0.3)
    (kept,) = locate(beeps(9.0, *times), texts=["2"], embedder=Tones(), rule=rule, listening=listening).found
    assert list(kept.spans) == shortest


def test_what_cannot_be_is_refused():
    for wrong in ({"window_seconds": 0.0}, {"overlap": 0}, {"step_seconds": 0.0}):
        with pytest.raises(ValueError, match=r"window|heard once|frames must"):
            Listening(**wrong)
    for wrong in ({"smooth_seconds": -1.0}, {"shortest_seconds": -1.0}, {"spreads": 0.0}):
        with pytest.raises(ValueError, match="expected no duration below"):
            Rule(**wrong)
    with pytest.raises(ValueError, match="use windows"):
        locate(noise(1.0), texts=["2"], embedder=Tones(), listening=Listening(hearing="dense"))
    for texts, message in (([], "got none"), ([" "], "text 0 is empty")):
        with pytest.raises(ValueError, match=message):
            locate(noise(1.0), texts=texts, embedder=Tones())


def test_a_picture_of_a_tone_shows_it_where_it_is():
    waveform = beeps(20.0, (3.0, 5.0))
    bands = spectrogram(waveform, seconds=20.0)
    loudest = np.unravel_index(bands.argmax(), bands.shape)

    def mels(hertz):
        return 2595 * np.log10(1 + hertz / 700)

    assert loudest[0] == pytest.approx((mels(2500) - mels(60)) / (mels(8000) - mels(60)) * 80, abs=1.5)
    assert 3.0 <= (loudest[1] + 0.5) / bands.shape[1] * 20.0 <= 5.0 and bands.max() == 0
    found = locate(waveform, texts=["2 beep"], embedder=Tones())
    hot = heat(found.found[0], scores=found.frames.scores[:, 0])
    assert hot[40] == 1.0 and hot[100] == 0.0
    assert spectrogram(waveform[:100], seconds=100 / RATE).shape == (80, 1)
    assert [clock(of) for of in (5.4, 65.0, 3723.0)] == ["0:05", "1:05", "1:02:03"]
