"""`lapis evaluate` of a model with all that may lie beside its weights: a decoder of captions, and a calibration."""

import json

import pytest
import torch

import lapis.cli
import tiny
from lapis import saved
from lapis.captioner import Captioner
from lapis.datasets.pocket import Pocket
from lapis.evaluation import suite
from lapis.evaluation.benchmark import Benchmark
from lapis.evaluation.captioning import Captioning
from lapis.evaluation.captions.scores import CaptionScoring
from lapis.evaluation.part import Part
from lapis.evaluation.results_file import read
from lapis.evaluation.subject import Subject
from lapis.evaluation.suite import SUITES
from lapis.objectives.caption import Caption


def lapis_(*arguments, capsys):
    """The command in this process, whose tests know the tower's class."""
    with pytest.raises(SystemExit) as ended:
        lapis.cli.app([str(argument) for argument in arguments])
    assert not ended.value.code
    return capsys.readouterr().out


@pytest.fixture
def line(monkeypatch):
    """German, as METEOR's table for English takes seconds to read."""
    protocol = Captioning(CaptionScoring(language="deu_Latn"), beam=1, max_tokens=4)
    source = Part(Pocket("val", "music"), 12)
    heard = Benchmark("heard-1", source, SUITES["pocket"][1].protocol)
    monkeypatch.setitem(SUITES, "pocket", (heard, Benchmark("said-1", source, protocol)))


def test_a_model_with_a_decoder_of_captions_is_measured_by_them(line, tmp_path, capsys):
    model, config = tiny.model(), Caption.Config(width=32, depth=1, heads=2, hidden=32, max_tokens=8)
    torch.manual_seed(1)
    captioner = Captioner(model, config=config, decoder=config.build(model).decoder)
    saved.save(model, tmp_path / "model", captioner=captioner)
    said = lapis_("evaluate", tmp_path / "model", "--out", tmp_path / "run.json", "--no-cache", capsys=capsys)
    assert "ROUGE-L" in said and "a beam of 1, at most 4 tokens" in said and "not measured" not in said
    written = json.loads((tmp_path / "run.json").read_text())["benchmarks"]["said-1"]
    assert len(written["details"]["worst"]) == 10 and written["details"]["worst"][0]["references"]
    lapis_("report", tmp_path / "run.json", "--out", tmp_path / "run.md", capsys=capsys)
    assert "## Captions: said-1" in (tmp_path / "run.md").read_text()


def test_a_model_without_one_is_told_so(line, tmp_path, capsys):
    saved.save(tiny.model(), tmp_path / "model")
    said = lapis_("evaluate", tmp_path / "model", "--no-cache", capsys=capsys)
    assert "not measured: said-1: not for this model: no decoder of captions lies beside it" in said


def test_a_place_that_cannot_be_written_is_told_before_anything_is_measured(line, tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "run_suite", lambda *given, **named: pytest.fail("it was measured"))
    saved.save(tiny.model(), tmp_path / "model")
    (tmp_path / "file").touch()
    for out, reason in ((tmp_path, "is a folder"), (tmp_path / "file" / "run.json", "cannot be written")):
        with pytest.raises(ValueError, match=reason):
            lapis.cli.app(["evaluate", str(tmp_path / "model"), "--out", str(out)])


def test_what_was_measured_is_written_after_each_benchmark(line, tmp_path, monkeypatch):
    (heard, _) = SUITES["pocket"]
    speech = Benchmark("later-1", Part(Pocket("val", "music"), 3), heard.protocol)
    monkeypatch.setitem(SUITES, "pocket", (heard, speech))
    measure = Subject.measure

    def stopped(subject, protocol, *, clips):
        if len(clips) == 3:
            raise KeyboardInterrupt
        return measure(subject, protocol, clips=clips)

    monkeypatch.setattr(Subject, "measure", stopped)
    saved.save(tiny.model(), tmp_path / "model")
    out = tmp_path / "run.json"
    with pytest.raises(KeyboardInterrupt):
        lapis.cli.app(["evaluate", str(tmp_path / "model"), "--out", str(out), "--no-cache"])
    run = read(out)
    assert list(run.benchmarks) == ["heard-1"] and run.absent == {"later-1": "the run ended before it"}


def test_help_shows_patterns_and_every_suite(capsys):
    said = " ".join(lapis_("compare", "--help", capsys=capsys).split())
    assert "pocket-*" in said and "* R@1 *" in said
    said = lapis_("evaluate", "--help", capsys=capsys)
    assert all(name in said for name in SUITES) and "*-retrieval-*" in said


def test_compare_takes_several_patterns(line, tmp_path, capsys):
    saved.save(tiny.model(), tmp_path / "model")
    out = tmp_path / "run.json"
    lapis_("evaluate", tmp_path / "model", "--only", "hear*", "--out", out, "--no-cache", capsys=capsys)
    said = lapis_("compare", out, out, "--only", "* R@1 *", "* R@5 *", capsys=capsys)
    assert "R@1" in said and "R@5" in said and "R@10" not in said
