"""What instants mean, fitted on mixtures: better found than by what it knows of clips, and kept beside the weights."""

import json
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import soundfile

import tiny
from lapis import calibration, cli, saved
from lapis.calibration import Calibration, FrameCalibration, Isotonic, Logistic
from lapis.data.sample import Location, Sample
from lapis.evaluation.frame_calibrating import _curve, captions_of, fit_frames, found_in, mixtures
from lapis.hub import load
from lapis.search.localise import locate

RATE = 16_000


@dataclass
class Tones:
    """Hears which of the bands of 1 kHz has the most energy, and how much of all that is."""

    identity: str = "tones"
    sample_rate: int = RATE
    width: int = 8
    calibration: Calibration | None = None

    def embed_audio(self, waveforms):
        found = []
        for waveform in waveforms:
            power = np.abs(np.fft.rfft(waveform)) ** 2
            edges = np.linspace(0, len(power), 9).astype(int)
            bands = np.array([power[begin:end].sum() for begin, end in pairwise(edges)]) + 1e-6
            found.append(np.sqrt(bands / bands.sum()))
        return np.stack(found).astype(np.float32)

    def embed_text(self, texts):
        return np.eye(8, dtype=np.float32)[[int(text.split()[-1]) for text in texts]]


def clips(folder, *, seed, seconds=0.8):
    random = np.random.default_rng(seed)
    found = []
    for number in range(8):
        band = 1 + number % 4
        hertz = 1000 * band + random.uniform(200, 800)
        times = np.arange(round(seconds * RATE)) / RATE
        path = folder / f"{seed}-{number}.wav"
        soundfile.write(path, 0.3 * np.sin(2 * np.pi * hertz * times), RATE)
        captions = {"eng_Latn": (f"tone {band}",), "deu_Latn": (f"Ton {band}",)}
        found.append(Sample(f"{seed}-{number}", Location(path), captions, label=f"band {band}", domain="sound"))
    return found


def test_instants_get_a_meaning_by_which_events_are_found(tmp_path):
    held_out, others, embedder = clips(tmp_path, seed=0), clips(tmp_path, seed=1), Tones()
    scenes, texts = mixtures(held_out, seed=1), captions_of(held_out, languages=("eng_Latn",))
    assert len(scenes) == 4 and scenes[0].seconds == 40.0 and texts["band 2"] == ("tone 2",)
    found = fit_frames(embedder, scenes=scenes[:2], texts=texts, hearing="windows", data="tones")
    assert found.curve.slope > 0 > found.usual_weight and found.continue_score <= found.begin_score
    asked = captions_of(others, languages=("eng_Latn",))
    of_clips = tiny.calibration("tones", least_score=0.95)
    measured = {}
    for name, of in (("clips", of_clips), ("instants", replace(of_clips, frames=(found,)))):
        embedder.calibration = of
        measured[name] = found_in(embedder, scenes=mixtures(others, seed=2)[:2], texts=asked)
    assert measured["instants"].segment_f1 > 0.6 > measured["clips"].segment_f1
    assert measured["instants"].event_f1 >= measured["clips"].event_f1 and measured["instants"].events == 8
    # A tone that sounds all the time is heard, as a short recording does not know what is usual.
    times = np.arange(3 * RATE) / RATE
    whole = (0.3 * np.sin(2 * np.pi * 2500 * times)).astype(np.float32)
    there, other = locate(whole, texts=["tone 2", "tone 5"], embedder=embedder).found
    assert there.count == 1 and there.heard_seconds == pytest.approx(3.0) and not other.spans
    assert "calibration of instants" in there.rule and there.spans[0].probability > 0.5 > other.nearest.probability
    # It lies in the same file, and a file without it opens as before.
    calibration.write(embedder.calibration, tmp_path)
    assert calibration.read(tmp_path) == embedder.calibration
    calibration.write(of_clips, tmp_path)
    assert calibration.read(tmp_path).frames_of("windows") is None


def test_the_curve_is_the_one_that_says_of_other_scenes_what_comes_true():
    """Log odds that only rise up to some score, where those of a line rise for ever; and those of a line."""
    random = np.random.default_rng(0)
    scores = [random.normal(size=5000) for _ in range(4)]
    for levels_off, kind in ((True, Isotonic), (False, Logistic)):
        odds = [np.minimum(3 * of, 0.0) - 3 if levels_off else 2 * of - 4 for of in scores]
        truths = [random.random(len(of)) < calibration.logistic(of) for of in odds]
        curve = _curve(scores, truths)
        assert isinstance(curve, kind)
        highest = float(calibration.logistic(curve(np.array([3.0])))[0])
        assert highest == pytest.approx(0.05, abs=0.03) if levels_off else highest > 0.7
    # Half of the scenes have nothing to fit to.
    assert isinstance(_curve(scores[:2], [truths[0], np.zeros(5000, bool)]), Logistic)


def test_the_identity_is_asked_for_once_where_it_is_told():
    # A digest that would say something else is not made.
    embedder = Tones(identity="others", calibration=tiny.calibration("tones"))
    assert len(locate(np.zeros(RATE, np.float32), texts=["1"], embedder=embedder, identity="tones").found) == 1
    with pytest.raises(ValueError, match="fitted to other weights"):
        locate(np.zeros(RATE, np.float32), texts=["1"], embedder=embedder)
    embedder = Tones(calibration=tiny.calibration("tones"))
    with pytest.raises(ValueError, match="fitted to other weights"):
        locate(np.zeros(RATE, np.float32), texts=["1"], embedder=embedder, identity="others")


def test_what_is_usual_is_the_recordings_own_as_far_as_it_is_long():
    of = FrameCalibration("windows", Logistic(1.0, 0.0), -1.0, (0.2, 0.0), 0.5, 0.4)
    texts, medians = np.eye(2, dtype=np.float32), np.array([0.6, 0.6])
    assert of.usual_of(texts, medians=medians, seconds=0.0).tolist() == pytest.approx([0.2, 0.0])
    assert of.usual_of(texts, medians=medians, seconds=30.0).tolist() == pytest.approx([0.4, 0.3])
    assert of.usual_of(texts, medians=medians, seconds=1e9).tolist() == pytest.approx([0.6, 0.6])
    with pytest.raises(ValueError, match="vectors of width 2"):
        of.usual_of(np.eye(3, dtype=np.float32), medians=np.zeros(3), seconds=1.0)
    for wrong in ({"continue_score": 0.6}, {"begin_score": float("nan")}, {"known_seconds": 0.0}):
        with pytest.raises(ValueError, match=r"expected finite numbers|known_seconds"):
            replace(of, **wrong)


def test_mixtures_need_labels_and_captions(tmp_path):
    of = clips(tmp_path, seed=0)
    with pytest.raises(ValueError, match="two labels or more"):
        mixtures([replace(clip, domain="speech") for clip in of], seed=0)
    with pytest.raises(ValueError, match="label 'band 1' has no clip with a caption"):
        captions_of(of, languages=("jpn_Jpan",))


def test_mixtures_of_many_clips_do_not_grow_with_them(tmp_path):
    many = clips(tmp_path, seed=0) * 30
    assert len(mixtures(many, seed=0)) == 10
    scenes = mixtures(many, seed=0, num_texts=5000)
    assert (
        len(scenes) == 4
        and {len(of.events) for of in scenes} == {24}
        and mixtures(many, seed=0, num_texts=5000) == scenes
    )


@pytest.mark.slow
def test_the_command_fits_instants_and_measures_them_on_other_clips(tmp_path, capsys):
    folder = tmp_path / "model"
    saved.save(tiny.model(0), folder)
    embedder = load(folder)
    of_seed = {"fit": clips(tmp_path, seed=0), "check": clips(tmp_path, seed=1)}
    heard = [clip for of in of_seed.values() for clip in of]
    vectors = embedder.embed_audio([soundfile.read(clip.audio.path, dtype="float32")[0] for clip in heard])
    texts = [f"{first}{second}" for first in "abcdefghij" for second in "0123456789"]
    # A tower that has learned nothing hears what lies nearer to a sound than to others.
    nearness = embedder.embed_text(texts) @ (vectors - vectors.mean(axis=0)).T
    labels = np.array([clip.label for clip in heard])
    own = {label: texts[int(nearness[:, labels == label].mean(axis=1).argmax())] for label in set(labels.tolist())}
    for name, of in of_seed.items():
        rows = [
            {"audio": clip.audio.path.name, "captions": {"eng_Latn": [own[clip.label]]}, "label": clip.label}
            for clip in of
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["calibrate", str(folder), "--clips", str(tmp_path / "fit.jsonl"), "--check", str(tmp_path / "check.jsonl")]
    with pytest.raises(SystemExit) as ended:
        cli.app([*words, "--frames", "--no-cache"])
    said = capsys.readouterr().out
    assert not ended.value.code and "calibrated to instants  events" in said and "locate on 4 mixtures" in said
    assert {of.hearing for of in calibration.read(folder).frames} == {"dense", "windows"}
    assert (
        "calibration of instants"
        in locate(np.zeros(RATE, np.float32), texts=["a"], embedder=load(folder)).found[0].rule
    )
