import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pitch import CollapsedEmbedder, PitchEmbedder, pitched
from scenes import CLASSES, scenes
from sklearn.metrics import roc_auc_score

from lapis.evaluation.detection import always_on, f1_interval, hindrance, mean_f1
from lapis.evaluation.figure import Result
from lapis.evaluation.localisation import Localisation, System, Thresholds, best_thresholds, localised
from lapis.evaluation.planted import planted_events
from lapis.evaluation.psds import SCENARIOS, Scenario, area, detections_of, operating_points, psds
from lapis.evaluation.results import Measured
from lapis.evaluation.sound_events import Counts, count_events, count_segments, f1_by_class, heard_in_frames
from lapis.search.events import Event, FrameScores, events_of

GOLDEN = json.loads((Path(__file__).parent / "scenes.json").read_text())["of_seed"]
SCENARIOS_TRIED = {
    **SCENARIOS,
    "x": Scenario(0.5, 0.5, 0.3, 0.5, 0.5, 300.0),
    "y": Scenario(0.1, 0.1, 0.1, 1.0, 0.0, 50.0),
}


@pytest.mark.parametrize("seed", range(len(GOLDEN)))
def test_counts_are_those_of_sed_eval(seed):
    reference, detections, _ = scenes(seed)
    for name, count in (("event", count_events), ("segment", count_segments)):
        counts = count(reference, estimated=detections[3], classes=CLASSES)
        sums = [of.sum(axis=0) for of in (counts.hits, counts.reference, counts.estimated)]
        assert [of.tolist() for of in sums] == GOLDEN[seed][f"{name}s"]
        f1 = f1_by_class(sums[0], reference=sums[1], estimated=sums[2])
        assert f1.mean() == pytest.approx(GOLDEN[seed][f"{name}_f1"], abs=1e-12)


@pytest.mark.parametrize("seed", range(len(GOLDEN)))
@pytest.mark.parametrize("name", SCENARIOS_TRIED)
def test_the_detection_score_is_that_of_psds_eval(seed, name):
    reference, detections, seconds = scenes(seed)
    ours = psds(reference, detections=detections, seconds=seconds, classes=CLASSES, scenario=SCENARIOS_TRIED[name])
    assert ours == pytest.approx(GOLDEN[seed]["psds"][name], abs=1e-9)


TIMES = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 4)), max_size=5)


@given(TIMES, TIMES)
def test_as_many_pairs_are_formed_as_can_be(true, said):
    """The collar of three tenths makes several partners possible; brute force tries all ways."""
    true, said = ([Event("a", b / 5, (b + n) / 5) for b, n in of] for of in (true, said))
    counts = count_events([true], estimated=[said], classes=["a"], collar_seconds=0.3)

    def agree(one, other):
        late = max(0.3, 0.2 * (one.end_seconds - one.begin_seconds))
        return abs(one.begin_seconds - other.begin_seconds) <= 0.3 and abs(one.end_seconds - other.end_seconds) <= late

    few, many, turned = (true, said, False) if len(true) <= len(said) else (said, true, True)
    most = max(
        sum(agree(*(pair[::-1] if turned else pair)) for pair in zip(few, chosen))
        for chosen in permutations(many, len(few))
    )
    assert counts.hits.tolist() == [[most]]


def test_a_beginning_may_differ_by_the_collar_and_an_end_by_a_share():
    event = Event("a", 1.0, 3.0)

    def hit(begin, end):
        return count_events([[event]], estimated=[[Event("a", begin, end)]], classes=["a"]).hits.sum() == 1

    assert hit(1.2, 3.0) and not hit(1.21, 3.0)
    assert hit(1.0, 3.4) and not hit(1.0, 3.41)
    assert hit(1.0, 2.6) and not hit(1.0, 2.59)


def test_frames_become_events_and_back():
    seconds = np.stack([np.arange(6) * 0.5, np.arange(6) * 0.5 + 0.5], axis=1)
    scores = np.array([[0.9, 0.0], [0.1, 0.6], [0.5, 0.6], [0.7, 0.6], [0.0, 0.0], [0.8, 0.0]])
    frames = FrameScores(scores, seconds)
    found = events_of(frames, classes=["a", "b"], threshold=0.5)
    assert found == [Event("a", 0.0, 0.5), Event("a", 1.0, 2.0), Event("a", 2.5, 3.0), Event("b", 0.5, 2.0)]
    assert (heard_in_frames(found, seconds=seconds, classes=["a", "b"]) == (scores >= 0.5)).all()


def perfect(reference, seconds, *, step=0.1):
    frames = []
    for events, length in zip(reference, seconds):
        begins = np.arange(round(length / step)) * step
        times = np.stack([begins, begins + step], axis=1)
        frames.append(FrameScores(heard_in_frames(events, seconds=times, classes=CLASSES).astype(float), times))
    return frames


def measured(frames, reference, seconds, thresholds=Thresholds(0.5, 0.5)):
    return localised(
        frames, reference=reference, seconds=seconds, classes=CLASSES, thresholds=thresholds, protocol="made up"
    )


def test_a_system_that_knows_everything_has_the_best_of_all_figures():
    reference, _, seconds = scenes(0)
    rounded = [
        [Event(e.label, round(e.begin_seconds, 1), round(e.end_seconds, 1)) for e in scene] for scene in reference
    ]
    result = measured(perfect(rounded, seconds), rounded, seconds)
    assert isinstance(result, Result)
    for name in ("event F1", "segment F1", "AUROC", "PSDS1", "PSDS2"):
        assert result.figures[name].value > 0.98, name
    assert result.figures["AUROC"].value == 1.0
    json.dumps(result.to_dict())
    assert Measured.of(result, clips=[]).figures == result.figures


def test_a_constant_system_gets_what_it_deserves():
    reference, _, seconds = scenes(0)
    frames = [FrameScores(np.zeros_like(of.scores), of.seconds) for of in perfect(reference, seconds)]
    figures = measured(frames, reference, seconds, Thresholds(0.0, 0.0)).figures
    assert figures["AUROC"].value == 0.5  # what guessing has
    assert figures["event F1"].value < 0.05
    assert figures["PSDS1"].value == 0.0


def test_a_class_whose_events_lie_between_frames_has_no_area():
    reference = [[Event("long", 0.0, 0.5), Event("click", 0.61, 0.64)]]
    edges = np.arange(0, 1.0, 0.1)
    frames = [FrameScores(np.ones((10, 2)), np.stack([edges, edges + 0.1], axis=1))]
    found = localised(
        frames,
        reference=reference,
        seconds=[1.0],
        classes=("long", "click"),
        thresholds=Thresholds(0.5, 0.5),
        protocol="of nothing",
    )
    assert found.found.areas == {"long": 0.5} and found.figures["AUROC"].value == 0.5
    assert "the mean over classes but 1, whose events lie between frames" in found.protocol


def test_the_area_under_the_curve_of_frames_is_that_of_scikit_learn():
    reference, _, seconds = scenes(2)
    random = np.random.default_rng(0)
    frames = [
        FrameScores(of.scores + random.normal(size=of.scores.shape), of.seconds) for of in perfect(reference, seconds)
    ]
    truth = np.concatenate([of.scores for of in perfect(reference, seconds)])
    result = measured(frames, reference, seconds)
    theirs = [roc_auc_score(truth[:, of], np.concatenate([f.scores[:, of] for f in frames])) for of in range(3)]
    assert list(result.found.areas.values()) == pytest.approx(theirs)
    assert result.figures["AUROC"].value == pytest.approx(np.mean(theirs))


def test_the_area_within_sound_is_that_of_the_frames_in_which_something_sounds():
    reference, _, seconds = scenes(2)
    random = np.random.default_rng(0)
    known = perfect(reference, seconds)
    frames = [FrameScores(of.scores + random.normal(size=of.scores.shape), of.seconds) for of in known]
    truth, scores = (np.concatenate([scene.scores for scene in of]) for of in (known, frames))
    some = truth.any(axis=1)
    theirs = [roc_auc_score(truth[some, of], scores[some, of]) for of in range(3)]
    found = measured(frames, reference, seconds)
    assert list(found.found.areas_within.values()) == pytest.approx(theirs)
    assert found.figures["AUROC within sound"].value == pytest.approx(np.mean(theirs))


def test_who_hears_only_that_something_sounds_has_no_area_within_sound():
    """And stands beside itself, where it is given as a baseline."""
    reference, _, seconds = scenes(2)
    blind = [
        FrameScores(of.scores.max(axis=1, keepdims=True).repeat(3, axis=1), of.seconds)
        for of in perfect(reference, seconds)
    ]
    thresholds = Thresholds(0.5, 0.5)
    found = localised(
        blind,
        reference=reference,
        seconds=seconds,
        classes=CLASSES,
        thresholds=thresholds,
        protocol="made up",
        baselines={"sound": System(blind, thresholds)},
    )
    assert found.figures["AUROC"].value > 0.7 and found.figures["AUROC within sound"].value == 0.5
    always = found.baselines["all classes always"]
    for name, figure in found.figures.items():
        assert figure.chance == max(figure.value, always[name])
    assert found.to_dict()["baselines"]["sound"]["AUROC"] == found.figures["AUROC"].value
    assert "chance is the best that all classes always or sound reaches" in found.protocol
    with pytest.raises(ValueError, match="expected as many scenes, got 11, 12 and 12"):
        localised(
            blind,
            reference=reference,
            seconds=seconds,
            classes=CLASSES,
            thresholds=thresholds,
            protocol="made up",
            baselines={"sound": System(blind[1:], thresholds)},
        )


def test_an_answer_that_is_always_yes_is_counted_by_hand():
    reference = [[Event("a", 1.0, 2.0)], [Event("a", 0.5, 1.5), Event("b", 0.0, 4.0)]]
    found = always_on(reference, seconds=[4.0, 4.0], classes=("a", "b"))
    assert found["segment F1"] == pytest.approx((2 * 3 / (3 + 8) + 2 * 4 / (4 + 8)) / 2)
    assert found["event F1"] == pytest.approx((0 + 2 * 1 / (1 + 2)) / 2)


def dealt(random, *, num_classes, per_class, hit_rates, false_alarms=0.3):
    """Events of classes dealt over scenes of four, heard at each class's rate, and counts of false alarms."""
    of_event = random.permutation(np.repeat(np.arange(num_classes), per_class))
    shape = (-(-len(of_event) // 4), num_classes)
    hits, reference = np.zeros((2, *shape), int)
    np.add.at(reference, (np.arange(len(of_event)) // 4, of_event), 1)
    heard = random.random(len(of_event)) < hit_rates[of_event]
    np.add.at(hits, (np.arange(len(of_event))[heard] // 4, of_event[heard]), 1)
    return Counts(hits, reference, hits + random.poisson(false_alarms, shape))


def test_intervals_hold_the_true_figure_and_their_own():
    random = np.random.default_rng(0)
    rates = random.uniform(0.1, 0.9, 20)
    draws = [dealt(random, num_classes=20, per_class=5, hit_rates=rates) for _ in range(300)]
    values = [mean_f1(counts) for counts in draws]
    within = [f1_interval(counts) for counts in draws]
    assert all(low < value < high for value, (low, high) in zip(values, within))
    held = np.mean([low <= np.mean(values) <= high for low, high in within])
    assert 0.92 <= held <= 0.98


def test_where_classes_have_too_few_scenes_there_is_no_interval_and_it_says_so():
    random = np.random.default_rng(0)
    few = dealt(random, num_classes=6, per_class=4, hit_rates=np.full(6, 0.5))
    lonely = dealt(random, num_classes=60, per_class=1, hit_rates=np.full(60, 0.5))
    assert f1_interval(few) is None and hindrance(few) == "6 scenes are fewer than 10"
    assert f1_interval(lonely) is None and hindrance(lonely) == "60 classes sound in one scene only"
    many = dealt(random, num_classes=6, per_class=40, hit_rates=np.zeros(6))
    assert f1_interval(many) is None  # nothing was ever heard, so nothing tells how far that may move
    reference, _, seconds = scenes(0)
    known = perfect(reference, seconds)
    assert measured(known, reference, seconds).figures["segment F1"].interval is not None
    alone = measured(known[:9], reference[:9], seconds[:9])
    assert alone.figures["segment F1"].interval is None
    assert "jackknife over scenes, none here as 9 scenes are fewer than 10;" in alone.protocol


def test_scores_of_any_scale_have_the_same_figures():
    reference, _, seconds = scenes(1)
    random = np.random.default_rng(0)
    frames = [
        FrameScores(of.scores + random.normal(size=of.scores.shape), of.seconds) for of in perfect(reference, seconds)
    ]
    scaled = [FrameScores(of.scores * 100 - 7, of.seconds) for of in frames]
    first = measured(frames, reference, seconds, Thresholds(1.0, 1.2)).figures
    assert measured(scaled, reference, seconds, Thresholds(93.0, 113.0)).figures == first


def test_operating_points_go_from_one_frame_to_all():
    reference, _, seconds = scenes(0)
    random = np.random.default_rng(0)
    frames = [FrameScores(random.random(of.scores.shape), of.seconds) for of in perfect(reference, seconds)]
    points = detections_of(frames, classes=CLASSES)
    loud = [sum(event.label == "a" for scene in point for event in scene) for point in points]
    assert loud[0] == 1
    assert loud[-1] == len(frames)  # everything is heard, from beginning to end
    found = operating_points(
        reference, detections=points, seconds=seconds, classes=CLASSES, scenario=Scenario(0.0, 0.0)
    )
    assert found.found[:, -1].tolist() == [1.0, 1.0, 1.0]
    assert 0 <= area(found, scenario=Scenario(0.0, 0.0)) <= 1


def test_thresholds_come_from_other_scenes():
    reference, _, seconds = scenes(3)
    frames = [FrameScores(of.scores * 2 + 5, of.seconds) for of in perfect(reference, seconds)]
    found = best_thresholds(frames, reference=reference, classes=CLASSES)
    assert found == Thresholds(7.0, 7.0)
    with pytest.raises(ValueError, match="validation scenes with events of 3 classes, got none"):
        best_thresholds(frames, reference=[[] for _ in reference], classes=CLASSES)


def test_what_does_not_fit_together_is_refused():
    reference, _, seconds = scenes(0)
    frames = perfect(reference, seconds)
    with pytest.raises(ValueError, match="expected as many scenes, got 11, 12 and 12"):
        measured(frames[1:], reference, seconds)
    with pytest.raises(ValueError, match="'d' is among one of the two only"):
        measured(frames, [[Event("d", 0.0, 1.0)], *reference[1:]], seconds)
    with pytest.raises(ValueError, match="'c' is among one of the two only"):
        measured(frames, [[e for e in scene if e.label != "c"] for scene in reference], seconds)
    with pytest.raises(ValueError, match="class 1 in frame 2 is NaN"):
        broken = frames[0].scores.copy()
        broken[2, 1] = np.nan
        FrameScores(broken, frames[0].seconds)
    with pytest.raises(ValueError, match="expected an event to begin"):
        Event("a", 2.0, 1.0)
    with pytest.raises(ValueError, match="scene 0 has an event 'd', which is not among the classes"):
        count_events([[Event("d", 0.0, 1.0)]], estimated=[[]], classes=["a"])
    with pytest.raises(ValueError, match="class 'd' has no event"):
        psds(reference, detections=[], seconds=seconds, classes=(*CLASSES, "d"), scenario=SCENARIOS["PSDS1"])


class BandEmbedder(PitchEmbedder):
    """Hears in which of 16 bands the strongest frequency lies, and nothing of how far another one is."""

    width = 16

    def embed_audio(self, waveforms):
        return self._bands([np.abs(np.fft.rfft(of)).argmax() / len(of) * self.sample_rate for of in waveforms])

    def embed_text(self, texts):
        return self._bands([float(text.split()[0]) for text in texts])

    def _bands(self, hertz):
        return np.eye(16, dtype=np.float32)[np.minimum(np.array(hertz) // 250, 15).astype(int)]


@pytest.fixture
def tones(tmp_path):
    return [
        pitched(tmp_path, f"{hertz}-{number}", hertz=hertz, seconds=1.0, label=f"{hertz}")
        for hertz in (600, 1600, 3100)
        for number in range(4)
    ]


def test_an_embedder_that_hears_tones_says_when(tones):
    test, other = (
        planted_events(tones, seconds=10.0, longest_seconds=1.0, seed=seed, decibels=(30.0, 40.0)) for seed in (0, 1)
    )
    prompts = {f"{hertz}": (f"{hertz} Hz",) for hertz in (600, 1600, 3100)}
    ask = Localisation(prompts, hearing="windows", window_seconds=0.2, hop_seconds=0.1, smooth_seconds=0.3)
    figures = ask.run(BandEmbedder(), scenes=test, validation=other).figures
    assert figures["AUROC"].value > 0.9
    assert figures["event F1"].value > 0.6
    assert figures["segment F1"].value > 0.6
    again = ask.run(BandEmbedder(), scenes=test, validation=other)
    assert again.figures == figures
    assert again.prompts == prompts and "thresholds from 3 other scenes" in again.protocol
    lost = ask.run(CollapsedEmbedder(), scenes=test, validation=other).figures
    assert lost["AUROC"].value == 0.5 and lost["event F1"].value < 0.05


def test_an_embedder_without_frames_is_told_to_use_windows(tones):
    scenes_ = planted_events(tones, seconds=15.0)
    ask = Localisation({"500": ("500",), "1500": ("1500",), "3000": ("3000",)})
    with pytest.raises(ValueError, match=r"dense vectors need a joint model.*got PitchEmbedder: use windows"):
        ask.run(PitchEmbedder(), scenes=scenes_, validation=scenes_)
