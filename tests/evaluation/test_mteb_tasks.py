"""Benchmarks that became tasks of mteb are measured by it as by us, and say what a submission still asks for."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import mteb
import pytest
import soundfile
from pitch import pitched

from lapis.data.sample import Sample
from lapis.datasets.esc50 import Esc50
from lapis.datasets.pocket import Pocket
from lapis.evaluation.asking import ByLabels, ByName
from lapis.evaluation.benchmark import Benchmark
from lapis.evaluation.keywords import Keywords
from lapis.evaluation.linear import LinearProbe
from lapis.evaluation.mteb_model import MtebModel
from lapis.evaluation.mteb_tasks import mteb_tasks, unfilled
from lapis.evaluation.retrieval import Retrieval
from lapis.evaluation.zeroshot import ZeroShot
from tiny import model as tiny_model


@dataclass(frozen=True)
class Some:
    """Three clips of each of the first labels of the pocket corpus, or of each language that is spoken."""

    domain: Literal["sound", "speech"]
    groups: int = 6

    def build(self) -> list[Sample]:
        of: dict[str, list[Sample]] = {}
        for sample in Pocket("test", self.domain).build():
            of.setdefault(str(sample.label), []).append(sample)
        return [sample for label in sorted(of)[: self.groups] for sample in of[label][:3]]


@dataclass(frozen=True)
class Changing(Some):
    """A source whose definition stays while its clips change, as files in a folder do."""

    groups: int = field(default=6, repr=False)


MODEL = tiny_model()
SOUND = Benchmark("some-sound-retrieval-1", Some("sound"), Retrieval("label", languages=("eng_Latn",)))


def scores(task) -> dict[str, float]:
    model = MtebModel(MODEL, name="lapis/tiny")
    result = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False)
    (found,) = result.task_results[0].scores["test"]
    return found


@pytest.mark.parametrize(
    ("source", "protocol"),
    [
        (Some("sound"), Retrieval("label", languages=("eng_Latn",))),
        (Some("sound"), Retrieval("caption", max_captions=1)),
        (Some("speech", groups=3), Retrieval("transcript")),
    ],
)
def test_retrieval_in_both_directions(source, protocol):
    ours = protocol.run(MODEL, clips=source.build())
    tasks = mteb_tasks(Benchmark("some-retrieval-1", source, protocol))
    assert [task.metadata.category for task in tasks] == ["t2a", "a2t"]
    for task, of in zip(tasks, (ours.text_to_audio, ours.audio_to_text)):
        found = scores(task)
        assert found["hit_rate_at_1"] == pytest.approx(of.recall_at_1, abs=1e-5)
        assert found["hit_rate_at_5"] == pytest.approx(of.recall_at_5, abs=1e-5)
        assert found["hit_rate_at_10"] == pytest.approx(of.recall_at_10, abs=1e-5)
        assert of.recall_at_1 < of.recall_at_5


def test_zero_shot():
    benchmark = Benchmark("some-zeroshot-1", Some("sound"), ByName("sound", "deu_Latn"), languages=("deu_Latn",))
    (task,) = mteb_tasks(benchmark)
    samples = benchmark.source.build()
    ours = ByName("sound", "deu_Latn")(samples).run(MODEL, clips=samples)
    found = scores(task)
    assert found["accuracy"] == pytest.approx(ours.accuracy)
    assert found["recall"] == pytest.approx(ours.balanced_accuracy)
    assert task.get_candidate_labels() == [prompt for (prompt,) in ours.prompts.values()]


def test_keywords_are_a_task_a_language():
    benchmark = Benchmark("some-kws-1", Some("speech", groups=3), Keywords())
    ours = Keywords().run(MODEL, clips=benchmark.source.build()).by_language
    tasks = mteb_tasks(benchmark)
    assert [task.metadata.eval_langs for task in tasks] == [[name.replace("_", "-")] for name in ours]
    assert len({task.metadata.name for task in tasks}) == len(tasks) == 3
    for task, of in zip(tasks, ours.values()):
        assert scores(task)["accuracy"] == pytest.approx(of.accuracy)


def test_keywords_without_words():
    with pytest.raises(ValueError, match="no language has 90 words"):
        mteb_tasks(Benchmark("some-kws-1", Some("speech", groups=3), Keywords(min_words=90)))


def test_what_is_told_of_a_task():
    by_text, by_clip = (task.metadata for task in mteb_tasks(SOUND))
    assert (by_text.name, by_clip.name) == ("SomeSoundRetrieval1T2A", "SomeSoundRetrieval1A2T")
    assert by_text.domains == ["AudioScene"] and by_text.task_subtypes == ["Environment Sound Retrieval"]
    assert by_text.eval_langs == ["eng-Latn"]
    other = replace(SOUND, protocol=Retrieval("label"))
    known, clips = (replace(SOUND, source=Changing("sound", groups)) for groups in (6, 5))
    assert known.digest == clips.digest != other.digest != SOUND.digest
    revisions = {mteb_tasks(of)[0].metadata.revision for of in (SOUND, other, known, clips)}
    assert len(revisions) == 4 and by_text.revision in revisions
    assert {"eng-Latn", "jpn-Jpan"} < set(mteb_tasks(other)[0].metadata.eval_langs)
    spoken = Benchmark("some-speech-1", Some("speech", groups=3), Retrieval("transcript"))
    languages = {sample.language for sample in spoken.source.build()}
    assert set(mteb_tasks(spoken)[0].metadata.eval_langs) == {str(name).replace("_", "-") for name in languages}


@pytest.fixture
def esc50(tmp_path: Path) -> Esc50:
    """Three classes of the corpus as it is published."""
    rows = ["filename,fold,target,category,esc10,src_file,take"]
    (tmp_path / "audio").mkdir()
    for number, category in enumerate(["dog", "crackling_fire", "rain"] * 2):
        clip = pitched(tmp_path / "audio", f"1-{number}-A-0", hertz=500.0 + 700 * number)
        rows.append(f"{Path(clip.audio.path).name},1,{number % 3},{category},True,{number},A")
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "esc50.csv").write_text("\n".join(rows), encoding="utf-8")
    return Esc50(folder=str(tmp_path))


def test_a_published_corpus_and_what_a_submission_still_asks_for(esc50):
    benchmark = Benchmark("esc50-zeroshot-glap-1", esc50, ByLabels("esc50", ("glap",)), languages=("eng_Latn",))
    (task,) = mteb_tasks(benchmark)
    told = task.metadata
    assert told.name == "Esc50ZeroshotGlap1" and told.reference == "https://github.com/karolpiczak/ESC-50"
    assert (told.license, told.task_subtypes) == (None, ["Environment Sound Classification"])
    asked = ("date", "license", "annotations_creators", "dialect", "sample_creation", "bibtex_citation")
    assert unfilled(task) == asked
    known = {"date": ("2015-01-01", "2015-12-31"), "license": "cc-by-nc-3.0", "annotations_creators": "human-annotated"}
    (filled,) = mteb_tasks(benchmark, **known, dialect=[], sample_creation="found", bibtex_citation="@misc{a,}")
    assert unfilled(filled) == () and filled.metadata.is_filled()
    with pytest.raises(ValueError, match="licence"):
        mteb_tasks(benchmark, licence="mit")
    samples = esc50.build()
    assert scores(task)["accuracy"] == pytest.approx(benchmark.protocol(samples).run(MODEL, clips=samples).accuracy)


def test_other_wrappers_of_mteb_find_files_that_they_can_decode(esc50):
    (task,) = mteb_tasks(Benchmark("esc50-zeroshot-glap-1", esc50, ByLabels("esc50", ("glap",))))
    task.load_data()
    column = task.dataset["test"].features["audio"]
    assert type(column).__name__ == "Audio" and column.decode
    path = task.dataset["test"].data.to_pydict()["audio"][0]["path"]
    assert soundfile.info(path).duration == 0.5


@pytest.mark.parametrize(
    ("protocol", "reason"),
    [
        (LinearProbe(Pocket("train", "sound")), "no task of the same meaning as LinearProbe"),
        (ZeroShot({"a": ("a", "b"), "b": ("b",)}), "one prompt a class, and 'a' has more"),
        (ZeroShot({"a": ("a",), "b": ("b",)}, kind="multi-label"), "this benchmark is multi-label"),
    ],
)
def test_what_has_no_counterpart_is_refused(protocol, reason):
    with pytest.raises(ValueError, match=reason):
        mteb_tasks(replace(SOUND, protocol=protocol))
