import json
from dataclasses import fields, replace

import numpy as np
import pytest

from evaluation import runs
from lapis.evaluation import results_file
from lapis.evaluation.compare import compare
from lapis.evaluation.figure import Figure
from lapis.evaluation.results import Measured, data_checksum, surroundings


def _same(one, other):
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other) and one.dtype == other.dtype
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, Measured):
        return all(_same(getattr(one, part.name), getattr(other, part.name)) for part in fields(one))
    return one == other


@pytest.mark.parametrize("in_json", [0, 10**6])
def test_a_run_comes_back_as_it_was_written(tmp_path, monkeypatch, in_json):
    monkeypatch.setattr(results_file, "ITEMS_IN_JSON", in_json)
    written, path = runs.run(), tmp_path / "run.json"
    results_file.write(written, path)
    read = results_file.read(path)
    assert all(_same(getattr(written, part.name), getattr(read, part.name)) for part in fields(written))
    assert len(list(tmp_path.glob("*.npz"))) == (in_json == 0)
    assert json.loads(path.read_text())["benchmarks"]["gtzan-zeroshot-1"]["figures"]["accuracy"]["chance"] == 1 / 3


def test_a_second_run_replaces_the_first_with_its_arrays(tmp_path, monkeypatch):
    monkeypatch.setattr(results_file, "ITEMS_IN_JSON", 0)
    path, other = tmp_path / "run.json", tmp_path / "run-of-someone.npz"
    other.write_bytes(b"mine")
    for seed in (0, 5, 5):
        results_file.write(runs.run(seed), path)
    assert results_file.read(path).identity == "runs/one@5"
    assert len(list(tmp_path.glob("*.npz"))) == 2 and other.read_bytes() == b"mine"


def test_a_copy_keeps_its_arrays_when_the_first_is_written_again(tmp_path, monkeypatch):
    monkeypatch.setattr(results_file, "ITEMS_IN_JSON", 0)
    path, copy = tmp_path / "run.json", tmp_path / "keep.json.old"
    results_file.write(runs.run(0), path)
    copy.write_bytes(path.read_bytes())
    for seed in (1, 2):
        results_file.write(runs.run(seed), path)
    assert len(results_file.read(copy).benchmarks["gtzan-zeroshot-1"].items["accuracy"]) == 40
    assert len(list(tmp_path.glob("*.npz"))) == 2
    copy.unlink()
    results_file.write(runs.run(3), path)
    assert len(list(tmp_path.glob("*.npz"))) == 2  # the arrays of the copy are nobody's, and not this run's to remove


def test_a_run_without_its_arrays_has_figures_and_cannot_be_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(results_file, "ITEMS_IN_JSON", 0)
    path = tmp_path / "run.json"
    results_file.write(runs.run(0), path)
    (arrays,) = tmp_path.glob("*.npz")
    arrays.unlink()
    with pytest.warns(UserWarning, match=r"run.json: its items lay in run-\w+.npz beside it, which is away"):
        read = results_file.read(path)
    of = read.benchmarks["gtzan-zeroshot-1"]
    assert of.figures == runs.run(0).benchmarks["gtzan-zeroshot-1"].figures and not of.items and not of.groups
    with pytest.raises(ValueError, match=r"nothing to compare: .*its items are not there"):
        compare(runs.run(1), second=read)


def test_no_place_of_this_machine_is_written(tmp_path):
    path = tmp_path / "run.json"
    failures = (f"7: {tmp_path}/x/7.wav: no sound", "8: https://host.org/a/8.wav and a/b/c.wav: none")
    one = replace(
        runs.zeroshot(0, right=0.5),
        unreadable=failures,
        chosen=f"fitted on {tmp_path}/clips.jsonl.",
        details={"incomplete": f"no shard {tmp_path}/pool/a-*.tar"},
    )
    absent = {"x-1": f"[Errno 2] No such file: '{tmp_path}/pool/esc50.csv'"}
    results_file.write(replace(runs.run(), benchmarks={"a-1": one}, absent=absent, model=f"{tmp_path}/m"), path)
    assert str(tmp_path) not in path.read_text() and str(tmp_path.parent) not in path.read_text()
    read = results_file.read(path)
    assert read.benchmarks["a-1"].unreadable == ("7: 7.wav: no sound", failures[1])
    assert read.absent == {"x-1": "[Errno 2] No such file: 'esc50.csv'"} and read.model == f"{tmp_path.name}/m"
    assert read.benchmarks["a-1"].details == {"incomplete": "no shard a-*.tar"}


def _damaged(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda values: values.update(version=2), "is of version 2, this lapis reads version 1"),
        (lambda values: values.update(format="other"), "holds no results of a run"),
        (lambda values: values.pop("suite"), "is damaged: it lacks 'suite'"),
        (lambda values: values.update(benchmarks=[1]), "is damaged"),
        (lambda values: values.update(model=3), "is damaged: expected words"),
        (lambda values: values["benchmarks"]["gtzan-zeroshot-1"].pop("protocol"), "is damaged: it lacks 'protocol'"),
        (lambda values: values["benchmarks"]["gtzan-zeroshot-1"].update(languages_in_training="maybe"), "is damaged"),
        (lambda values: values["benchmarks"]["gtzan-zeroshot-1"].update(num_clips="many"), "a number of num_clips"),
        (lambda values: values["benchmarks"]["gtzan-zeroshot-1"].update(colour=1), "unknown field 'colour'"),
        (lambda values: values["benchmarks"]["gtzan-zeroshot-1"]["items"]["accuracy"].pop(), "the mean of its 39"),
        (lambda values: values["benchmarks"]["gtzan-zeroshot-1"]["figures"]["accuracy"].update(unit="kg"), "'kg'"),
    ],
)
def test_another_version_or_damaged_values_are_refused(tmp_path, change, said):
    path = tmp_path / "run.json"
    results_file.write(runs.run(), path)
    _damaged(path, change)
    with pytest.raises(ValueError, match=f"run.json.*{said}"):
        results_file.read(path)


def test_cut_off_files_and_foreign_arrays_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(results_file, "ITEMS_IN_JSON", 0)
    path = tmp_path / "run.json"
    results_file.write(runs.run(), path)
    text, (arrays,) = path.read_text(), tmp_path.glob("*.npz")
    content = arrays.read_bytes()
    arrays.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="its checksum is another"):
        results_file.read(path)
    arrays.unlink()
    arrays.mkdir()
    with pytest.raises(ValueError, match=r"run-.*npz beside it, which cannot be read"):
        results_file.read(path)
    for wrong, said in ((text[:200], "is cut off"), ("[]", "expected an object"), ("", "is no JSON")):
        path.write_text(wrong)
        with pytest.raises(ValueError, match=said):
            results_file.read(path)
    with pytest.raises(ValueError, match="cannot be read"):
        results_file.read(tmp_path / "nothing.json")


def test_nothing_is_left_half_written(tmp_path):
    path = tmp_path / "run.json"
    results_file.write(runs.run(), path)
    before = path.read_bytes()
    bad = replace(runs.zeroshot(0, right=0.5), details={"loss": float("nan")})
    with pytest.raises(ValueError, match="cannot be written as JSON"):
        results_file.write(replace(runs.run(), benchmarks={"x-1": bad}), path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "change, said",
    [
        ({"figures": {"accuracy": Figure(float("nan"))}}, "not a finite number"),
        ({"figures": {"accuracy": Figure(0.9)}}, "the mean of its 40 items"),
        ({"items": {"other": np.ones(3)}}, "'other' have no figure"),
        ({"groups": {"accuracy": np.zeros(3, np.int64)}}, "not those of as many items"),
    ],
)
def test_a_measured_benchmark_agrees_with_itself(change, said):
    with pytest.raises(ValueError, match=said):
        replace(runs.zeroshot(0, right=0.5), **change)


def test_it_is_made_of_a_protocols_result_and_the_clips(tmp_path):
    clips, items = runs.clips(tmp_path), np.array([True, False, True, True])
    result = runs.MadeUp(
        figures={"accuracy": Figure(0.75), "median": Figure(1.0, unit="rank")},
        items={"accuracy": items.astype(np.float32)},
        groups={"accuracy": np.arange(4)},
        further={"prompts": {"dog": ("a dog",)}, "seeds": (1, 2), "unreadable": ("a: b",), "counts": np.eye(2)},
        chosen="Layer 2 of 3.",
    )
    made = Measured.of(result, clips=clips, seconds=1.5, languages=("eng_Latn",))
    assert made.protocol == "Counts what is right." and made.num_clips == 40 and made.domain == "sound"
    assert made.chosen == "Layer 2 of 3."
    assert made.prompts == {"dog": ["a dog"]} and made.seeds == (1, 2) and made.unreadable == ("a: b",)
    assert made.details == {"counts": [[1.0, 0.0], [0.0, 1.0]]} and made.languages == ("eng_Latn",)
    assert made.items["accuracy"].dtype == np.float64 and made.groups["accuracy"].tolist() == [0, 1, 2, 3]
    mixed = [replace(clips[0], domain="music"), *clips[1:]]
    assert Measured.of(result, clips=mixed).domain is None


def test_the_datas_checksum_tells_other_data_apart_and_not_other_places(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    clips = runs.clips(tmp_path / "a")
    checksum = data_checksum(clips)
    assert checksum == data_checksum(runs.clips(tmp_path / "b")) and len(checksum) == 64
    others = [
        clips[1:],
        clips[::-1],
        [replace(clips[0], key="x"), *clips[1:]],
        [replace(clips[0], label="cat"), *clips[1:]],
        [replace(clips[0], captions={"eng_Latn": ("another sound",)}), *clips[1:]],
        [replace(clips[0], transcript="word"), *clips[1:]],
    ]
    checksums = {data_checksum(other) for other in others}
    (tmp_path / "a" / "3.wav").write_bytes(b"longer than it was")
    checksums |= {data_checksum(clips)}
    (tmp_path / "a" / "3.wav").unlink()
    checksums |= {data_checksum(clips)}
    assert len(checksums | {checksum}) == len(others) + 3


def test_the_surroundings_name_what_decides_a_number():
    told = surroundings()
    assert {"device", "processor", "cores", "torch", "lapis", "numpy", "python"} <= told.keys()
    assert all(isinstance(value, str) and value for value in told.values())
