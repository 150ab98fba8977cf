"""Translation end to end with real small models from files on disk: learned names come out right, what is degenerate
is counted and left out, and whoever is stopped at any byte goes on to the same table.
"""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from data import translators
from data.corpus import sound_bytes, tones, write_tar
from lapis.cli import app
from lapis.data.captioned import Captioned, read_table
from lapis.data.captions import Captions
from lapis.data.cleaning import repeats
from lapis.data.mixture import Mixture, Part
from lapis.data.sources import Table, Tars
from lapis.data.translate.checks import Checks
from lapis.data.translate.job import translate
from lapis.data.translate.models import load_translator
from lapis.data.translate.options import Options
from lapis.datasets.languages import short_codes

SENTENCE = "a dog on a tin roof"
PROMPT = "{source}: {text} {target}:"


@pytest.fixture(scope="session")
def models(root, tmp_path_factory) -> Path:
    """A folder of models, made once for all processes of the tests."""
    folder = Path(os.environ["LAPIS_CACHE"]) / "translators"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "translators.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            translators.nllb(root, folder / "nllb", half=folder / "half")
            settings = folder / "half" / "generation_config.json"
            # As checkpoints have it: a cut text would get an end, and all would be cut after four tokens.
            settings.write_text(
                json.dumps(json.loads(settings.read_text()) | {"forced_eos_token_id": 2, "max_length": 4})
            )
            translators.m2m100(root, folder / "m2m100")
            translators.marian(root, folder / "marian")
            translators.madlad(root, folder / "madlad")
            prompt = PROMPT.replace("{source}", "English").replace("{target}", "German")
            translators.language_model(root, folder / "talking", prompt=prompt)
            (folder / "made").touch()
    return folder


@pytest.fixture
def clips(root, tmp_path, monkeypatch) -> Table:
    """A clip for each name in English, two with the first; one is told in German already; one caption is long."""
    known = [name["eng_Latn"] for name in translators.names(root)]
    rows = [{"audio": f"{number}.wav", "captions": {"eng_Latn": [name]}} for number, name in enumerate(known)]
    rows.append({"audio": "same.wav", "captions": {"eng_Latn": [f" {known[0]} ", ""]}})
    rows.append({"audio": "told.wav", "captions": {"eng_Latn": ["told already"], "deu_Latn": ["schon gesagt"]}})
    rows.append({"audio": "long.wav", "captions": {"eng_Latn": ["rain " * 80]}})
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    return Table("clips.jsonl")


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _run(*arguments, folder: Path, **options) -> subprocess.Popen:
    words = (sys.executable, "-m", "lapis.cli", "data", "translate", *map(str, arguments))
    return subprocess.Popen(words, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_the_command_translates_what_the_model_has_learned(root, clips, models, tmp_path, capsys):
    words = ["data", "translate", str(tmp_path / "clips.jsonl"), "--to", "deu_Latn,zho_Hans"]
    words += ["--model", str(models / "nllb"), "--out", str(tmp_path / "out")]
    app(words, result_action="return_value")
    said = capsys.readouterr().out
    known = translators.names(root)
    wanted = {(name["eng_Latn"], to): [name[to]] for name in known for to in ("deu_Latn", "zho_Hans")}
    table = _lines(tmp_path / "out" / "captions.jsonl")
    found = {(row["text"], row["to"]): row["captions"] for row in table}
    assert {place: found.pop(place, None) for place in wanted} == wanted and len(table) == len(wanted) + len(found)
    assert set(found) <= {("told already", "zho_Hans")}  # a word that was not learned; whatever it became
    assert "1 clips have captions in deu_Latn already" in said
    problems = Counter(problem["reason"] for problem in _lines(tmp_path / "out" / "problems.jsonl"))
    assert problems["text longer than the model takes"] == 2
    assert f"{len(known) + 3} clips, {2 * len(known) + 3} texts to translate\n" in said

    source = Captioned(clips, ("out",))
    samples = source.build()
    assert samples[0].captions == {of: (known[0][of],) for of in ("eng_Latn", "deu_Latn", "zho_Hans")}
    assert samples[len(known)].captions["deu_Latn"] == (known[0]["deu_Latn"],)  # the same words, of another clip
    assert samples[len(known) + 1].captions["deu_Latn"] == ("schon gesagt",)
    mixture = Mixture.Config((Part(source),), captions=Captions({"zho_Hans": 1.0})).build(seed=0)
    drawn = {mixture.choose_caption(mixture[number]) for number in range(len(known))}
    assert drawn <= {name["zho_Hans"] for name in known} | {text for texts in found.values() for text in texts}


def test_wherever_the_journal_breaks_off_the_table_is_the_same(clips, models, tmp_path):
    translator = load_translator(str(models / "nllb"))
    asked = []

    class Counted:
        identity, check, lengths = translator.identity, translator.check, translator.lengths

        def translate(self, texts, *, source, target):
            asked.extend(texts)
            return translator.translate(texts, source=source, target=target)

    job = {"translator": Counted(), "to": ("deu_Latn",), "batch_tokens": 30, "out": tmp_path / "out"}
    first = translate(clips, **job)
    whole = (tmp_path / "out" / "answers.jsonl").read_bytes()
    written = {name: (tmp_path / "out" / name).read_bytes() for name in ("captions.jsonl", "problems.jsonl")}
    assert len(asked) == first.asked.questions == whole.count(b"\n") and first.asked.known == 0
    for place in (0, 1, len(whole) // 3, len(whole) // 2, len(whole) - 1, len(whole)):
        (tmp_path / "out" / "answers.jsonl").write_bytes(whole[:place])
        (tmp_path / "out" / "captions.jsonl").unlink(missing_ok=True)
        asked.clear()
        report = translate(clips, **job).asked
        assert report.known == whole[:place].count(b"\n")
        # A batch is done whole again where some of it is missing, so that what goes together is what went before.
        assert report.questions - report.known <= len(asked) <= report.questions - report.known + 30
        assert {name: (tmp_path / "out" / name).read_bytes() for name in written} == written
        # What is left of a line is not there for the next run to stumble over.
        assert sorted((tmp_path / "out" / "answers.jsonl").read_bytes().splitlines()) == sorted(whole.splitlines())
        asked.clear()
        assert translate(clips, **job).asked.known == first.asked.questions
    assert not asked


def test_a_caption_with_a_lone_surrogate_is_asked_about_once_and_gets_its_answer(clips, models, tmp_path):
    text = "a \ud83d dog"
    (tmp_path / "clips.jsonl").write_text(json.dumps({"audio": "x.wav", "captions": {"eng_Latn": [text]}}) + "\n")
    job = {"translator": load_translator(str(models / "nllb")), "to": ("zho_Hans",), "out": tmp_path / "out"}
    first, second = translate(clips, **job).asked, translate(clips, **job).asked
    assert (first.known, second.known, second.questions) == (0, 1, 1)
    (sample,) = Captioned(clips, ("out",)).build()
    assert len(sample.captions.get("zho_Hans", ())) == second.captions


def test_what_a_half_trained_model_babbles_is_left_out(root, clips, models, tmp_path):
    report = translate(
        clips, translator=load_translator(str(models / "half")), to=("fra_Latn", "zho_Hans"), out=tmp_path / "out"
    ).asked
    assert report.left_out["caption that repeats itself"] >= 3, report.left_out
    table, problems = (_lines(tmp_path / "out" / name) for name in ("captions.jsonl", "problems.jsonl"))
    assert report.captions == len(table) and report.captions + len(problems) == report.questions
    assert Counter(problem["reason"] for problem in problems) == report.left_out
    assert not any(repeats(caption, spaced=row["to"] != "zho_Hans") for row in table for caption in row["captions"])
    answers = _lines(tmp_path / "out" / "answers.jsonl")
    assert sum(not answer["finished"] for answer in answers) >= 3
    babble = [problem for problem in problems if problem["reason"] == "caption that repeats itself"]
    assert all(problem["answer"] and problem["text"] and problem["key"] for problem in babble)


def test_degenerate_answers_that_are_planted_are_counted_and_removed(root, clips, models, tmp_path):
    translator, known = load_translator(str(models / "nllb")), translators.names(root)
    translate(clips, translator=translator, to=("deu_Latn",), out=tmp_path / "out")
    planted = {
        "caption that repeats itself": "Hund Hund Hund Hund Hund Hund",
        "caption in another script than Latn": "Собака громко лает",
        "caption with markup": "<unk> Hund",
        "no translation": "",
        "translation much longer than the text": "Ein Hund bellt in der Nacht vor einem Haus, " * 2
        + "und niemand kommt",
        "translation that does not end": "Ein Hund bellt und",
    }
    journal = tmp_path / "out" / "answers.jsonl"
    lines = _lines(journal)
    by_text = {line["text"]: line for line in lines}
    for name, (reason, text) in zip(known, planted.items(), strict=False):
        by_text[name["eng_Latn"]] |= {"answers": [text], "finished": reason != "translation that does not end"}
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    report = translate(clips, translator=translator, to=("deu_Latn",), out=tmp_path / "out").asked
    assert {reason: report.left_out.get(reason) for reason in planted} == dict.fromkeys(planted, 1)
    made = read_table(tmp_path / "out")
    spoiled = {name["eng_Latn"] for name in known[: len(planted)]}
    assert {text for _, text in made} == {name["eng_Latn"] for name in known} - spoiled
    listed = {problem["reason"]: problem for problem in _lines(tmp_path / "out" / "problems.jsonl")}
    assert all(listed[reason]["answer"] == text for reason, text in planted.items())


def test_the_way_back_finds_what_the_model_does_not_know(root, clips, models, tmp_path):
    (tmp_path / "clips.jsonl").open("a").write(
        json.dumps({"audio": "x.wav", "captions": {"eng_Latn": [SENTENCE]}}) + "\n"
    )
    translator, known = load_translator(str(models / "nllb")), translators.names(root)
    report = translate(
        clips, translator=translator, to=("deu_Latn",), out=tmp_path / "out", checks=Checks(least_back=60.0)
    )
    made = read_table(tmp_path / "out")
    assert {text for _, text in made} == {name["eng_Latn"] for name in known}
    problems = {problem["text"]: problem["reason"] for problem in _lines(tmp_path / "out" / "problems.jsonl")}
    assert problems[SENTENCE] == "translation whose way back differs"
    assert report.asked.left_out["translation whose way back differs"] == 1
    ways = Counter((line["language"], line["to"]) for line in _lines(tmp_path / "out" / "answers.jsonl"))
    assert ways["eng_Latn", "deu_Latn"] == report.asked.questions
    assert len(known) <= ways["deu_Latn", "eng_Latn"] <= report.asked.questions


@pytest.mark.parametrize(
    ("name", "to", "options"),
    [
        ("m2m100", ("deu_Latn", "zho_Hans"), Options(codes=short_codes())),
        ("marian", ("deu_Latn",), Options(codes=short_codes(), beams=2)),
        ("madlad", ("deu_Latn", "fra_Latn"), Options(codes=short_codes())),
        ("talking", ("deu_Latn",), Options(prompt=PROMPT)),
        ("talking", ("deu_Latn",), Options(prompt=PROMPT, beams=2)),
    ],
)
@pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")
def test_other_kinds_of_models_translate_what_they_have_learned(root, models, name, to, options):
    translator, known = load_translator(str(models / name), options), translators.names(root)[: translators.FEW]
    for language in to:
        translator.check(source="eng_Latn", target=language)
        texts = [name["eng_Latn"] for name in known]
        answers = translator.translate(texts, source="eng_Latn", target=language)
        assert [answer.texts for answer in answers] == [(name[language],) for name in known]
        assert all(answer.finished for answer in answers)
        assert translator.translate(["rain " * 80], source="eng_Latn", target=language)[0].texts == ()
    if name == "marian":
        with pytest.raises(ValueError, match="translates en to de, not eng_Latn to fra_Latn"):
            translator.check(source="eng_Latn", target="fra_Latn")
    if name == "m2m100":
        with pytest.raises(ValueError, match="the model has no language tzm_Tfng"):
            translator.check(source="eng_Latn", target="tzm_Tfng")


def test_another_job_and_other_mistakes_are_refused(clips, models, tmp_path):
    job = {"to": ("deu_Latn",), "out": tmp_path / "out"}
    translate(clips, translator=load_translator(str(models / "nllb")), **job)
    half = load_translator(str(models / "half"))
    with pytest.raises(ValueError, match=r"holds the answers of another job, it differs in model"):
        translate(clips, translator=half, **job)
    assert translate(clips, translator=half, restart=True, **job).asked.known == 0
    with pytest.raises(ValueError, match="FLORES-200 codes such as deu_Latn, got 'de'"):
        translate(clips, translator=half, to=("de",), out=tmp_path / "x")
    with pytest.raises(ValueError, match="expected other languages than eng_Latn"):
        translate(clips, translator=half, to=("eng_Latn",), out=tmp_path / "x")
    with pytest.raises(ValueError, match="the model has no language rus_Cyrl"):
        translate(clips, translator=half, to=("rus_Cyrl",), out=tmp_path / "x")
    with pytest.raises(ValueError, match="no model for translation can be had"):
        load_translator(str(tmp_path))
    for device in ("foo", "cuda:99", "meta"):
        with pytest.raises(ValueError, match=f"device: expected cpu, cuda or mps, got '{device}'"):
            load_translator(str(models / "nllb"), Options(device=device))
    for beams in (0, -2):
        with pytest.raises(ValueError, match=f"beams: expected at least one, got {beams}"):
            Options(beams=beams)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "note").touch()
    with pytest.raises(ValueError, match="holds other files"):
        translate(clips, translator=half, to=("deu_Latn",), out=tmp_path / "full")
    for line in ("no JSON", "[" * 200_000):
        (tmp_path / "out" / "answers.jsonl").write_text(f"{line}\n")
        with pytest.raises(ValueError, match="is damaged"):
            translate(clips, translator=half, **job)


def test_tars_get_translations_on_demand_and_a_cut_one_is_told(root, models, tmp_path, monkeypatch):
    known = translators.names(root)[0]
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    words = {"captions": {"eng_Latn": [known["eng_Latn"]]}, "seconds": 0.3}
    write_tar(tmp_path / "a.tar", {f"clip{number}": (sound_bytes(0.3), words) for number in range(3)})
    (tmp_path / "b.tar").write_bytes(write_tar(tmp_path / "c.tar", tones(2)).read_bytes()[:700])
    (tmp_path / "c.tar").unlink()
    report = translate(
        Tars("*.tar"), translator=load_translator(str(models / "nllb")), to=("deu_Latn",), out=tmp_path / "out"
    ).asked
    assert (report.clips, report.questions, report.captions, report.unreadable) == (3, 1, 1, 1)
    assert "b.tar" in _lines(tmp_path / "out" / "problems.jsonl")[0]["where"]
    samples = Captioned(Tars("a.tar"), ("out/captions.jsonl",)).build()
    assert not isinstance(samples, list) and len(samples) == 3 and samples.total_seconds == pytest.approx(0.9)
    assert [sample.captions["deu_Latn"] for sample in samples[0:2]] == [(known["deu_Latn"],)] * 2
    mixture = Mixture.Config((Part(Captioned(Tars("a.tar"), ("out",))),)).build(seed=0)
    assert mixture[0].sample.captions == {of: (known[of],) for of in ("eng_Latn", "deu_Latn")}


@pytest.mark.slow
def test_a_killed_process_loses_nothing(root, clips, models, tmp_path):
    """`kill -9` while batches of one text are translated, three times; then the table of a run that nothing stopped."""
    to = ("--to", "deu_Latn,fra_Latn,zho_Hans", "--model", models / "nllb", "--batch-tokens", 1)
    journal = tmp_path / "out" / "answers.jsonl"
    for lines in (3, 20, 50):
        process = _run("clips.jsonl", *to, "--out", "out", folder=tmp_path)
        while process.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < lines):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.communicate()
    assert not (tmp_path / "out" / "captions.jsonl").exists()
    for out in ("out", "whole"):
        process = _run("clips.jsonl", *to, "--out", out, folder=tmp_path)
        assert process.communicate() and process.returncode == 0
    for name in ("captions.jsonl", "problems.jsonl"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert sorted(journal.read_bytes().splitlines()) == sorted(
        (tmp_path / "whole" / "answers.jsonl").read_bytes().splitlines()
    )
