from dataclasses import dataclass, replace

import numpy as np
import pytest
import soundfile
from pitch import SAMPLE_RATE, PitchEmbedder, pitched

from lapis.data.sample import Location, Sample
from lapis.datasets.pocket import Pocket
from lapis.evaluation.planted import GAP_SECONDS, planted_events
from lapis.evaluation.planted_localisation import PlantedLocalisation
from lapis.evaluation.results import Measured
from lapis.evaluation.zeroshot import ZeroShot


@pytest.fixture
def clips(tmp_path):
    return [
        pitched(tmp_path, str(number), hertz=hertz, seconds=0.6, label=str(hertz))
        for number, hertz in enumerate([500, 700, 900, 1100, 1300, 1500])
    ]


def test_every_clip_comes_once_before_any_comes_again(clips):
    scenes = planted_events(clips, scenes=4, events=3)
    dealt = [part.clip.key for scene in scenes for part in scene.planted]
    assert sorted(dealt[:6]) == sorted(dealt[6:]) == [clip.key for clip in clips]
    assert len(planted_events(clips, events=4)) == 2
    left_over = planted_events(clips, events=4, scenes=3)
    assert all(len({part.clip.key for part in scene.planted}) == 4 for scene in left_over)


def test_the_sound_of_an_event_is_where_its_times_say(clips):
    for scene in planted_events(clips, scenes=6, events=3, seconds=12.0, decibels=(40.0, 50.0)):
        waveform = scene.waveform(sample_rate=SAMPLE_RATE)
        assert waveform.dtype == np.float32 and len(waveform) == 12 * SAMPLE_RATE
        assert np.abs(waveform).max() <= 1.0
        loud = np.abs(waveform) > 0.15 * np.abs(waveform).max()
        expected = np.zeros(len(waveform), bool)
        ends = [0.0]
        for part in scene.planted:
            begin, end = (round(t * SAMPLE_RATE) for t in (part.event.begin_seconds, part.event.end_seconds))
            expected[begin:end] = True
            spectrum = np.abs(np.fft.rfft(waveform[begin:end]))
            assert spectrum.argmax() / (end - begin) * SAMPLE_RATE == pytest.approx(float(part.event.label), abs=3)
            assert part.event.begin_seconds - ends[-1] >= GAP_SECONDS - 0.001
            ends.append(part.event.end_seconds)
        assert ends[-1] <= 12.0 - GAP_SECONDS + 0.001
        assert not (loud & ~expected).any()
        assert loud[expected].mean() > 0.5


def test_an_event_is_as_much_louder_than_the_noise_as_drawn(clips):
    (scene,) = planted_events(clips, scenes=1, events=1, seconds=8.0, decibels=(6.0, 6.0))
    waveform = scene.waveform(sample_rate=16_000)
    (part,) = scene.planted
    begin, end = (round(t * 16_000) for t in (part.event.begin_seconds, part.event.end_seconds))
    silent = replace(scene, planted=()).waveform(sample_rate=16_000)
    event = waveform[begin:end] - silent[begin:end]
    assert 20 * np.log10(event.std() / silent.std()) == pytest.approx(6.0, abs=0.1)
    assert (waveform[:begin] == silent[:begin]).all() and (waveform[end + 1 :] == silent[end + 1 :]).all()


def test_silence_at_the_edges_of_a_clip_is_no_event(tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 600 * np.arange(8000) / 16_000)
    path = tmp_path / "late.wav"
    soundfile.write(path, np.concatenate([np.zeros(16_000), tone, np.zeros(32_000)]), 16_000)
    (scene,) = planted_events([Sample("late", Location(path), label="tone")], events=1)
    (part,) = scene.planted
    assert part.from_seconds == pytest.approx(1.0, abs=0.02)
    assert part.event.end_seconds - part.event.begin_seconds == pytest.approx(0.5, abs=0.02)
    (cut,) = planted_events([Sample("late", Location(path), label="tone")], events=1, longest_seconds=0.2)
    assert cut.events[0].end_seconds - cut.events[0].begin_seconds == pytest.approx(0.2)


def test_the_same_scenes_are_made_again(clips):
    first, again, other = (planted_events(clips, events=3, seed=seed) for seed in (7, 7, 8))
    assert first == again != other
    sounds = [scene.waveform(sample_rate=8000) for scene in (first[0], again[0], other[0])]
    assert (sounds[0] == sounds[1]).all() and not np.allclose(sounds[0], sounds[2])


def test_the_times_do_not_depend_on_the_rate_of_a_model():
    scene = planted_events(Pocket("test", "sound").build()[:8])[0]
    low, high = (scene.waveform(sample_rate=rate) for rate in (16_000, 48_000))
    assert len(high) == 3 * len(low) == 48_000 * 20
    powers = [np.square(of).reshape(200, -1).mean(axis=1) for of in (low, high)]
    loud = powers[0] > 10 * np.median(powers[0])
    assert loud.any() and np.corrcoef(np.log(powers[0][loud]), np.log(powers[1][loud]))[0, 1] > 0.95


def test_what_cannot_be_planted_is_refused(clips, tmp_path):
    with pytest.raises(ValueError, match="expected 7 clips for a scene or more, got 6"):
        planted_events(clips, events=7)
    with pytest.raises(ValueError, match=r"6 events of up to 3\.0 s do not fit into 20\.0 s"):
        planted_events(clips, events=6)
    with pytest.raises(ValueError, match="clip 0: expected one label, got 'a;b'"):
        planted_events([replace(clips[0], label="a;b")], events=1)
    path = tmp_path / "silent.wav"
    soundfile.write(path, np.zeros(8000), 8000)
    with pytest.raises(ValueError, match="expected 1 clips for a scene or more, got 0; silent: silent, so it cannot"):
        planted_events([Sample("silent", Location(path), label="x")], events=1)


def test_a_clip_that_cannot_be_heard_is_in_no_scene_and_named(clips, tmp_path):
    silent, broken = tmp_path / "silent.wav", tmp_path / "broken.wav"
    soundfile.write(silent, np.zeros(8000), 8000)
    broken.write_text("no sound")
    odd = [Sample(path.stem, Location(path), label="x") for path in (silent, broken)]
    found = planted_events([odd[0], *clips, odd[1]], events=3)
    assert [failure.sample.key for failure in found.failures] == ["silent", "broken"]
    assert str(found.failures[0]) == "silent: silent, so it cannot be planted"
    assert found.scenes == planted_events(clips, events=3).scenes and len(found) == 2


def test_localisation_goes_on_without_such_clips_and_says_so(clips, tmp_path):
    path = tmp_path / "silent.wav"
    soundfile.write(path, np.zeros(8000), 8000)
    odd = Sample("silent", Location(path), label="2000")
    line = PlantedLocalisation(Clips((*clips, odd)), ByPitch())
    result = line.run(PitchEmbedder(), clips=[*clips, odd])
    assert result.classes == tuple(sorted(clip.label for clip in clips))  # of the silent one nothing can be found
    assert result.unreadable == ("silent: silent, so it cannot be planted",) * 2
    assert "2 clips that cannot be read or are silent are in no scene" in result.protocol
    assert Measured.of(result, clips=clips).unreadable == result.unreadable


@dataclass(frozen=True)
class Clips:
    clips: tuple[Sample, ...]

    def build(self):
        return list(self.clips)


@dataclass(frozen=True)
class ByPitch:
    """Asks for a class that no clip has, too."""

    def __call__(self, samples):
        return ZeroShot({label: (label,) for label in sorted({str(sample.label) for sample in samples} | {"3000"})})
