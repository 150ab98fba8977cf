import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from evaluation import runs
from lapis import cli_report
from lapis.evaluation import plots, results_file
from lapis.evaluation.figure import Figure
from lapis.evaluation.plots import Curve, Mark, Series, Span
from lapis.evaluation.published import published
from lapis.evaluation.report import gather
from lapis.evaluation.report_markdown import markdown
from lapis.evaluation.report_page import page
from lapis.evaluation.results import Measured

VOID = {"meta", "br"}


class Page(HTMLParser):
    """The tags of a page, and a complaint about each one that is closed out of turn."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def of(self, *names):
        return [(tag, attributes) for tag, attributes, _ in self.tags if tag in names]


@pytest.fixture(scope="module")
def report():
    return gather([runs.run(), runs.run(9, right=0.9, skill=9.0, model="runs/two")])


@pytest.fixture(scope="module")
def written(report):
    return page(report)


def test_the_page_asks_nothing_of_the_network_and_runs_no_script(written):
    read = Page(written)
    names = {name for _, attributes, _ in read.tags for name in attributes}
    assert not read.of("script", "link", "img", "iframe", "object", "form")
    assert not {name for name in names if name.startswith("on")} | names & {"src", "srcset", "xlink:href"}
    assert "url(" not in written and "@import" not in written
    policy = next(attributes for tag, attributes in read.of("meta") if "http-equiv" in attributes)
    assert policy["content"] == "default-src 'none'; style-src 'unsafe-inline'"


def test_the_page_can_be_read_by_all(written):
    read = Page(written)
    assert read.of("html")[0][1]["lang"] == "en" and len(read.of("h1")) == 1
    levels = [int(tag[1]) for tag, _ in read.of("h1", "h2", "h3")]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(attributes.get("scope") in ("row", "col", "rowgroup") for _, attributes in read.of("th"))
    drawn = [attributes for _, attributes in read.of("svg") if attributes.get("aria-hidden") != "true"]
    assert len(drawn) >= 4 and all(one["role"] == "img" and len(one["aria-label"]) > 20 for one in drawn)
    identities = [attributes["id"] for _, attributes, _ in read.tags if "id" in attributes]
    targets = {attributes["href"] for _, attributes in read.of("a")}
    assert len(set(identities)) == len(identities) and targets == {f"#{name}" for name in identities}
    assert all(one["aria-label"] for _, one in read.of("div") if one.get("class") == "wide")


def test_light_and_dark_name_the_same_colours():
    from importlib import resources

    style = resources.files("lapis.evaluation").joinpath("report.css").read_text(encoding="utf-8")
    light, dark = (set(re.findall(r"(--\w+):", part)) for part in style.split("* {")[0].split("@media"))
    assert light == dark and set(re.findall(r"var\((--\w+)\)", style)) <= light


def test_no_colour_stands_in_the_plots_themselves(written):
    drawn = re.findall(r"<svg.*?</svg>", written, flags=re.DOTALL)
    assert drawn and not any(re.search(r"#[0-9a-fA-F]{3}|rgb|fill=|stroke=", one) for one in drawn)


def test_names_of_classes_are_words_not_tags(written, report):
    assert "<whistle>" not in written and "bell &amp; &lt;whistle&gt;" in written
    assert "<whistle>" not in markdown(report)


def test_every_figure_has_its_interval_chance_and_prompts(written, report):
    words = " ".join(" ".join(Page(written).words).split())
    for run in report.runs:
        for measured in run.benchmarks.values():
            assert measured.protocol in words and measured.data_checksum[:12] in words
            assert all(str(figure) in words for figure in measured.figures.values())
    figure = report.runs[0].benchmarks["gtzan-zeroshot-1"].figures["accuracy"]
    assert f"{100 * figure.interval[0]:.1f}–{100 * figure.interval[1]:.1f}" in words and "33.3%" in words
    assert "bell & <whistle>: the sound of bell & <whistle> · bell & <whistle>" in words
    assert "seeds 1, 2" in words and "unreadable: 7: no sound" in words


def test_published_figures_stand_beside_ours_with_their_sources(report, written):
    (section,) = (one for one in report.sections if one.benchmark == "audiocaps-retrieval-1")
    rows = {row.metric: row for row in section.rows}
    expected = published(benchmark="audiocaps-retrieval", metric="R@1", direction="text to audio")
    assert rows["R@1 text to audio"].published == expected and expected
    assert not rows["mean rank text to audio"].published
    german = next(one for one in report.sections if "deu_Latn" in one.benchmark)
    assert german.rows[0].published == published(benchmark="esc50-zeroshot-deu_Latn", metric="accuracy")
    words, text = " ".join(" ".join(Page(written).words).split()), markdown(report)
    for one in expected:
        assert f"{one.model} {one.checkpoint}".strip() + f" {one.value:.1%}" in words
        assert one.source in words and one.source.replace("|", "\\|").replace("<", "&lt;") in text


def test_languages_never_given_to_training_stand_by_themselves(written, report):
    figures, never = written.split('id="figures"')[1].split('id="languages-never-given-to-training"')
    never = never.split("</section>")[0]
    assert "jpn_Jpan" in never and "deu_Latn" not in never and "esc50-zeroshot-jpn_Jpan-1" not in figures
    text = markdown(report)
    assert text.index("gtzan-zeroshot-1 | acc") < text.index("## Languages never") < text.index("jpn_Jpan-1 | acc")
    (languages,) = report.languages
    marks = dict(zip(languages.languages, languages.series[0].marks))
    assert {name: mark.hollow for name, mark in marks.items()} == {
        "eng_Latn": False, "deu_Latn": False, "jpn_Jpan": True
    }  # fmt: skip
    values = [mark.value for mark in languages.series[0].marks]
    assert values == sorted(values, reverse=True)


def test_languages_within_one_benchmark_are_drawn_too():
    each = {"deu_Latn": 0.4, "pol_Latn": 0.9}
    one = Measured(
        protocol="p",
        figures={"accuracy": Figure(0.65)} | {f"accuracy {name}": Figure(value) for name, value in each.items()},
        data_checksum="",
        num_clips=9,
    )
    report = gather([replace(runs.run(), benchmarks={"mswc-kws-1": one, "mswc-kws-2": one})])
    assert [languages.family for languages in report.languages] == ["mswc-kws-1", "mswc-kws-2"]
    assert report.languages[0].languages == ("pol_Latn", "deu_Latn")
    assert report.languages[0].metric == "accuracy by language"


def test_a_benchmark_with_other_prompts_has_the_published_figures_of_its_kin():
    expected = published(benchmark="esc50-zeroshot", metric="accuracy")
    german = published(benchmark="esc50-zeroshot-deu_Latn", metric="accuracy")
    one = runs.zeroshot(0, right=0.5)
    names = ("esc50-zeroshot-glap-1", "esc50-zeroshot-glap-deu_Latn-3", "pool-esc50-zeroshot-1", "esc50-1")
    found = gather([replace(runs.run(), benchmarks=dict.fromkeys(names, one))])
    assert [section.rows[0].published for section in found.sections] == [expected, german, (), ()]


def test_the_radar_has_the_means_of_the_main_figures(report):
    assert report.radar.places == ("music, zeroshot (1)", "sound, retrieval (1)", "sound, zeroshot (3)")
    sound = [run for name, run in report.runs[1].benchmarks.items() if name.startswith("esc50")]
    expected = np.mean([one.figures["accuracy"].value for one in sound])
    assert report.radar.series[1].marks[2].value == pytest.approx(expected)
    assert [one.name for one in report.radar.series] == ["runs/one", "runs/two", "chance"]
    few = replace(report.runs[0], benchmarks={"esc50-zeroshot-1": report.runs[0].benchmarks["esc50-zeroshot-1"]})
    assert gather([few]).radar is None


def test_recall_curves_go_through_the_measured_recall(report):
    (forth, back) = report.recalls
    assert (forth.direction, back.direction) == ("text to audio", "audio to text")
    measured = report.runs[0].benchmarks["audiocaps-retrieval-1"]
    curve = dict(forth.curves[0].points)
    assert all(curve[depth] == measured.figures[f"R@{depth:g} text to audio"].value for depth in (1.0, 5.0))
    assert forth.curves[-1].name == "chance" and max(curve) == 40 and curve[40.0] == 1.0
    short = replace(measured, items={}, groups={})
    (few, _) = gather([replace(report.runs[0], benchmarks={"audiocaps-retrieval-1": short})]).recalls
    assert [point[0] for point in few.curves[0].points] == [1.0, 5.0]


def test_a_confusion_of_many_classes_is_a_list(report):
    counts = np.eye(60, dtype=int) * 3
    counts[4, 7] = 2
    names = [f"class {number}" for number in range(60)]
    one = replace(
        report.runs[0].benchmarks["gtzan-zeroshot-1"], details={"confusion": counts.tolist(), "classes": names}
    )
    text = page(gather([replace(report.runs[0], benchmarks={"gtzan-zeroshot-1": one})]))
    assert "180 of 182 right" in text and re.search(r"class 4</th><td[^>]*>class 7</td><td[^>]*>2 of 5<", text)


def test_runs_of_other_data_are_reported_and_not_compared(report):
    first, second = report.runs
    changed = replace(second.benchmarks["gtzan-zeroshot-1"], data_checksum="0" * 64)
    found = gather([first, replace(second, benchmarks=second.benchmarks | {"gtzan-zeroshot-1": changed})])
    (said,) = found.comparisons
    assert "clips differ" in said and said in page(found).replace("&#x27;", "'") and said in markdown(found)


def test_what_is_not_there_is_said(report):
    first, second = report.runs
    gtzan = replace(first.benchmarks["gtzan-zeroshot-1"], details={"incomplete": "3 clips are away"})
    absent = {"mswc-kws-1": "get it from <there>", "esc50-zeroshot-1": "this run has not"}
    found = gather(
        [replace(first, benchmarks=first.benchmarks | {"gtzan-zeroshot-1": gtzan}), replace(second, absent=absent)]
    )
    for text in (page(found), markdown(found)):
        assert "3 clips are away" in text and "mswc-kws-1" in text and "get it from &lt;there" in text
        assert "this run has not" not in text and "Not measured" in text


def test_markdown_tables_are_whole(report):
    lines = markdown(report).splitlines()
    before, tables = 0, 0
    for line in lines:
        columns = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        assert not (before and columns) or columns == before
        tables += columns > 0 and not before
        before = columns
    assert tables >= 5
    headings = [line for line in lines if line.startswith("## ")]
    assert headings[0] == "## Figures" and headings[-1] == "## Sources of the published figures"


def test_no_run_is_an_error():
    for nothing in ([], [replace(runs.run(), benchmarks={})]):
        with pytest.raises(ValueError, match="expected the results of at least one run"):
            gather(nothing)


def test_a_plot_of_nothing_much_is_drawn():
    """Values at the ends of an axis, gaps, and differences of zero."""
    gaps = [Series("a", [Mark(0.0), None]), Series("b", [Mark(1.0, (1.0, 1.0)), Mark(0.5)])]
    drawn = [
        plots.bars(["x", "y"], series=gaps, title="t"),
        plots.bars(["x"], series=[Series("a", [Mark(12.5, (3.0, 40.0))])], title="t", unit="rank"),
        plots.radar(["x", "y", "z"], series=[Series("a", [Mark(1.0), None, Mark(-0.2)])], title="t"),
        plots.radar(["x", "y", "z"], series=[Series("a", [Mark(0.2), None, Mark(0.0)])], title="t"),
        plots.curves([Curve("a", [(1.0, 0.5)])], title="t", x_name="k"),
        plots.spans([Span("x", 0.0, (0.0, 0.0), None, "same")], title="t", below="a", above="b"),
        plots.spans([Span("x", -1.0, None, 0, "a")], title="t", below="a", above="b"),
    ]
    for text in drawn:
        assert "nan" not in text and "inf" not in text
        numbers = [float(number) for number in re.findall(r'(?:x|y|cx|cy|width)="(-?[\d.]+)"', text)]
        width, height = map(float, re.search(r'viewBox="0 0 (\d+) (\d+)"', text).groups())
        assert all(-1 <= number <= max(width, height) + 1 for number in numbers)
        Page(text)


@pytest.fixture
def files(tmp_path, report):
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for run, path in zip(report.runs, paths):
        results_file.write(run, path)
    return paths


def test_the_command_writes_what_the_ending_asks_for(files, tmp_path, capsys, report):
    for name, expected in (("r.html", page(report)), ("r.md", markdown(report))):
        cli_report.report(files, out=tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8") == expected
        assert capsys.readouterr().out.strip() == str(tmp_path / name)
    with pytest.raises(ValueError, match=r"expected --out to end in .html or .md, got .*r.pdf"):
        cli_report.report(files, out=tmp_path / "r.pdf")


def test_the_command_compare_says_who_is_better(files, capsys):
    cli_report.compare(*files)
    told = capsys.readouterr().out
    assert "runs/two is better" in told and "esc50-zeroshot-jpn_Jpan-1" in told and "Not told apart does not" in told
    cli_report.compare(*files, only=("gtzan-*",), json=True)
    assert capsys.readouterr().out.count('"verdict"') == 1
