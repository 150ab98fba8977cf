"""What a report tells of reliability, disturbances, localisation and captions, on the page and in Markdown."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from test_report import Page

from evaluation import runs
from lapis.evaluation import plots
from lapis.evaluation.figure import Figure
from lapis.evaluation.plots import Curve, Mark, Series
from lapis.evaluation.report import gather
from lapis.evaluation.report_markdown import markdown
from lapis.evaluation.report_page import page
from lapis.evaluation.results import Measured


def measured(figures, details, *, unit="error") -> Measured:
    return Measured(
        protocol="p",
        figures={name: Figure(value, None, None, unit) for name, value in figures.items()},
        data_checksum="ab",
        num_clips=9,
        domain="sound",
        details=details,
    )


def reliability(ece):
    baselines = {name: {"ECE": 0.2, "Brier score": 0.3, "log loss": 0.4} for name in ("cosine as probability", "share")}
    points = [(0.0004, 0.0, 500), (0.01, 0.02, 501), (0.31, 0.24, 499)]
    bins = [dict(zip(("probability", "matching", "count"), point)) for point in points]
    counts = {"num_texts": 30, "num_clips": 50, "num_matches": 77}
    of = {"bins": bins, "baselines": baselines, "error_if_perfect": 0.0011, **counts}
    return measured({"ECE": ece, "Brier score": 0.02, "log loss": 0.1}, of)


def robust(moved):
    figures = {
        "cosine after noise at 10 dB": Figure(moved, 0.1, (moved - 0.05, moved + 0.05), "score"),
        "cosine after Opus at 24 kbit/s": Figure(0.99, 0.1, None, "score"),
        "accuracy": Figure(0.6, 0.1),
        "accuracy lost by noise at 10 dB": Figure(0.137, None, (0.1, 0.2), "lost share"),
        "accuracy lost by Opus at 24 kbit/s": Figure(-0.012, None, None, "lost share"),
    }
    return replace(measured({}, {}), figures=figures)


def localised(f1):
    figures = {"event F1": f1, "segment F1": 0.5, "PSDS1": 0.123, "PSDS2": 0.3, "AUROC": 0.9}
    classes = ["dog <b>", "click"]
    of = {"classes": classes, "event_f1": {"dog <b>": f1, "click": 0.0}, "areas": {"dog <b>": 0.875}}
    return measured(figures, of | {"segment_f1": dict.fromkeys(classes, 0.5)}, unit="share")


def captioned(said):
    scores = {"cider_d": 0.0125, "rouge_l": 0.25}
    worst = [
        {"key": f"clip{number}", "caption": said, "references": ["a dog | barks", "<i>loud</i>"], "scores": scores}
        for number in range(10)
    ]
    return measured({"CIDEr": 0.4}, {"worst": worst, "clips": worst}, unit="score")


@pytest.fixture(scope="module")
def report():
    first = {
        "x-reliability-1": reliability(0.0371),
        "x-robustness-1": robust(0.5),
        "x-localisation-1": localised(0.25),
        "x-captioning-1": captioned("a cat"),
    }
    second = first | {"x-reliability-1": reliability(0.0042), "x-captioning-1": captioned("")}
    one, two = runs.run(), runs.run(9, model="runs/two")
    return gather([replace(one, benchmarks=first), replace(two, benchmarks=second)])


@pytest.fixture(scope="module")
def written(report):
    return page(report)


def test_each_kind_has_its_chapter(report, written):
    kinds = ["Reliability", "Disturbances", "Localisation", "Captions"]
    assert [one.kind for one in report.details] == kinds
    text, read = markdown(report), Page(written)
    headings = [attributes.get("id") for _, attributes in read.of("h2")]
    assert [name for name in headings if name in map(str.lower, kinds)] == list(map(str.lower, kinds))
    assert re.findall(r"^## (\w+): x-", text, flags=re.MULTILINE) == kinds
    levels = [int(tag[1]) for tag, _ in read.of("h1", "h2", "h3")]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    drawn = [attributes for _, attributes in read.of("svg") if attributes.get("aria-hidden") != "true"]
    assert len(drawn) >= 3 and all(one["role"] == "img" and len(one["aria-label"]) > 20 for one in drawn)


def test_reliability_stands_beside_other_ways_with_its_counts(written, report):
    words, text = " ".join(" ".join(Page(written).words).split()), markdown(report)
    expected = (
        "0.0371",
        "0.0042",
        "cosine as probability",
        "0.0011",
        "31.000%",
        "24.000%",
        "501",
        "77 of 30 captions",
    )
    for told in expected:
        assert told in words and told in text, told
    (diagram,) = re.findall(r'<svg[^>]*aria-label="Reliability diagram.*?</svg>', written, flags=re.DOTALL)
    assert diagram.count("<circle") == 6 and diagram.count('class="hollow"') == 2
    assert "runs/two: of pairs called 31.00% probable 24.00% came true" in diagram


def test_a_bar_stands_for_each_disturbance(written, report):
    (detail,) = (one for one in report.details if one.kind == "Disturbances")
    cosine, lost = detail.charts
    assert cosine.places == lost.places == ("noise at 10 dB", "Opus at 24 kbit/s")
    assert (cosine.unit, lost.unit) == ("score", "lost share") and lost.name == "accuracy lost"
    assert [mark.value for mark in cosine.series[1].marks] == [0.5, 0.99]
    assert detail.tables[0].rows[0] == ("noise at 10 dB", "0.500", "0.500", "13.7%", "13.7%")
    assert "noise at 10 dB, runs/one: 13.7% (10.0% to 20.0%)" in written and "-1.2%" in written


def test_localisation_has_a_table_of_its_figures_and_classes(report, written):
    (detail,) = (one for one in report.details if one.kind == "Localisation")
    whole, classes = detail.tables
    assert ("PSDS1", "12.3%", "12.3%") in whole.rows and ("event F1", "25.0%", "25.0%") in whole.rows
    assert classes.rows[1] == ("click", "0.0%", "0.0%", "50.0%", "50.0%", "–", "–")
    assert "dog &lt;b&gt;" in written and "dog &lt;b" in markdown(report)


def test_the_ten_worst_captions_stand_with_what_people_wrote(report, written):
    (detail,) = (one for one in report.details if one.kind == "Captions")
    assert [len(one.rows) for one in detail.tables] == [10, 10]
    assert detail.tables[0].rows[3] == ("clip3", "a cat", "a dog | barks · <i>loud</i>", "0.013", "0.250")
    assert detail.tables[1].rows[0][1] == "(nothing)"
    assert "<i>loud" not in written and "a dog \\| barks" in markdown(report)


def test_a_run_without_them_has_none(report):
    assert not gather([runs.run()]).details
    only = replace(report.runs[1], benchmarks={"x-captioning-1": report.runs[1].benchmarks["x-captioning-1"]})
    mixed = gather([runs.run(), only])
    assert [len(one.tables) for one in mixed.details] == [1] and "runs/two: the 10 worst" in markdown(mixed)


def test_a_robust_benchmark_that_one_run_lacks_is_drawn_for_the_other(report):
    mixed = gather([runs.run(), report.runs[1]])
    (detail,) = (one for one in mixed.details if one.kind == "Disturbances")
    assert detail.charts[0].series[0].marks == [None, None]
    assert detail.tables[0].rows[0] == ("noise at 10 dB", "–", "0.500", "–", "13.7%")
    Page(page(mixed))


def test_the_radar_knows_no_chance_where_none_is_told(report):
    found = gather([replace(runs.run(), benchmarks=runs.run().benchmarks | {"x-localisation-1": localised(0.2)})])
    marks = dict(zip(found.radar.places, found.radar.series[-1].marks))
    assert found.radar.series[-1].name == "chance" and marks["sound, localisation (1)"] is None
    assert marks["sound, zeroshot (3)"].value == pytest.approx(1 / 3)


@pytest.mark.parametrize("points", [[(0.0, 0.0)], [(1.0, 1.0)], [(1e-9, 0.5), (0.5, 1e-9)], [(0.2, 0.0), (0.9, 1.0)]])
def test_a_reliability_diagram_stays_within_its_frame(points):
    drawn = plots.reliability([Curve("a", points)], title="t")
    Page(drawn)
    numbers = [float(number) for number in re.findall(r'c[xy]="(-?[\d.]+)"', drawn)]
    assert len(numbers) == 2 * len(points) and all(0 <= number <= 410 for number in numbers)
    assert "nan" not in drawn and "inf" not in drawn


def test_a_perfect_calibration_lies_on_the_diagonal():
    said = [(share, share) for share in np.geomspace(1e-3, 1, 7).tolist()]
    drawn = plots.reliability([Curve("a", said)], title="t")
    ends = re.search(r'class="chance" d="M(\S+) (\S+)L(\S+) (\S+)"', drawn).groups()
    left, bottom, right, top = map(float, ends)
    for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn):
        assert (float(x) - left) / (right - left) == pytest.approx((bottom - float(y)) / (bottom - top), abs=1e-3)


def test_a_bar_below_zero_goes_to_the_left():
    marks = [Mark(0.4, (0.3, 0.5)), Mark(-0.11, (-0.2, 0.1)), Mark(0.0)]
    drawn = plots.bars(["a", "b", "c"], series=[Series("one", marks)], title="t", unit="lost share")
    bars = [
        tuple(map(float, bar)) for bar in re.findall(r'<rect class="s0" x="([\d.]+)" y="\d+" width="([\d.]+)"', drawn)
    ]
    zero = bars[0][0]
    assert bars[1][0] + bars[1][1] == pytest.approx(zero, abs=0.2) and bars[2] == (zero, 1.0)
    assert bars[1][1] / bars[0][1] == pytest.approx(0.11 / 0.4, abs=0.01)
    low, high = map(float, re.findall(r'class="whisker" d="M([\d.]+) [\d.]+H([\d.]+)"', drawn)[1])
    assert low < bars[1][0] < zero < high and "-20%<" in drawn
