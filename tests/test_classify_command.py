"""Names and sounds: the same as plain products, whatever the length of a sound and whatever goes together."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
import soundfile

import tiny
from lapis import calibration, saved
from lapis.data.sample import Location
from lapis.evaluation.zeroshot import class_vectors
from lapis.hub import load
from lapis.search.classify import Classes, classify_clips, ensembled
from lapis.search.clips import Clip, find_clips

RATE = 16_000


@dataclass
class Loudness:
    """Hears how loud a sound is: its vector turns from one axis to another; shouting is refused."""

    identity: str = "loudness"
    sample_rate: int = RATE
    width: int = 8

    def embed_audio(self, waveforms):
        if any(np.abs(of).max() > 0.95 for of in waveforms):
            raise ValueError("too loud")
        angles = np.array([np.abs(of).mean() * np.pi / 2 for of in waveforms])
        found = np.zeros((len(angles), 8), np.float32)
        found[:, 0], found[:, 1] = np.cos(angles), np.sin(angles)
        return found

    def embed_text(self, texts):
        return np.eye(8, dtype=np.float32)[[int(text) for text in texts]]


CLASSES = Classes(("quiet", "loud", "other"), np.eye(8, dtype=np.float32)[:3])


def write(path, *levels, seconds=1.0):
    """So many seconds of each level."""
    soundfile.write(path, np.repeat(levels, round(seconds * RATE)), RATE, subtype="FLOAT")
    return Clip(path.name, Location(path))


def vector(level):
    return np.array([np.cos(level * np.pi / 2), np.sin(level * np.pi / 2)])


def test_a_long_sound_is_the_mean_of_its_windows_or_each_of_them(tmp_path):
    long, short = write(tmp_path / "long.wav", 0.1, 0.5, 0.9, seconds=5.0), write(tmp_path / "short.wav", 0.8)
    for batch_seconds in (0.5, 12.0, 1000.0):
        whole = list(
            classify_clips([long, short], classes=CLASSES, embedder=Loudness(), top=2, batch_seconds=batch_seconds)
        )
        assert [(of.begin_seconds, of.end_seconds, len(of.named)) for of in whole] == [(0.0, 15.0, 2), (0.0, 1.0, 2)]
        # Two windows, of ten and five seconds.
        total = 10 * vector(0.3) + 5 * vector(0.9)
        expected = dict(zip(("quiet", "loud"), total / np.linalg.norm(total)))
        assert {of.label: of.score for of in whole[0].named} == pytest.approx(expected, abs=1e-5)
        assert [of.named[0].label for of in whole] == ["quiet", "loud"] and whole[0].nothing_matches is None
    rows = list(classify_clips([long, short], classes=CLASSES, embedder=Loudness(), every_seconds=5.0))
    assert [(of.begin_seconds, of.end_seconds) for of in rows] == [(0.0, 5.0), (5.0, 10.0), (10.0, 15.0), (0.0, 1.0)]
    assert [of.named[0].label for of in rows] == ["quiet", "quiet", "loud", "loud"]
    assert rows[2].named[0].score == pytest.approx(vector(0.9)[1], abs=1e-6)


@pytest.mark.parametrize("batch_seconds", [0.5, 1000.0])
def test_what_is_bad_says_so_in_its_place_and_costs_nothing_else(tmp_path, batch_seconds):
    (tmp_path / "noise.wav").write_bytes(b"no sound")
    clips = [
        write(tmp_path / "a.wav", 0.2),
        Clip("noise.wav", Location(tmp_path / "noise.wav")),
        write(tmp_path / "shouting.wav", 0.2, 0.99, 0.2, seconds=10.0),
        write(tmp_path / "b.wav", 0.9),
        Clip("row 3", Location(tmp_path / "t.csv"), "an empty cell"),
    ]
    rows = list(classify_clips(clips, classes=CLASSES, embedder=Loudness(), batch_seconds=batch_seconds))
    assert [of.path.rpartition("/")[2] for of in rows] == ["a.wav", "noise.wav", "shouting.wav", "b.wav", "t.csv"]
    assert [of.error is None for of in rows] == [True, False, False, True, False]
    assert "too loud" in rows[2].error and rows[4].error == "an empty cell"
    in_time = list(
        classify_clips(
            clips[2:3], classes=CLASSES, embedder=Loudness(), every_seconds=10.0, batch_seconds=batch_seconds
        )
    )
    assert [of.begin_seconds for of in in_time] == [0.0, None]


@pytest.mark.parametrize("batch_seconds", [0.5, 1000.0])
def test_the_windows_before_a_damage_are_told(tmp_path, batch_seconds):
    """Of one that breaks off too: its windows wait for the model when that is found out."""
    good = write(tmp_path / "a.wav", 0.2, seconds=3.0)
    breaks = tmp_path / "breaks.wav"
    samples = np.full(3 * RATE, 0.9, np.float32)
    samples[-1] = np.nan
    soundfile.write(breaks, samples, RATE, subtype="FLOAT")
    options = {"classes": CLASSES, "embedder": Loudness(), "batch_seconds": batch_seconds}
    rows = list(classify_clips([Clip("b", Location(breaks)), good], every_seconds=1.0, **options))
    assert [of.begin_seconds for of in rows] == [0.0, 1.0, None, 0.0, 1.0, 2.0] and "NaN" in rows[2].error
    assert rows[1].named[0].label == "loud"
    (whole, _) = classify_clips([Clip("b", Location(breaks)), good], **options)
    assert "NaN" in whole.error


def test_what_cannot_be_read_is_told_as_it_comes(tmp_path):
    def clips():
        for number in range(1000):
            told.append(number)
            yield Clip(str(number), Location(tmp_path / f"{number}.wav"))

    told: list[int] = []
    rows = classify_clips(clips(), classes=CLASSES, embedder=Loudness())
    assert next(rows).error and len(told) < 500 and len(list(rows)) == 999


def test_names_stand_by_their_cosine_and_with_a_calibration_by_what_it_makes_of_it():
    of = tiny.calibration("loudness", centre=(0.0, 0.6, *[0.0] * 6), background_weight=-1.0, least_score=0.65)
    sound = vector(0.5)  # as near to both
    sound = np.array([sound[0] - 0.01, sound[1] + 0.01, *[0.0] * 6])
    plain, meant = CLASSES.named(sound), Classes(CLASSES.labels, CLASSES.vectors, of).named(sound)
    assert [one.label for one in plain] == ["loud", "quiet", "other"] and plain[0].probability is None
    # Much is loud, so that says little.
    assert [one.label for one in meant] == ["quiet", "loud", "other"] and [one.heard for one in meant] == [
        True,
        False,
        False,
    ]
    wanted = of.meaning(CLASSES.vectors, clips=sound[None].astype(np.float32))
    assert {one.label: one.probability for one in meant} == pytest.approx(
        dict(zip(CLASSES.labels, wanted.probability[:, 0]))
    )
    with pytest.raises(ValueError, match="not finite"):
        CLASSES.named(np.full(8, np.nan))
    with pytest.raises(ValueError, match="vector of label 'b' is not finite"):
        Classes(("a", "b"), np.array([[1.0], [np.nan]], np.float32))


def test_several_sentences_are_one_vector_as_in_evaluation():
    model = tiny.model()
    prompts = {"dog": ("a dog", "dogs bark"), "rain": ("rain",)}
    vectors = model.embed_text(["a dog", "dogs bark", "rain"])
    mean = vectors[:2].astype(np.float64).mean(axis=0)
    found = ensembled(vectors, counts=[2, 1])
    assert found[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6) and found[1] == pytest.approx(vectors[2])
    assert (class_vectors(model, prompts=prompts) == found).all()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    saved.save(tiny.model(0), folder)
    return folder


@pytest.fixture
def sounds(tmp_path):
    (tmp_path / "sounds").mkdir()
    noise = np.random.default_rng(0)
    for number in range(3):
        soundfile.write(tmp_path / "sounds" / f"{number}.wav", noise.normal(size=RATE * 2) * 0.1, RATE)
    return tmp_path / "sounds"


def test_the_command_tells_lines_json_and_a_table(lapis, model, sounds, tmp_path):
    said = lapis("classify", sounds, "--model", model, "--labels", "dog, rain,Hund", "--top", "2")
    assert said.returncode == 0 and len(said.stdout.splitlines()) == 3
    assert "cosines alone" in said.stderr and "3 sounds classified, 0 unreadable" in said.stderr
    embedder = load(model)
    cosine = (
        embedder.embed_text(["dog", "rain", "Hund"])
        @ embedder.embed_audio([soundfile.read(sounds / "0.wav", dtype="float32")[0]])[0]
    )
    best = ["dog", "rain", "Hund"][int(cosine.argmax())]
    assert f"0.wav 0.0-2.0 s: {best} {cosine.max():.3f}, " in said.stdout.splitlines()[0]
    (sounds / "bad.wav").write_bytes(b"bad")
    (tmp_path / "names.txt").write_text("dog\n\nrain, heavy\n")
    asked = ("classify", sounds, "--model", model, "--labels-file", tmp_path / "names.txt", "--every", "1", "--json")
    said = lapis(*asked, "--csv", tmp_path / "t.csv", "--template", "the sound of {}", "--template", "{}!")
    rows = [json.loads(line) for line in said.stdout.splitlines()]
    assert said.returncode == 1 and len(rows) == 7 and [of["begin_seconds"] for of in rows[:2]] == [0.0, 1.0]
    assert {of["label"] for of in rows[0]["named"]} == {"dog", "rain, heavy"} and rows[-1]["error"]
    assert "3 sounds classified, 1 unreadable" in said.stderr
    twice = lapis("classify", *[sounds / "bad.wav"] * 2, sounds / "0.wav", "--model", model, "--labels", "dog")
    assert "1 sounds classified, 2 unreadable" in twice.stderr
    table = (tmp_path / "t.csv").read_text().splitlines()
    assert (
        table[0].startswith("path,begin_seconds")
        and len(table) == 1 + 6 * 2 + 1
        and '"rain, heavy"' in table[1] + table[2]
    )


def test_classes_of_data_sets_and_nothing_that_matches(lapis, model, sounds, tmp_path):
    calibration.write(tiny.calibration(load(model), least_score=2.0), model)
    try:
        said = lapis(
            "classify", sounds / "0.wav", "--model", model, "--class-list", "esc50", "--language", "deu_Latn", "--json"
        )
        told = json.loads(said.stdout)
        assert said.returncode == 0 and told["nothing_matches"] is True and len(told["named"]) == 5
        assert all(0 < of["probability"] < 1 for of in told["named"])
        said = lapis("classify", sounds / "0.wav", "--model", model, "--labels", "dog,rain", "--style", "glap")
        assert "nothing matches; nearest " in said.stdout and "%" in said.stdout
    finally:
        (model / calibration.NAME).unlink()


def test_mistakes_are_one_sentence(lapis, model, sounds, tmp_path):
    (tmp_path / "empty.txt").write_text("\n")
    for words, message in (
        ((), "one of them"),
        (("--labels", "a", "--class-list", "esc50"), "one of them"),
        (("--labels", "a,,b"), "an empty one"),
        (("--labels", "a,b,a"), "'a' stands there twice"),
        (("--labels-file", tmp_path / "empty.txt"), "there is none"),
        (("--labels-file", tmp_path / "none.txt"), "none.txt"),
        (("--class-list", "esc5"), "esc50"),
        (("--labels", "a", "--template", "x"), "expected {} in it"),
        (("--labels", "a", "--top", "0"), "above zero"),
        (("--labels", "a", "--every", "-1"), "above zero"),
    ):
        said = lapis("classify", sounds, "--model", model, *words)
        assert said.returncode == 2 and message in said.stderr and len(said.stderr.splitlines()) == 1, said.stderr
    said = lapis("classify", sounds / "none", "--model", model, "--labels", "a")
    assert said.returncode == 2 and "but there is none" in said.stderr


def test_an_empty_folder_has_no_rows(tmp_path):
    assert list(classify_clips(find_clips([tmp_path]), classes=CLASSES, embedder=Loudness())) == []
    with pytest.raises(ValueError, match="above zero"):
        list(classify_clips([], classes=CLASSES, embedder=Loudness(), every_seconds=0.0))
