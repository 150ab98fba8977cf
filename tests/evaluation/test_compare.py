import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays
from scipy import stats

from evaluation import runs
from lapis.evaluation import significance
from lapis.evaluation.compare import compare, rows, titles
from lapis.evaluation.figure import Figure
from lapis.evaluation.results import Measured, RunResults
from lapis.evaluation.significance import group_sums, holm, sign_flip


def _enumerated(differences):
    sums = [np.dot(signs, np.abs(differences)) for signs in itertools.product((1, -1), repeat=len(differences))]
    return np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-9)


@given(arrays.arrays(np.float64, some.integers(1, 9), elements=some.integers(-8, 8).map(lambda tenths: tenths / 10)))
def test_the_sign_flip_test_equals_all_choices_of_signs(differences):
    assert sign_flip(differences) == pytest.approx(_enumerated(differences), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_it_equals_scipys_permutation_test(seed):
    differences = np.random.default_rng(seed).normal(0.4, 1, 12)
    theirs = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert sign_flip(differences) == pytest.approx(theirs.pvalue, abs=1e-12)


@pytest.mark.parametrize("better, worse, same", [(10, 10, 5), (30, 12, 100), (300, 250, 2000), (1200, 0, 0)])
def test_hits_and_misses_are_exact_whatever_their_number(better, worse, same):
    """McNemar's exact test, which is the binomial's."""
    differences = np.repeat([1.0, -1.0, 0.0], [better, worse, same])
    expected = stats.binomtest(better, better + worse).pvalue
    assert sign_flip(differences) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_the_three_ways_agree(monkeypatch):
    differences = np.random.default_rng(3).integers(-3, 4, 16).astype(np.float64)
    enumerated = sign_flip(differences)
    monkeypatch.setattr(significance, "ENUMERATED", 0)
    assert sign_flip(differences) == pytest.approx(enumerated, abs=1e-12)
    monkeypatch.setattr(significance, "CONVOLVED", 0)
    assert sign_flip(differences) == pytest.approx(enumerated, abs=0.015)
    assert sign_flip(differences) == sign_flip(differences)


def test_no_difference_is_no_difference():
    assert sign_flip(np.zeros(30)) == 1.0
    assert 0 < sign_flip(np.full(40, 0.5)) <= 1 / 19_999


@given(some.lists(some.floats(0, 1), min_size=1, max_size=8))
def test_holms_correction_by_its_definition(p_values):
    adjusted = holm(p_values)
    ordered, highest = sorted(zip(p_values, adjusted)), 0.0
    for step, (p_value, value) in enumerate(ordered):
        highest = max(highest, min(1.0, p_value * (len(p_values) - step)))
        assert value == pytest.approx(highest)


def test_items_of_a_group_are_summed():
    items, groups = np.array([1.0, 2.0, 4.0, 8.0]), np.array([7, 3, 7, 3])
    assert group_sums(items, groups=groups).tolist() == [10.0, 5.0]


def _run(items, *, model="a", **changes):
    """A run of one benchmark for each row of items."""
    return RunResults(
        model=model,
        identity=model,
        suite="",
        benchmarks={
            f"b{number}-1": Measured(
                protocol="p", figures={"accuracy": runs.figure(of)}, items={"accuracy": of}, data_checksum="c" * 64,
                num_clips=len(of), **changes,
            )
            for number, of in enumerate(items)
        },
    )  # fmt: skip


def _drawn(random, *, second):
    """Hits of two models on 60 clips, some of which are easy for both; families of three benchmarks."""
    easy = random.beta(1, 1, (3, 60))
    first = random.random((3, 60)) < easy
    return first.astype(float), (random.random((3, 60)) < np.clip(easy + second, 0, 1)).astype(float)


def test_false_alarms_come_at_the_stated_rate():
    """Of 400 families whose models are equally good, at most 5 % have a verdict, within three standard errors."""
    random = np.random.default_rng(0)
    alarms = 0
    for _ in range(400):
        first, second = _drawn(random, second=0.0)
        p_values = [sign_flip(row) for row in second - first]
        alarms += min(holm(p_values)) <= 0.05
    assert alarms / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_false_alarms_of_several_captions_a_clip_need_the_groups():
    """Captions of a clip that hit and miss together: by themselves they raise alarms, as a group they do not."""
    random, alarms = np.random.default_rng(1), np.zeros(2)
    for _ in range(300):
        of_clip = random.integers(-1, 2, 40).astype(np.float64)
        differences, groups = np.repeat(of_clip, 5), np.repeat(np.arange(40), 5)
        p_values = np.array([sign_flip(group_sums(differences, groups=groups)), sign_flip(differences)])
        alarms += p_values <= 0.05
    assert alarms[0] / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300) and alarms[1] / 300 > 0.2


def test_intervals_of_a_difference_have_their_coverage():
    """Of 300 pairs of runs, about 95 % of the intervals hold the true difference."""
    random, covered = np.random.default_rng(2), 0
    for _ in range(100):
        easy = random.beta(2, 2, (3, 120))
        true = 0.1 * np.ones(3)
        first = random.random((3, 120)) < 0.8 * easy
        second = random.random((3, 120)) < 0.8 * easy + 0.1
        found = compare(_run(first.astype(float)), second=_run(second.astype(float), model="b"))
        covered += sum(one.interval[0] <= of <= one.interval[1] for one, of in zip(found.differences, true))
    assert 0.95 - 3 * np.sqrt(0.05 * 0.95 / 300) <= covered / 300 <= 0.95 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_verdicts_are_told_in_words():
    good, bad = np.ones(60), np.r_[np.ones(30), np.zeros(30)]
    other = np.r_[np.zeros(5), np.ones(27), np.zeros(28)]
    found = compare(_run([good, bad, bad], model="x/a"), second=_run([bad, good, other], model="x/b"))
    assert [one.verdict for one in found.differences] == ["first is better", "second is better", "not told apart"]
    assert [row["verdict"] for row in rows(found)] == ["x/a is better", "x/b is better", "not told apart"]
    assert "better in 1, x/b in 1, and 1 are not told apart" in found.sentence
    assert rows(found)[0]["difference (95 %)"].startswith("-50.0 (-")
    assert found.differences[0].interval[0] < -0.5 < found.differences[0].interval[1]


def test_a_low_rank_is_good():
    low, high = np.ones(60), np.full(60, 9.0)
    made = [
        replace(one.benchmarks["b0-1"], figures={"accuracy": Figure(float(of.mean()), unit="rank")})
        for of, one in ((low, _run([low])), (high, _run([high])))
    ]
    first, second = (replace(_run([low]), benchmarks={"b0-1": one}) for one in made)
    assert compare(first, second=second).differences[0].verdict == "first is better"


def test_items_of_one_clip_tell_nothing():
    changes = {"groups": {"accuracy": np.zeros(30, np.int64)}}
    found = compare(_run([np.ones(30)], **changes), second=_run([np.zeros(30)], model="b", **changes))
    (one,) = found.differences
    assert one.verdict == "not told apart" and one.interval is None and one.num_groups == 1
    assert one.shown() == "-100.0"


def _changed(**changes):
    other = runs.run(1, model="two")
    return replace(
        other,
        benchmarks=other.benchmarks | {"gtzan-zeroshot-1": replace(other.benchmarks["gtzan-zeroshot-1"], **changes)},
    )


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"data_checksum": "ef" * 32}, r"clips differ, checksum cdcdcdcdcdcd \(40 clips\) against efefefefefef"),
        (
            {"protocol": "Zero-shot classification of 40 clips into 4 classes."},
            "protocol differs, after 'of 40 clips into': '3' against '4'",
        ),
        ({"prompts": {"dog": ["dog"]}}, r"prompts differ, of 'dog': \['the sound of dog', 'dog'\] against \['dog'\]"),
        ({"seeds": (3,)}, r"seeds differ, \(1, 2\) against \(3,\)"),
        ({"unreadable": ()}, "other clips could not be read"),
        ({"details": {"definition": "ab"}}, "defined otherwise, digest None against ab"),
    ],
)
def test_other_clips_or_another_protocol_are_left_out_by_name(changes, said):
    found = compare(runs.run(), second=_changed(**changes))
    assert re.search(said, found.left_out["gtzan-zeroshot-1"])
    assert len(found.differences) == 9 and not any(one.benchmark.startswith("gtzan") for one in found.differences)
    with pytest.raises(ValueError, match=f"nothing to compare: gtzan-zeroshot-1: .*{said}"):
        compare(runs.run(), second=_changed(**changes), only=("gtzan-*",))


@pytest.mark.parametrize("changes", [{"chosen": "Layer 3 of 12."}, {"unreadable": ("7: Format not recognised.",)}])
def test_what_the_model_chose_and_the_words_of_a_decoder_are_no_other_protocol(changes):
    found = compare(runs.run(), second=_changed(**changes))
    assert "gtzan-zeroshot-1" not in found.left_out and len(found.differences) == 10


def test_items_that_do_not_pair_are_left_out():
    first, second = (_run([of, of], model=name) for name, of in (("a", np.ones(30)), ("b", np.zeros(30))))
    short = replace(_run([np.ones(20)]).benchmarks["b0-1"], num_clips=30)
    other = replace(second.benchmarks["b1-1"], groups={"accuracy": np.arange(30) // 2})
    for change, said in (({"b0-1": short}, "30 items against 20"), ({"b1-1": other}, "belong to other clips")):
        found = compare(first, second=replace(second, benchmarks=second.benchmarks | change))
        ((name, reason),) = found.left_out.items()
        assert name == f"{next(iter(change))} accuracy" and said in reason and len(found.differences) == 1


def test_what_cannot_be_paired_is_named():
    first, second = runs.run(), runs.run(1, model="two")
    second = replace(second, benchmarks={name: one for name, one in second.benchmarks.items() if "jpn" not in name})
    found = compare(first, second=second)
    assert found.left_out["esc50-zeroshot-jpn_Jpan-1"] == "only runs/one has it"
    assert "no mean over items" in found.left_out["audiocaps-retrieval-1 median rank text to audio"]
    (one,) = (one for one in found.differences if one.metric == "R@5 text to audio")
    assert one.num_items == 200 and one.num_groups == 40
    assert len(found.differences) + len(found.left_out) == 8 + 4
    only = compare(first, second=second, only=("* R@1 *",))
    assert [one.metric for one in only.differences] == ["R@1 text to audio", "R@1 audio to text"]


def test_nothing_in_common_is_an_error():
    first, second = runs.run(), runs.run(1, model="two")
    said = (
        "the runs share no benchmark: runs/one has gtzan-zeroshot-1 of the suite pool, two has esc50-zeroshot-1 of the "
        "suite papers. Measure both models on one suite to compare them"
    )
    with pytest.raises(ValueError, match=re.escape(said)):
        compare(
            replace(first, benchmarks={"gtzan-zeroshot-1": first.benchmarks["gtzan-zeroshot-1"]}, suite="pool"),
            second=replace(second, benchmarks={"esc50-zeroshot-1": second.benchmarks["esc50-zeroshot-1"]}),
        )
    with pytest.raises(ValueError, match="no benchmark is asked for"):
        compare(first, second=second, only=("nothing*",))


@settings(max_examples=10)
@given(some.integers(0, 10**6))
def test_the_order_of_the_runs_only_turns_the_difference_around(seed):
    first, second = (replace(runs.run(seed + n, model=str(n)), suite="") for n in range(2))
    there, back = compare(first, second=second).differences, compare(second, second=first).differences
    for one, other in zip(there, back):
        assert one.value == pytest.approx(-other.value) and one.p_value == pytest.approx(other.p_value)


def test_runs_of_one_model_are_told_apart():
    assert titles(runs.run(), runs.run(1)) == ("runs/one [1]", "runs/one [2]")
    assert titles(runs.run(model="a/b/c"), runs.run(model="d")) == ("b/c", "d")
