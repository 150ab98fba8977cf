"""The table of benchmarks on a real model of two steps: everything is measured, once, and printed beside chance."""

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile
from pitch import PitchEmbedder, pitched

import tiny
from lapis.data.sources import Tars
from lapis.datasets.esc50 import Esc50
from lapis.datasets.pocket import Pocket, class_names
from lapis.datasets.reading import MissingClips, warn_missing
from lapis.evaluation import suite
from lapis.evaluation.asking import ByName
from lapis.evaluation.cache import EmbeddingCache
from lapis.evaluation.embeddings import NotFiniteError
from lapis.evaluation.linear import Fitting, LinearProbe
from lapis.evaluation.neighbours import Neighbours
from lapis.evaluation.reliability import Reliability
from lapis.evaluation.results_file import read, write
from lapis.evaluation.retrieval import Retrieval
from lapis.evaluation.suite import SUITES, Benchmark, run_suite, table
from lapis.evaluation.suites import pool


def test_every_benchmark_of_the_pocket_suite_finds_its_clips_and_prompts():
    for benchmark in SUITES["pocket"]:
        samples, protocol = benchmark.source.build(), benchmark.protocol
        made = getattr(protocol, "task", None) or getattr(protocol, "asked", None) or protocol
        assert isinstance(made, Retrieval | Reliability) or len(made(samples).prompts) > 4


def _small(monkeypatch, *benchmarks):
    monkeypatch.setitem(SUITES, "small", benchmarks)


def test_a_suite_is_measured_and_each_clip_embedded_once(monkeypatch, tmp_path):
    val = Pocket("val", "music")
    labels = {sample.label for sample in val.build()}
    _small(
        monkeypatch,
        Benchmark("one-1", val, SUITES["pocket"][1].protocol),
        Benchmark("two-1", val, ByName("music", "zho_Hans"), ("zho_Hans",)),
    )
    seen, cache = [], EmbeddingCache()
    results = run_suite(tiny.model(), suite="small", progress=seen.append, cache=cache, trained={"eng_Latn"})
    assert seen == ["one-1", "two-1"] and cache.embedded == len(val.build())
    assert results["two-1"].prompts == {
        label: (names["zho_Hans"],) for label, names in class_names("music").items() if label in labels
    }
    assert results["two-1"].num_clips == len(val.build())
    rows = table(results)
    assert [row["metric"] for row in rows if row["benchmark"] == "two-1"] == ["accuracy", "balanced accuracy"]
    assert {(row["benchmark"], row["languages"]) for row in rows} == {("one-1", "unknown"), ("two-1", "never given")}
    shares = [row for row in rows if "rank" not in row["metric"]]
    assert all(row["measured"].endswith("%") and row["chance"].endswith("%") for row in shares)
    assert np.isclose(results["one-1"].text_to_audio.recall_at_1, float(rows[0]["measured"][:-1]) / 100, atol=1e-3)
    low, high = results["two-1"].figures["accuracy"].interval
    assert rows[-2]["interval"] == f"{low:.1%} to {high:.1%}"
    run = results.to_run(model="a model")
    write(run, tmp_path / "run.json")
    again = read(tmp_path / "run.json").benchmarks["two-1"]
    assert again.figures == results["two-1"].figures and again.languages_in_training == "never given"
    assert again.prompts == {label: list(texts) for label, texts in results["two-1"].prompts.items()}
    assert again.details["definition"] == SUITES["small"][1].digest


def test_what_is_not_there_is_listed_with_the_way_to_get_it(monkeypatch):
    val = Pocket("val", "music")
    _small(
        monkeypatch,
        Benchmark("esc50-1", Esc50(), SUITES["pocket"][1].protocol),
        Benchmark("tars-1", Tars("nowhere/*.tar"), SUITES["pocket"][1].protocol, obtain="Ask for them."),
        Benchmark("frames-1", val, LinearProbe(val, features="frames")),
        Benchmark("there-1", val, SUITES["pocket"][1].protocol),
    )
    results = run_suite(tiny.model(), suite="small")
    assert list(results) == ["there-1"] and list(results.absent) == ["esc50-1", "tars-1", "frames-1"]
    assert "Unpack https://github.com/karolpiczak/ESC-50" in results.absent["esc50-1"]
    assert results.absent["tars-1"].endswith("Ask for them.")
    assert results.absent["frames-1"].startswith("not for this model: features 'frames'")
    with pytest.raises(ValueError, match=r"nothing of the suite small could be measured:\nesc50-1: .*ESC-50"):
        run_suite(tiny.model(), suite="small", only=("esc50-1",))
    with pytest.raises(ValueError, match="the suite small has no benchmark 'ther-1', did you mean 'there-1'"):
        run_suite(tiny.model(), suite="small", only=("ther-1",))


def test_clips_that_are_missing_of_a_corpus_are_told(monkeypatch, tmp_path):
    @dataclass(frozen=True)
    class Incomplete:
        def build(self):
            warn_missing("3 of 9 clips have no sound file")
            return Pocket("val", "music").build()

    _small(monkeypatch, Benchmark("one-1", Incomplete(), SUITES["pocket"][1].protocol))
    with pytest.warns(MissingClips, match="3 of 9"):
        results = run_suite(tiny.model(), suite="small")
    assert results.incomplete == {"one-1": "3 of 9 clips have no sound file"}
    assert results.to_run(model="a").benchmarks["one-1"].details["incomplete"] == "3 of 9 clips have no sound file"


@dataclass(frozen=True)
class Fails:
    """A protocol that finds something wrong with its clips, or with what the model gives."""

    error: type[ValueError] = ValueError
    needs: ClassVar = "vectors"

    def run(self, embedder, *, clips):
        raise self.error("no two clips are of one class")


@dataclass(frozen=True)
class Tones:
    folder: str
    hertz: tuple[int, ...] = (200, 300, 400, 500, 600, 700)

    def build(self):
        return [pitched(Path(self.folder), str(of), hertz=of, label="b" if of % 200 else "a") for of in self.hertz]


@pytest.fixture
def tones(tmp_path):
    return Tones(str(tmp_path))


def test_what_cannot_be_measured_is_told_and_the_rest_is_measured(monkeypatch, tones):
    named = Retrieval("label", languages=("eng_Latn",))
    _small(
        monkeypatch,
        Benchmark("near-1", tones, Neighbours(tones)),
        Benchmark("bad-1", tones, Fails()),
        Benchmark("far-1", tones, Neighbours(tones)),
        Benchmark("captionless-1", tones, named),
    )
    kept = []
    results = run_suite(PitchEmbedder(), suite="small", keep=kept.append)
    assert list(results) == ["near-1", "far-1"] and list(results.absent) == ["bad-1", "captionless-1"]
    assert results.absent["bad-1"] == "it cannot be measured: no two clips are of one class"
    # What is kept on the way says what is still to come.
    first, second = (one.to_run(model="a") for one in kept)
    assert list(first.benchmarks) == ["near-1"] and list(second.benchmarks) == ["near-1", "far-1"]
    ended = "the run ended before it"
    assert first.absent == dict.fromkeys(("bad-1", "far-1", "captionless-1"), ended)
    assert second.absent == {"bad-1": results.absent["bad-1"], "captionless-1": ended}


def test_a_vector_that_is_not_finite_stops_the_run_which_keeps_what_it_has(monkeypatch, tones):
    _small(
        monkeypatch,
        Benchmark("near-1", tones, Neighbours(tones)),
        Benchmark("broken-1", tones, Fails(NotFiniteError)),
        Benchmark("far-1", tones, Neighbours(tones)),
    )
    kept = []
    with pytest.raises(NotFiniteError, match="broken-1: no two clips"):
        run_suite(PitchEmbedder(), suite="small", keep=kept.append)
    assert [list(of) for of in kept] == [["near-1"]]


def test_benchmarks_are_chosen_by_patterns(monkeypatch, tones):
    _small(monkeypatch, *(Benchmark(f"{name}-1", tones, Neighbours(tones)) for name in ("a-x", "a-y", "b-x", "c")))
    assert list(run_suite(PitchEmbedder(), suite="small", only=("c-1", "a-*"))) == ["a-x-1", "a-y-1", "c-1"]
    with pytest.raises(ValueError, match=r"no benchmark 'd-\*'"):
        run_suite(PitchEmbedder(), suite="small", only=("c-1", "d-*"))


def test_the_checksum_is_of_the_clips_that_teach_too(monkeypatch, tones, tmp_path):
    (tmp_path / "other").mkdir()
    other = Tones(str(tmp_path / "other"), hertz=(200, 300, 450, 500, 600, 700))
    _small(
        monkeypatch,
        Benchmark("one-1", tones, Neighbours(tones)),
        Benchmark("two-1", tones, Neighbours(other)),
        Benchmark("tested-1", other, Neighbours(tones)),
    )
    results = run_suite(PitchEmbedder(), suite="small")
    run = results.to_run(model="a")
    assert len({run.benchmarks[name].data_checksum for name in results}) == 3
    assert results.to_run(model="a").benchmarks["one-1"] is run.benchmarks["one-1"]


def _shard(folder, name, *, clips):
    """A shard of tones, and what a manifest tells of it."""
    with tarfile.open(folder / name, "w") as tar:
        for number in range(clips):
            sound = io.BytesIO()
            soundfile.write(sound, 0.1 * np.sin(np.arange(400) * (number + 1) / 9), 16_000, format="WAV")
            told = {"captions": {}, "label": "a", "domain": "sound", "source_id": f"{number}-x"}
            for ending, content in (("wav", sound.getvalue()), ("json", json.dumps(told).encode())):
                member = tarfile.TarInfo(f"{name[:-4]}-{number}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return {"bytes": (folder / name).stat().st_size, "clips": clips, "domain": {"sound": clips}}


def test_a_part_of_the_pool_is_not_measured_as_the_whole(monkeypatch, tmp_path):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    folder = tmp_path / "pool"
    folder.mkdir()
    shards = {f"tones-val-00000{number}.tar": number + 2 for number in range(3)}
    told = {name: _shard(folder, name, clips=clips) for name, clips in shards.items()}
    told["words-val-000000.tar"] = {"bytes": 1, "clips": 9, "domain": {"speech": 9}}
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps({"shards": told}))
    whole, of_sound = pool.Tars("pool/tones-val-*.tar"), pool.Tars("pool/*-val-*.tar", domain="sound")
    assert len(whole.build()) == len(of_sound.build()) == 9  # of the shards of speech none is missed here
    last = folder / "tones-val-000002.tar"
    kept = last.read_bytes()
    last.unlink()
    missing = r"1 of 3 shards with 4 of 9 clips are not there: tones-val-000002\.tar"
    for source in (whole, of_sound, pool.DealtByRecording("pool/tones-*.tar", r"(\d+)-")):
        with pytest.warns(MissingClips, match=missing):
            assert len(source.build()) == 5
    with pytest.warns(MissingClips, match=r"1 of 4 shards with 9 of 18 clips are not there: words"):
        last.write_bytes(kept)
        pool.Tars("pool/*-val-*.tar").build()
    last.unlink()
    # The results say it, of a benchmark of the suite that tests, or teaches, with them.
    test, train = Benchmark("test-1", whole, Neighbours(whole)), Benchmark("train-1", of_sound, Neighbours(whole))
    _small(monkeypatch, test, train)
    with pytest.warns(MissingClips):
        results = run_suite(tiny.model(), suite="small")
    assert set(results.incomplete) == {"test-1", "train-1"} and "1 of 3 shards" in results.incomplete["train-1"]
    assert all("1 of 3 shards" in row["incomplete"] for row in table(results))
    assert "1 of 3 shards" in results.to_run(model="a").benchmarks["test-1"].details["incomplete"]
    # Another file of the same name, one that is not told of, and no manifest.
    last.write_bytes(kept + bytes(512))
    with pytest.warns(MissingClips, match=r"another size than manifest\.json tells: tones-val-000002\.tar"):
        whole.build()
    last.write_bytes(kept)
    _shard(folder, "tones-val-000009.tar", clips=1)
    with pytest.warns(MissingClips, match=r"that manifest\.json does not tell of: tones-val-000009\.tar"):
        whole.build()
    manifest.unlink()
    with pytest.warns(MissingClips, match="whether all shards are there is not known"):
        whole.build()


def test_every_benchmark_of_the_pool_sees_whether_its_shards_are_there():
    for benchmark in SUITES["pool"]:
        of = suite._sources(benchmark)
        while any(hasattr(source, "source") for source in of):
            of = [getattr(source, "source", source) for source in of]
        assert all(isinstance(source, pool.Tars | pool.DealtByRecording) for source in of), benchmark.name


def test_the_papers_suite_lists_every_benchmark_that_is_not_there(monkeypatch, tmp_path):
    """With one small corpus in its true layout, that one is measured and no other is passed over in silence."""
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    for number, (label, hertz) in enumerate((("dog", 300), ("rain", 900), ("cow", 1500), ("dog", 310))):
        path = tmp_path / "ESC-50-master" / "audio" / f"{number % 2 + 1}-{number}-A-0.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        instants = np.arange(8000) / 16_000
        soundfile.write(path, 0.5 * np.sin(2 * np.pi * hertz * instants), 16_000)
        table_of = tmp_path / "ESC-50-master" / "meta" / "esc50.csv"
        table_of.parent.mkdir(exist_ok=True)
        if not table_of.exists():
            table_of.write_text("filename,fold,target,category,esc10,src_file,take\n")
        with table_of.open("a") as file:
            file.write(f"{path.name},{number % 2 + 1},{number},{label},False,{number},A\n")
    chosen = [benchmark.name for benchmark in SUITES["papers"] if benchmark.name.startswith("esc50-zeroshot")]
    monkeypatch.setitem(
        SUITES, "papers", tuple(b for b in SUITES["papers"] if b.name in chosen or not b.name.startswith("esc50"))
    )
    results = run_suite(tiny.model(), suite="papers")
    assert sorted(results) == sorted(chosen)
    expected = {benchmark.name for benchmark in SUITES["papers"]} - set(chosen) | suite.ELSEWHERE["papers"].keys()
    assert results.absent.keys() == expected and all(results.absent.values())
    assert results["esc50-zeroshot-1"].prompts["dog"] == ("dog can be heard",)
    assert len(results["esc50-zeroshot-ensemble-1"].prompts["dog"]) == 3


def test_a_linear_probe_is_a_benchmark(monkeypatch):
    probe = LinearProbe(Pocket("test", "music"), fitting=Fitting(learning_rate=1e-2, epochs=2, seeds=(1,)))
    monkeypatch.setitem(SUITES, "small", (Benchmark("linear-1", Pocket("val", "music"), probe),))
    results = run_suite(tiny.model(), suite="small")
    (row,) = table(results)
    assert row["interval"]
    assert row["metric"] == "accuracy" and row["measured"] == f"{results['linear-1'].score:.1%}"
    for benchmark in SUITES["pocket-linear"]:
        labels = {sample.label for sample in benchmark.protocol.train.build()}
        assert {sample.label for sample in benchmark.source.build()} <= labels


def test_an_unknown_suite_is_named():
    with pytest.raises(
        ValueError, match=r"a suite among .*'papers', 'papers-finetuning', 'pocket', .*'pool'.*, got 'pockets'"
    ):
        run_suite(tiny.model(), suite="pockets")


@pytest.mark.parametrize(
    ("trained", "told"),
    [
        ({"eng_Latn", "deu_Latn", "zho_Hans"}, "given"),
        ({"eng_Latn", "zho_Hans"}, "partly given"),
        ({"zho_Hans"}, "never given"),
        (set(), "never given"),
        (None, "unknown"),
    ],
)
def test_a_benchmark_of_several_languages_is_given_in_part_where_training_had_some(monkeypatch, trained, told):
    val = Pocket("val", "music")
    _small(monkeypatch, Benchmark("both-1", val, ByName("music", "eng_Latn"), ("eng_Latn", "deu_Latn")))
    results = run_suite(tiny.model(), suite="small", trained=trained)
    assert results.training("both-1") == told
    assert results.to_run(model="a model").benchmarks["both-1"].languages_in_training == told
