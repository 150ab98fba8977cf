"""The table of published figures: every row has a source, values are possible, nothing stands there twice."""

import csv
import re
from collections import Counter
from itertools import pairwise
from typing import get_args

import pytest

from lapis import datasets
from lapis.datasets.languages import CODES
from lapis.evaluation import published as module
from lapis.evaluation.published import (
    LANGUAGE,
    MARKS,
    METRICS,
    Direction,
    Level,
    benchmarks,
    conflicts,
    figures,
    published,
)

SYSTEMS = ("GLAP", "SLAP", "M2D-CLAP")


@pytest.fixture(scope="module")
def lines(root):
    text = (root / "src" / "lapis" / "evaluation" / "published.csv").read_text(encoding="utf-8")
    return list(csv.reader(text.splitlines()))


def test_every_row_is_whole(lines):
    assert {len(line) for line in lines} == {len(lines[0])}
    assert not [line for line in lines for cell in line if cell != cell.strip()]
    assert len(figures()) == len(lines) - 1 > 600


ARTICLE = r"^arXiv:\d{4}\.\d{5}"
NAME = r"[\w.-]+/[\w.-]+"
FORMS = {
    "an article and where in it": ARTICLE + r"\b.*\b([Tt]ables? (\d|of )|abstract)",
    "an article that others tell of": ARTICLE
    + r"( v\d)?( \([^)]+\))?( or the model's own paper)?, (read (second-hand|in a)|extracted by|from memory)",
    "a file, figure or table of a repository": r"\b([\w/-]+\.(md|png|ipynb)|README) of "
    + NAME
    + r"|^HEAR table of \w+ \("
    + NAME
    + r"\)$",
    "a repository of results on a day": "^" + NAME + r" at \d{4}-\d\d-\d\d$",
    "a card": "^model card of " + NAME,
}
WITHOUT_AN_ADDRESS = {
    "OpenCodePapers dump of leaderboards": 8,
    "a third party's note on FIGMA in a public repository": 4,
    "a third party's notebook in a public repository, one run of both models": 4,
    "arXiv:2604.18360 (Omni-Embed-Audio)": 5,
    "b4ph/clap-retrieval-benchmark": 4,
    "codesota, an aggregator": 1,
    "model card of fusion-embedding": 9,
    "name of the AudioSetCaps checkpoint file on its hub page": 4,
    "repository and paper of Cacophony (gzhu06/Cacophony)": 15,
}
"""Sources that nobody noted to the page, and how many figures have them: no more may come."""


def _forms(source):
    return [name for name, pattern in FORMS.items() if re.search(pattern, source)]


def test_every_figure_has_a_source_that_can_be_looked_up():
    told = {figure.source: _forms(figure.source) for figure in figures()}
    loose = Counter(figure.source for figure in figures() if not told[figure.source])
    assert loose == WITHOUT_AN_ADDRESS
    assert set(FORMS) == {name for names in told.values() for name in names}
    for figure in figures():
        assert figure.level != "memory" or "not checked" in figure.protocol
        if told[figure.source] == ["an article that others tell of"]:
            assert figure.level != "read", figure


@pytest.mark.parametrize(
    "source", ["a/b", "n/a", "the paper", "arXiv:2506.11350", "a repository", "README", "blog/post"]
)
def test_a_vague_source_has_none_of_the_forms(source):
    assert not _forms(source)


def test_a_row_without_a_source_is_refused(monkeypatch, lines):
    header, row = lines[0], dict(zip(lines[0], lines[1]))
    for field in ("source", "protocol", "mark", "benchmark", "model", "metric", "value"):
        monkeypatch.setattr(module, "_rows", lambda name, field=field: [row, row | {field: " "}])
        benchmarks_before = benchmarks()
        with pytest.raises(ValueError, match=rf"published\.csv, line 3: expected a {field}, there is none"):
            figures.__wrapped__()
        assert benchmarks() is benchmarks_before and field in header


def test_a_row_with_something_unknown_is_refused(monkeypatch, lines):
    row = dict(zip(lines[0], lines[1]))
    for change, reason in (
        ({"benchmark": "esc5-zeroshot"}, "no benchmark 'esc5-zeroshot', did you mean 'esc50-zeroshot'"),
        ({"metric": "R@2"}, "line 2: no metric 'R@2'"),
        ({"mark": "glap:Q"}, "line 2: no mark 'glap:Q'"),
        ({"value": "101"}, "line 2: expected percent within 0 to 100, got 101"),
        ({"value": "-1"}, "line 2: expected percent within 0 to 100, got -1"),
        ({"value": "nan"}, "line 2: expected percent within 0 to 100, got nan"),
        ({"value": "ca. 4"}, "line 2: expected a number in percent, got 'ca. 4'"),
    ):
        monkeypatch.setattr(module, "_rows", lambda name, change=change: [row | change])
        with pytest.raises(ValueError, match=reason):
            figures.__wrapped__()
    monkeypatch.setattr(module, "_rows", lambda name: [row | {"metric": "CIDEr", "value": "120"}])
    assert figures.__wrapped__()[0].value == 1.2


def test_values_are_possible():
    for figure in figures():
        assert 0 <= figure.value <= 1 and abs(figure.value * 100 - float(figure.printed)) < 1e-9
        assert figure.interval is None or 0 < figure.interval < 0.1
        assert figure.direction in get_args(Direction) and figure.level in get_args(Level)
        assert (figure.direction != "") == figure.benchmark.endswith("retrieval"), figure


def test_deeper_recall_is_not_lower():
    found = {}
    for figure in figures():
        if figure.metric.startswith("R@"):
            key = (figure.benchmark, figure.model, figure.checkpoint, figure.setting, figure.direction, figure.source)
            found.setdefault(key, []).append((int(figure.metric[2:]), figure.value))
    deep = [sorted(pairs) for pairs in found.values() if len(pairs) > 1]
    assert len(deep) > 10
    assert all(low[1] <= high[1] for pairs in deep for low, high in pairwise(pairs))


def test_nothing_stands_there_twice(lines):
    assert not [row for row, count in Counter(map(tuple, lines)).items() if count > 1]
    names = [(f.benchmark, f.model, f.checkpoint, f.split, f.setting, f.metric, f.direction, f.source, f.protocol)
             for f in figures()]  # fmt: skip
    assert not [name for name, count in Counter(names).items() if count > 1]


def test_metrics_marks_and_benchmarks_are_known_and_used():
    assert {figure.metric for figure in figures()} == set(METRICS)
    assert {figure.mark for figure in figures()} == set(MARKS)
    named = {LANGUAGE.sub("", figure.benchmark) for figure in figures()}
    assert set(benchmarks()) - named == {"mswc-kws"}  # 50 figures that nobody has read off yet
    for known in benchmarks().values():
        assert known.dataset in ("", *datasets.names()) and known.task and known.about
    codes = {match[0][1:] for figure in figures() if (match := LANGUAGE.search(figure.benchmark))}
    assert codes == {"deu_Latn", "zho_Hans", "jpn_Jpan", "rus_Cyrl"} and codes < set(CODES.values())


def test_the_three_systems_have_the_figures_that_their_papers_are_known_for():
    for benchmark, model, metric, direction, value in (
        ("audiocaps-retrieval", "GLAP", "R@1", "text to audio", 0.417),
        ("audiocaps-retrieval", "SLAP", "R@1", "audio to text", 0.634),
        ("clotho-retrieval", "SLAP", "R@1", "text to audio", 0.272),
        ("esc50-zeroshot", "SLAP", "accuracy", "", 0.955),
        ("esc50-zeroshot", "M2D-CLAP", "accuracy", "", 0.943),
        ("esc50-zeroshot-rus_Cyrl", "GLAP", "accuracy", "", 0.621),
        ("gtzan-zeroshot", "M2D-CLAP", "accuracy", "", 0.7517),
        ("audioset-2m-finetune", "M2D-CLAP", "mAP", "", 0.49),
        ("audiocaps-captioning", "SLAP", "CIDEr", "", 0.751),
        ("librispeech-retrieval", "GLAP", "R@1", "text to audio", 0.938),
    ):
        found = published(benchmark=benchmark, model=model, metric=metric, direction=direction)
        assert value in {figure.value for figure in found}, benchmark
    assert all(len(published(model=model)) > 25 for model in SYSTEMS)
    (surge,) = published(benchmark="surge-linear", model="M2D-CLAP")
    assert (surge.printed, surge.interval, surge.checkpoint) == ("42.4", 0.006, "2024")


def test_figures_that_contradict_each_other_are_kept_side_by_side():
    """One public checkpoint has two figures on AudioCaps by two protocols, and its paper's other variant a third."""
    found = published(benchmark="audiocaps-retrieval", metric="R@1", model="LAION-CLAP", direction="text to audio")
    assert {0.302, 0.334, 0.361} <= {figure.value for figure in found}
    disputed = {
        (group[0].benchmark, group[0].model, group[0].checkpoint, group[0].metric, group[0].direction): sorted(
            {figure.value for figure in group}
        )
        for group in conflicts()
    }
    public = ("audiocaps-retrieval", "LAION-CLAP", "laion/clap-htsat-unfused", "R@1")
    assert disputed[*public, "text to audio"] == [0.302, 0.334]
    assert disputed[*public, "audio to text"] == [0.347, 0.414]
    assert disputed["clotho-retrieval", "GLAP", "", "R@1", "audio to text"] == [0.218, 0.229]
    assert disputed["gtzan-zeroshot", "GLAP", "", "accuracy", ""] == [0.696, 0.752]
    assert disputed["librispeech-retrieval", "GLAP", "", "R@1", "audio to text"] == [0.918, 0.948]
    assert ("gtzan-zeroshot", "M2D-CLAP", "2025", "accuracy", "") not in disputed  # 79.3 and 79.31 are one figure
    assert conflicts(published(benchmark="surge-linear")) == ()


def test_training_data_that_was_seen_is_told():
    seen = {(figure.benchmark, figure.model) for figure in figures() if figure.seen}
    assert ("fsd50k-zeroshot", "LAION-CLAP") in seen and ("fsd50k-zeroshot", "M2D-CLAP") not in seen


def test_what_is_not_there_is_said():
    assert published(benchmark="mswc-kws-deu_Latn") == ()
    with pytest.raises(ValueError, match=r"no benchmark 'esc50-zeroshott', did you mean 'esc50-zeroshot'\?"):
        published(benchmark="esc50-zeroshott")
    with pytest.raises(ValueError, match=r"no metric 'R@11', did you mean 'R@1"):
        published(metric="R@11")
    with pytest.raises(ValueError, match=r"no figure of a model 'GLAPP', did you mean 'GLAP'\?"):
        published(model="GLAPP")


def test_the_page_counts_what_is_there(root):
    text = (root / "docs" / "evaluation.md").read_text(encoding="utf-8")
    levels = Counter(figure.level for figure in figures())
    assert f"{len(figures())} of them" in text and f"{len(conflicts())} groups" in text
    for level, words in (("read", "were **read**"), ("second-hand", "are\n**second-hand**"), ("memory", "come from")):
        assert f"{levels[level]} {words}" in text, level
    for level in ("computed", "digitised"):
        assert re.search(rf"\b{levels[level]} (were )?\*\*{level}\*\*", text), level
    assert f"{levels['third party']} measured by **third parties**" in text
