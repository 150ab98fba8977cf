import json
from dataclasses import replace

import numpy as np
import pytest
from pitch import SAMPLE_RATE, CollapsedEmbedder, PitchEmbedder, pitched

import tiny
from lapis import audio
from lapis.data.sample import Location, Sample
from lapis.datasets.pocket import Pocket
from lapis.evaluation.disturbances import COMMON, Crop, Disturbance, Gain, Noise, Opus, Shift
from lapis.evaluation.figure import Result
from lapis.evaluation.results import Measured
from lapis.evaluation.retrieval import Retrieval
from lapis.evaluation.robustness import Robustness
from lapis.evaluation.zeroshot import ZeroShot


def tone(seconds=0.5, hertz=440.0, rate=16_000):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def after(disturbance, waveform):
    return disturbance(waveform, sample_rate=16_000)


@pytest.mark.parametrize("disturbance", COMMON, ids=str)
def test_a_disturbance_does_the_same_every_time(disturbance):
    assert isinstance(disturbance, Disturbance)
    first, again = (after(disturbance, tone()) for _ in range(2))
    assert first.dtype == np.float32 and (first == again).all() and np.isfinite(first).all()
    assert not np.array_equal(first, tone())


def test_what_each_disturbance_does():
    waveform = tone()
    assert (after(Shift(0.1), waveform) == np.concatenate([waveform[-1600:], waveform[:-1600]])).all()
    assert (after(Shift(10.1), waveform) == after(Shift(0.1), waveform)).all()
    assert (after(Crop(0.5), waveform) == waveform[2000:6000]).all()
    assert len(after(Crop(0.1), waveform[:3])) == 1
    assert after(Gain(-20.0), waveform) == pytest.approx(waveform / 10)
    assert after(Gain(20.0), waveform).max() == 1.0 and after(Gain(20.0), waveform).min() == -1.0
    with pytest.raises(ValueError, match="a share above 0"):
        Crop(0.0)


def test_noise_is_as_far_below_the_sound_as_it_says():
    waveform = tone(4.0)
    noise = after(Noise(10.0), waveform) - waveform
    assert 10 * np.log10((waveform**2).mean() / (noise**2).mean()) == pytest.approx(10, abs=0.1)
    other = tone(4.0, hertz=500.0)
    assert abs(np.corrcoef(noise, after(Noise(10.0), other) - other)[0, 1]) < 0.05  # another clip, other noise
    assert (after(Noise(10.0), np.zeros(100, np.float32)) == 0).all()


@pytest.mark.parametrize("rate", [8_000, 16_000, 32_000, 48_000])
def test_a_coded_sound_comes_back_in_time(rate):
    instants = np.arange(rate) / rate
    waveform = (0.5 * np.sin(2 * np.pi * (200 + 800 * instants) * instants) * np.hanning(rate)).astype(np.float32)
    back = Opus()(waveform, sample_rate=rate)
    assert len(back) == len(waveform)
    shifts = [np.corrcoef(np.roll(back, shift), waveform)[0, 1] for shift in range(-20, 21)]
    # The codec's own filters may turn a phase: by less than a tenth of a millisecond.
    assert abs(int(np.argmax(shifts)) - 20) <= max(1, rate / 10_000) and max(shifts) > 0.9
    assert (back != waveform).any()


def test_fewer_bits_sound_worse():
    waveform = audio.read(Pocket("test", "music").build()[0].audio.open(), sample_rate=48_000)
    kept = [np.corrcoef(waveform, Opus(bits)(waveform, sample_rate=48_000))[0, 1] for bits in (6_000, 96_000)]
    assert kept[0] < kept[1]


@pytest.fixture
def clips(tmp_path):
    return [
        pitched(tmp_path, str(hertz), hertz=hertz, label=str(hertz), captions={"eng_Latn": (f"{hertz} Hz",)})
        for hertz in (500, 1000, 2000, 3000)
    ]


def test_a_model_that_hears_pitch_moves_with_noise_alone(clips, tmp_path):
    (tmp_path / "broken.wav").write_text("no sound")
    broken = Sample("broken", Location(tmp_path / "broken.wav"))
    task = ZeroShot({str(hertz): (str(hertz),) for hertz in (500, 1000, 2000, 3000)})
    ask = Robustness((Shift(0.1), Gain(-20.0), Noise(-30.0)), task=task, metrics=("accuracy",))
    result = ask.run(PitchEmbedder(), clips=[*clips, broken])
    assert isinstance(result, Result)
    assert result.figures["cosine after shift by 0.1 s"].value == pytest.approx(1.0, abs=1e-6)
    assert result.figures["cosine after gain of -20 dB"].value == pytest.approx(1.0, abs=1e-6)
    assert result.figures["cosine after noise at -30 dB"].value < 0.99
    assert result.figures["accuracy"].value == 1.0
    assert result.figures["accuracy lost by gain of -20 dB"].value == 0.0
    assert result.figures["accuracy lost by noise at -30 dB"].value > 0
    for name, items in result.items.items():
        assert items.mean() == pytest.approx(result.figures[name].value)
    vectors = PitchEmbedder().embed_audio([audio.read(clip.audio.open(), sample_rate=SAMPLE_RATE) for clip in clips])
    others = (vectors @ vectors.T)[~np.eye(4, dtype=bool)].mean()
    assert result.figures["cosine after shift by 0.1 s"].chance == pytest.approx(others, abs=1e-6)
    assert len(result.unreadable) == 1 and "1 unreadable clips are not counted" in result.protocol
    assert result.to_dict()["prompts"]["500"] == ["500"]
    json.dumps(result.to_dict())
    assert Measured.of(result, clips=clips).figures == result.figures
    assert ask.run(PitchEmbedder(), clips=clips).figures == ask.run(PitchEmbedder(), clips=clips).figures


def test_a_rank_that_rises_is_a_loss(clips):
    metrics = ("R@1 text to audio", "mean rank text to audio")
    ask = Robustness((Noise(-40.0),), task=Retrieval(), metrics=metrics)
    figures = ask.run(PitchEmbedder(), clips=clips).figures
    assert figures["mean rank text to audio"].value == 1.0
    for metric in metrics:
        assert figures[f"{metric} lost by noise at -40 dB"].value > 0, metric


def test_captions_of_a_clip_belong_together_in_what_is_lost(clips):
    """As they do in the task itself, so that a comparison does not take them for clips of their own."""
    twice = [replace(clip, captions={"eng_Latn": (f"{clip.key} Hz", f"{clip.key} hertz")}) for clip in clips]
    metrics = ("R@1 text to audio", "median rank text to audio", "R@1 audio to text")
    result = Robustness((Noise(-40.0), Gain(-6.0)), task=Retrieval(), metrics=metrics).run(PitchEmbedder(), clips=twice)
    assert result.groups["R@1 text to audio lost by noise at -40 dB"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert result.groups["R@1 audio to text lost by gain of -6 dB"].tolist() == [0, 1, 2, 3]
    measured = Measured.of(result, clips=twice)
    assert measured.groups.keys() == result.groups.keys() and len(measured.groups) == 4
    assert Robustness((Gain(-6.0),)).run(PitchEmbedder(), clips=clips).groups == {}


def test_a_collapsed_model_does_not_move_and_says_so(clips):
    result = Robustness((Noise(0.0),)).run(CollapsedEmbedder(), clips=clips)
    assert result.figures["cosine after noise at 0 dB"].value == pytest.approx(1.0)
    assert result.figures["cosine after noise at 0 dB"].chance == pytest.approx(1.0)


def test_a_clip_in_another_company_moves_as_far():
    model = tiny.model().eval()
    clips = Pocket("test", "sound").build()[:5]
    few, all_ = (Robustness((Crop(0.5), Opus(), Noise(10.0))).run(model, clips=of) for of in (clips[3:], clips))
    for name, cosines in few.cosines.items():
        assert cosines == pytest.approx(all_.cosines[name][3:], abs=1e-5)


def test_what_cannot_be_measured_is_refused(clips):
    class Broken(PitchEmbedder):
        def embed_audio(self, waveforms):
            return np.full((len(waveforms), 2), np.nan, np.float32)

    with pytest.raises(ValueError, match=r"the vector of clip 500 is not finite \(as they are\)"):
        Robustness((Crop(0.5),)).run(Broken(), clips=clips)
    with pytest.raises(ValueError, match="expected two clips or more, got 0"):
        Robustness((Crop(0.5),)).run(PitchEmbedder(), clips=[])
    with pytest.raises(ValueError, match="no metric 'R@2', it has R@1 text to audio"):
        Robustness((Crop(0.5),), task=Retrieval(), metrics=("R@2",)).run(PitchEmbedder(), clips=clips)
    with pytest.raises(ValueError, match="a task with the metrics to follow, or neither"):
        Robustness(task=Retrieval())
    with pytest.raises(ValueError, match="each another one"):
        Robustness((Crop(0.5), Crop(0.5)))
