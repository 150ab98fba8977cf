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
from lapis.evaluation.published import MARKS, published
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


def test_a_benchmark_has_the_published_figures_that_its_line_names_and_no_other():
    expected = published(benchmark="esc50-zeroshot", metric="accuracy")
    german = published(benchmark="esc50-zeroshot-deu_Latn", metric="accuracy")
    one = runs.zeroshot(0, right=0.5)
    names = ("esc50-zeroshot-glap-1", "esc50-zeroshot-deu_Latn-1", "esc50-zeroshot-ensemble-1", "esc50-zeroshot-9")
    found = gather([replace(runs.run(), benchmarks=dict.fromkeys(names, one))])
    assert [section.rows[0].published for section in found.sections] == [expected, german, (), ()]


def test_sources_say_how_sure_of_which_split_and_in_what_setting(report, written):
    words, text = " ".join(" ".join(Page(written).words).split()), markdown(report)
    assert not any(f"({mark})" in text or f"({mark})" in words for mark in MARKS)
    for one in published(benchmark="audiocaps-retrieval", metric="R@1", direction="text to audio"):
        how = f"{MARKS[one.mark].level}: {MARKS[one.mark].meaning}. Protocol: split test"
        how += f", {one.setting}; {one.protocol}" if one.setting else f"; {one.protocol}"
        assert how in words and f"{one.source}: {how}" in text
    assert "Protocol: the split is not named, zero-shot; " in text


def test_the_radar_has_the_means_of_the_main_figures(report):
    assert report.radar.places == ("music, zeroshot (1)", "sound, retrieval (1)", "sound, zeroshot (3)")
    sound = [run for name, run in report.runs[1].benchmarks.items() if name.startswith("esc50")]
    expected = np.mean([one.figures["accuracy"].value for one in sound])
    assert report.radar.series[1].marks[2].value == pytest.approx(expected)
    assert [one.name for one in report.radar.series] == ["runs/one", "runs/two", "chance"]
    few = replace(report.runs[0], benchmarks={"esc50-zeroshot-1": report.runs[0].benchmarks["esc50-zeroshot-1"]})
    assert gather([few]).radar is None


def test_lines_as_released_and_variants_of_a_line_are_not_in_the_radar(report):
    run = report.runs[0]
    good, lucky = run.benchmarks["esc50-zeroshot-1"], runs.zeroshot(3, right=1.0)
    variants = ("esc50-zeroshot-glap-1", "esc50-zeroshot-ensemble-1", "esc50-zeroshot-glap-deu_Latn-1")
    linear = {"esc50-linear-as-released-1": lucky}
    more = run.benchmarks | dict.fromkeys(variants, lucky) | linear
    found = gather([replace(run, benchmarks=more)])
    assert found.radar.places == report.radar.places
    assert [one.value for one in found.radar.series[0].marks] == [one.value for one in report.radar.series[0].marks]
    more = run.benchmarks | linear | {"urbansound8k-zeroshot-glap-1": lucky, "mswc-kws-roh_Latn-vallader-1": good}
    places = gather([replace(run, benchmarks=more)]).radar.places
    assert "sound, zeroshot (4)" in places and "sound, kws (1)" in places and not any("linear" in one for one in places)


def test_the_polygon_of_a_radar_breaks_where_nothing_is_known():
    def drawn(*values):
        marks = [None if value is None else Mark(value) for value in values]
        return plots.radar(["x", "y", "z", "w"], series=[Series("a", marks)], title="t")

    whole, broken = drawn(1.0, 0.6, 0.8, 0.7), drawn(1.0, None, 0.8, 0.7)
    assert 'class="s0 area"' in whole and whole.count("<circle") == 4
    assert 'class="s0 area"' not in broken and broken.count("<circle") == 3 and "y, a" not in broken
    assert len(re.findall(r'<path class="s0 line"[^>]*d="M[^"]+L[^"]+"', broken)) == 2
    assert "350.0,195.0L" not in "".join(re.findall(r'<path class="s0 line".*', broken))  # the middle is no value


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


def _with(run, **changes):
    changed = replace(run.benchmarks["gtzan-zeroshot-1"], **changes)
    return replace(run, benchmarks=run.benchmarks | {"gtzan-zeroshot-1": changed})


def test_runs_of_other_data_are_reported_and_not_compared(report):
    found = gather([report.runs[0], _with(report.runs[1], data_checksum="0" * 64)])
    (compared,) = found.comparisons
    assert "clips differ" in compared.left_out["gtzan-zeroshot-1"] and len(compared.differences) == 9
    for text in (page(found).replace("&#x27;", "'"), markdown(found)):
        assert compared.left_out["gtzan-zeroshot-1"] in text and text.count("the runs measured other clips") >= 1
        assert "the runs measured other clips" not in markdown(report) + page(report)
    assert "| gtzan-zeroshot-1 (the runs measured other clips) | accuracy |" in markdown(found)
    assert "esc50-zeroshot-1 (the runs" not in markdown(found)
    alone = [replace(run, benchmarks={"gtzan-zeroshot-1": run.benchmarks["gtzan-zeroshot-1"]}) for run in found.runs]
    (said,) = gather(alone).comparisons
    assert "nothing to compare" in said and said in markdown(gather(alone))


def test_what_is_special_about_the_second_run_is_said_with_its_name(report):
    first, second = report.runs
    changes = {"protocol": "Counted otherwise.", "prompts": {"dog": ["a hound"]}, "chosen": "Layer 2 of 3."}
    found = gather([first, _with(second, details={"incomplete": "3 clips are away"}, unreadable=(), **changes)])
    for text in (page(found), markdown(found)):
        assert "runs/two: Counted otherwise." in text and "runs/one: Zero-shot classification of 40 clips" in text
        assert "Prompts of runs/two" in text and "Prompts of runs/one" in text and "dog: a hound" in text
        assert "runs/two: 3 clips are away" in text and "Layer 2 of 3;" in text
    assert "not all clips there" in page(found) and "not all clips there" not in page(report)
    assert "Prompts of" not in markdown(report) + page(report)


def test_what_is_not_there_is_said(report):
    first, second = report.runs
    first = _with(first, details={"incomplete": "3 clips are away"})
    absent = {"mswc-kws-1": "get it from <there>", "esc50-zeroshot-1": "this run has it"}
    only_one = {name: one for name, one in second.benchmarks.items() if name != "gtzan-zeroshot-1"}
    second = replace(second, benchmarks=only_one, absent=absent | {"gtzan-zeroshot-1": "no music here"})
    found = gather(
        [
            replace(first, absent=first.absent | {"both-1": "none"}),
            replace(second, absent=second.absent | {"both-1": "none"}),
        ]
    )
    for text in (page(found), markdown(found)):
        assert "3 clips are away" in text and "mswc-kws-1, runs/one" in text and "get it from &lt;there" in text
        assert "gtzan-zeroshot-1, runs/two" in text and "no music here" in text
        assert "this run has it" not in text and "Not measured" in text and "both-1, " not in text and "both-1" in text


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
