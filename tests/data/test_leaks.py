"""Leaks planted on purpose in training, on the pocket corpus, and on the pool where it is there."""

import io
import json
import os
import shutil
import tarfile
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lapis import audio
from lapis.data.ahead import Range
from lapis.data.encoding import Codec
from lapis.data.leaks.equal_words import captions_of_one, plain_words
from lapis.data.leaks.exclusion import Exclusion, clip_of, read_exclusion, write_exclusion
from lapis.data.leaks.fingerprint import fingerprint, similarity
from lapis.data.leaks.ids import ids_of
from lapis.data.leaks.sound_index import SoundIndex
from lapis.data.leaks.verify import find_leaks
from lapis.data.making import plan_digest
from lapis.data.mixture import Mixture, Part
from lapis.data.parquet import ParquetCell
from lapis.data.prepare import prepare
from lapis.data.sample import Location, Sample
from lapis.data.sources import HuggingFaceFolder, Table, TableCell, Tars
from lapis.data.storage import Thing
from lapis.files import data_path

RATE = 16_000
CROP = round(0.3 * RATE)
POOL = data_path("pool").absolute()


def _named(key="clip", *, path="nowhere/clip.wav", **given):
    return Sample(key, Location(Path(path)), **given)


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        (_named(source="youtube:dQw4w9WgXcQ"), {"youtube:dQw4w9WgXcQ"}),
        (_named(source="freesound:1234"), {"freesound:1234"}),
        (_named("YdQw4w9WgXcQ_30_40"), {"youtube:dQw4w9WgXcQ"}),
        (_named("dQw4w9WgXcQ_000030"), {"youtube:dQw4w9WgXcQ"}),
        (_named(path="audios/[dQw4w9WgXcQ]-[30-40].opus"), {"youtube:dQw4w9WgXcQ"}),
        (_named(path="eval/YdQw4w9WgXcQ.m4a"), {"youtube:dQw4w9WgXcQ"}),
        (_named("AudioSet_SL/Y---1_cccccb"), set()),
        (_named("AudioSet_SL/Yaaaabbbb_-c"), {"youtube:aaaabbbb_-c"}),
        (_named(source="a page", source_id="https://www.youtube.com/watch?t=3&v=dQw4w9WgXcQ"),
         {"youtube:dQw4w9WgXcQ", "a page:https://www.youtube.com/watch?t=3&v=dQw4w9WgXcQ"}),
        (_named(source="YouTube", source_id="dQw4w9WgXc_"), {"youtube:dQw4w9WgXc_", "YouTube:dQw4w9WgXc_"}),
        (_named(source="youtube:https://youtube.com/live/dQw4w9WgXcQ"),
         {"youtube:dQw4w9WgXcQ", "youtube:https://youtube.com/live/dQw4w9WgXcQ"}),
        (_named(source_id="https://freesound.org/people/somebody/sounds/77/"), {"freesound:77"}),
        (_named("77__somebody__door"), {"freesound:77"}),
        (_named("1-100032-A-0"), {"freesound:100032"}),
        (_named("100032-3-0-17.wav"), {"freesound:100032"}),
        (_named("FreeSound/4567"), {"freesound:4567"}),
        (_named(path="FSD50K.dev_audio/4567.wav"), {"freesound:4567"}),
        (_named(path="shard-000001.tar:77__somebody__door.flac"), {"freesound:77"}),
        (_named(source="donateacry", source_id="C421"), {"donateacry:C421"}),
        # Words, running numbers and names of speakers are no ids.
        (_named("instruments"), set()),
        (_named("clip0000004"), set()),
        (_named("00000000004"), set()),
        (_named("Instruments"), set()),
        (_named("4567"), set()),
        (_named("2021-03-04-05"), set()),
    ],
)  # fmt: skip
def test_recordings_are_recognised_by_name(sample, expected):
    assert ids_of(sample) == expected


def test_a_list_of_wavcaps_is_read_and_one_of_ours_is_read_by_its_readers(tmp_path):
    published = tmp_path / "theirs.json"
    published.write_text(json.dumps({"AudioSet": ["YdQw4w9WgXcQ.wav", "YYw4w9WgXcQQ.wav"], "FreeSound": ["12", 34]}))
    theirs = read_exclusion(published)
    assert theirs.ids == {"youtube:dQw4w9WgXcQ", "youtube:Yw4w9WgXcQQ", "freesound:12", "freesound:34"}
    whole = replace(theirs, ids=theirs.ids | {"bbc:7:8"}, clips=frozenset({("", "a"), ("pool", "b")}))
    write_exclusion(tmp_path / "ours.json", whole)
    assert read_exclusion(tmp_path / "ours.json") == whole
    values = json.loads((tmp_path / "ours.json").read_text())
    assert values["AudioSet"] == ["YYw4w9WgXcQQ.wav", "YdQw4w9WgXcQ.wav"] and values["FreeSound"] == ["12", "34"]


@pytest.mark.parametrize(
    "one",
    [
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
        "https://freesound.org/people/somebody/sounds/77/",
        "short",
        "eleven wörd",
        "77.wav",
        os.fsdecode(b"t\xf6ne"),
    ],
)
def test_whatever_a_corpus_says_is_written_so_that_it_is_read(tmp_path, one):
    for source in ("youtube", "freesound", os.fsdecode(b"\xf6")):
        sample = _named(one, source=source, source_id=one)
        whole = Exclusion(ids_of(sample), frozenset({clip_of(sample)}))
        write_exclusion(tmp_path / "list.json", whole)
        assert read_exclusion(tmp_path / "list.json") == whole and whole.reason(sample)
        values = json.loads((tmp_path / "list.json").read_text())
        assert set(values["AudioSet"]) <= {"YdQw4w9WgXcQ.wav"} and set(values["FreeSound"]) <= {"77"}
        assert bool(values["AudioSet"]) == ("youtube.com" in one)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected lists named AudioSet, FreeSound, recordings, clips, got list"),
        ('{"Audioset": []}', "got \\['Audioset'\\]"),
        ('{"AudioSet": ["short.wav"]}', "11 letters under 'AudioSet', got 'short.wav'"),
        ('{"FreeSound": "12"}', "expected a list under 'FreeSound', got str"),
        ('{"clips": ["a"]}', "objects with 'source' and 'key'"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "list.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_exclusion(path)
    with pytest.raises(ValueError, match="there is no such file"):
        read_exclusion(tmp_path / "none.json")


def test_captions_are_equal_but_for_case_and_punctuation():
    assert plain_words("A dog  barks, twice; loudly!") == plain_words("a DOG barks twice loudly")
    assert plain_words("Café au lait à la maison") == plain_words("cafe\u0301 au lait a\u0300 la maison")
    assert plain_words("a dog barks") == ""
    assert plain_words("一个人在厨房里切菜和洗碗") != ""
    several, own = ("a dog barks in the yard",), ("an old dog barks in the yard",)
    samples = [_named("a", captions={"eng_Latn": several + own}), _named("b", captions={"eng_Latn": several})]
    assert captions_of_one(samples) == {plain_words(own[0]): 0}


@dataclass(frozen=True)
class Given:
    """A source of samples that are there."""

    samples: tuple[Sample, ...]

    def build(self):
        return list(self.samples)


@pytest.mark.parametrize("pattern", ["pocket/pocket-test-*.tar", "pocket/pocket-val-*.tar"])
def test_a_part_leaves_out_what_is_on_its_list(tmp_path, pattern):
    samples = Tars(pattern).build()
    banned = samples[3]
    write_exclusion(tmp_path / "list.json", Exclusion(clips=frozenset({(banned.source or "", banned.key)})))
    given = Given(tuple(samples[place] for place in range(6)))
    for source, count in ((given, 6), (Tars(pattern), len(samples))):
        mixture = Mixture.Config((Part(source, exclude=str(tmp_path / "list.json")),)).build(seed=0)
        assert mixture.rejected["clip on the black-list"] == 1
        assert "left out: 1 x clip on the black-list" in str(mixture)
        assert len(mixture.sources[0]) == count - 1
        keys = {mixture.sources[0][place].key for place in range(count - 1)}
        assert banned.key not in keys and len(keys) == count - 1


def test_a_list_holds_before_and_after_a_corpus_is_prepared(tmp_path):
    """Tars have other keys: no dots, and a number behind equal ones."""
    names = ["one.a.wav", "one_a_wav", "YdQw4w9WgXcQ.wav", os.fsdecode(b"t\xf6ne"), "last.wav"]
    (tmp_path / "a.wav").write_bytes(_encoded(np.zeros(RATE), format="WAV", subtype="PCM_16"))
    rows = [json.dumps({"key": name, "audio": "a.wav", "caption": "a"}) for name in names]
    (tmp_path / "table.jsonl").write_text("\n".join(rows))
    table = Table(str(tmp_path / "table.jsonl"))
    samples = table.build()
    prepare(table, out=tmp_path / "out", codec=Codec("flac"), workers=1)
    exclusion = Exclusion(frozenset({"youtube:dQw4w9WgXcQ"}), frozenset(map(clip_of, (samples[0], samples[3]))))
    write_exclusion(tmp_path / "list.json", exclusion)
    banned = read_exclusion(tmp_path / "list.json")
    for source in (table, Tars(str(tmp_path / "out" / "*.tar"))):
        assert [sample.key for sample in source.build() if not banned.reason(sample)] == ["one_a_wav", "last.wav"]
    again = prepare(Tars(str(tmp_path / "out" / "*.tar")), out=tmp_path / "two", codec=Codec("flac"), workers=1)
    assert again.clips == 5
    kept = [one.key for one in Tars(str(tmp_path / "two" / "*.tar")).build() if not banned.reason(one)]
    assert kept == ["one_a_wav", "last.wav"]


def _encoded(waveform, *, format, subtype, **more):
    buffer = io.BytesIO()
    soundfile.write(buffer, waveform, RATE, format=format, subtype=subtype, **more)
    return buffer.getvalue()


def _opus(waveform):
    """At about 24 kb/s, which libsndfile calls so much of its compression."""
    return _encoded(waveform, format="OGG", subtype="OPUS", compression_level=0.928)


def _mp3(waveform):
    return _encoded(waveform, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.9)


PLANTED = {
    "opus": ("opus", _opus),
    "mp3": ("mp3", _mp3),
    "cropped": ("flac", lambda waveform: _encoded(waveform[CROP:], format="FLAC", subtype="PCM_16")),
    "gain": ("flac", lambda waveform: _encoded(0.25 * waveform, format="FLAC", subtype="PCM_16")),
    "cropped, gain, opus": ("opus", lambda waveform: _opus(0.5 * waveform[CROP:])),
    "container": ("wav", lambda waveform: _encoded(waveform, format="WAV", subtype="FLOAT")),
}


def _plant(path, victims, *, decoys):
    """A tar of training: each of the victims in every disguise, under a name that tells nothing, among other clips."""
    with tarfile.open(path, "w") as tar:

        def add(name, content):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))

        for place, victim in enumerate([*victims, *decoys]):
            waveform = audio.read(victim.audio.open(), sample_rate=RATE)
            for kind, (suffix, disguise) in PLANTED.items() if place < len(victims) else [("decoy", PLANTED["opus"])]:
                add(f"planted {place} {kind}.{suffix}", disguise(waveform))
                add(f"planted {place} {kind}.json", json.dumps({"captions": {"eng_Latn": ["planted"]}}).encode())


def _check_planted(tmp_path, benchmark, training, *, count, decoys):
    """Plant clips of `benchmark` that last a second or more among clips of `training`, and find all of them."""
    samples = benchmark.build()
    usable = (samples[place] for place in range(len(samples)))
    victims = list(islice((one for one in usable if (one.seconds or 0) >= 1 and _tells(one)), count))
    others = training.build()
    _plant(tmp_path / "train.tar", victims, decoys=[others[place] for place in range(decoys)])
    leaks = find_leaks([Part(Tars(str(tmp_path / "train.tar")))], against={"test": benchmark})
    found = {(one.key, one.test_key): one for one in leaks.offenders}
    planted = {(f"planted {place} {kind}", one.key) for place, one in enumerate(victims) for kind in PLANTED}
    assert not planted - found.keys()
    assert leaks.clips == count * len(PLANTED) + decoys and leaks.unreadable == 0
    for key, test_key in planted:
        assert ("container" in key) == (found[key, test_key].reason == "equal sound")
    return found, planted, leaks


def _tells(sample):
    """Whether there is something to be recognised by behind the first 300 ms.

    Of a hum under the steps of 16 bits no codec keeps anything, and a synthesiser's note whose beginning is cut off is
    a steady tone as others are.
    """
    waveform = audio.read(sample.audio.open(), sample_rate=RATE)
    frames = np.sqrt(np.square(waveform[: len(waveform) // 800 * 800].reshape(-1, 800)).mean(1))
    return np.median(frames) > 0.01 and np.bitwise_count(fingerprint([waveform[CROP:]]).strong).mean() > 6


def test_equal_sound_is_equal_in_any_container():
    random = np.random.default_rng(0)
    steps = random.integers(-32768, 32768, 3 * RATE).astype(np.int16)
    forms = [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("AIFF", "PCM_16"), ("FLAC", "PCM_24")]
    contents = [_encoded(steps, format=format, subtype=subtype) for format, subtype in forms]
    digests = {fingerprint(audio.chunks(content, sample_rate=RATE)).digest for content in contents}
    assert len(digests) == 1 and digests != {b""}
    steps[RATE] ^= 1
    other = _encoded(steps, format="WAV", subtype="PCM_16")
    assert fingerprint(audio.chunks(other, sample_rate=RATE)).digest not in digests
    assert fingerprint([np.zeros(RATE, np.float32)]).digest == b""


def test_a_fingerprint_does_not_depend_on_the_pieces_a_sound_comes_in():
    random = np.random.default_rng(1)
    waveform = 0.1 * random.standard_normal(90 * RATE, np.float32) * np.linspace(0.2, 1, 90 * RATE, dtype=np.float32)
    whole = fingerprint([waveform])
    pieces = fingerprint(np.array_split(waveform, 37))
    assert whole.digest == pieces.digest and len(whole) == (90 * RATE - 1024) // 256 + 1 - 4
    assert np.array_equal(whole.grown, pieces.grown) and np.array_equal(whole.strong, pieces.strong)
    assert similarity(whole, pieces, shift=0) == (1.0, len(whole))
    cut = fingerprint([waveform[100 * 256 :]])
    assert similarity(cut, whole, shift=100)[0] > 0.999
    assert abs(similarity(cut, whole, shift=50)[0]) < 0.1


def test_a_clip_within_a_long_one_is_found_whichever_is_the_test():
    random = np.random.default_rng(2)
    long = 0.1 * random.standard_normal(120 * RATE, np.float32)
    short = long[47 * RATE + 77 :][: round(0.8 * RATE)]
    prints = [fingerprint([long]), fingerprint([short])]
    others = [fingerprint([0.1 * random.standard_normal(RATE, np.float32)]) for _ in range(20)]
    for looked_up, there in (prints, prints[::-1]):
        (match,) = SoundIndex([*others, there]).matches(looked_up)
        assert match.number == 20 and match.likeness > 0.8 and match.frames == len(prints[1])
    assert SoundIndex([]).matches(prints[0]) == []
    assert SoundIndex(others).matches(fingerprint([np.zeros(100, np.float32)])) == []


def test_leaks_planted_in_the_pocket_corpus_are_found(tmp_path):
    benchmark, training = Tars("pocket/pocket-val-*.tar"), Tars("pocket/pocket-train-000000.tar")
    found, planted, leaks = _check_planted(tmp_path, benchmark, training, count=4, decoys=20)
    assert found.keys() == planted
    assert leaks.counts == {"nearly equal sound": 4 * (len(PLANTED) - 1), "equal sound": 4}
    write_exclusion(tmp_path / "list.json", leaks.exclusion)
    part = Part(Tars(str(tmp_path / "train.tar")), exclude=str(tmp_path / "list.json"))
    again = find_leaks([part], against={"test": benchmark})
    assert not again.offenders and again.excluded == 24 and again.clips == 20


@pytest.mark.skipif(not POOL.is_dir(), reason="no folder `pool` in $LAPIS_DATA")
@pytest.mark.parametrize("source", ["urbansound8k", "kitchen20", "kerstin", "sampled", "arabic-speech-commands"])
def test_leaks_planted_in_the_pool_are_found(tmp_path, source):
    benchmark = Tars(str(POOL / f"{source}-val-000000.tar"))
    training = Tars(str(POOL / f"{source}-train-000000.tar"))
    _check_planted(tmp_path, benchmark, training, count=4, decoys=10)


def test_recordings_and_captions_need_no_sound(tmp_path):
    words = {"eng_Latn": ("Rain falls on a tin roof.",)}
    test = Given((_named("YdQw4w9WgXcQ"), _named("t", captions=words)))
    train = Given((
        _named("a", source="youtube:dQw4w9WgXcQ"),
        _named("b", captions={"eng_Latn": ("rain falls on a tin roof",)}),
        _named("c", captions={"eng_Latn": ("something else is heard here",)}),
    ))  # fmt: skip
    leaks = find_leaks([Part(train)], against={"test": test}, sound=False)
    assert [(one.key, one.test_key, one.reason, one.detail) for one in leaks.offenders] == [
        ("a", "YdQw4w9WgXcQ", "same recording", "youtube:dQw4w9WgXcQ"),
        ("b", "t", "equal caption", "rain falls on a tin roof"),
    ]
    assert not find_leaks(
        [Part(train)], against={"test": Given((test.samples[1],))}, sound=False, captions=False
    ).offenders
    # What more than three clips of training have is said of a class.
    for count, found in ((3, 3), (4, 0)):
        several = Given(tuple(_named(f"b{n}", path=f"nowhere/{n}.wav", captions=words) for n in range(count)))
        assert len(find_leaks([Part(several)], against={"test": test}, sound=False).offenders) == found
    unread = find_leaks([Part(train)], against={"test": test})
    assert unread.unreadable == 5 and len(unread.offenders) == 2 and "no file of this name" in unread.problems[0][1]


def test_nothing_is_not_compared_with_nothing():
    some, none = Given((_named("a"),)), Given(())
    with pytest.raises(ValueError, match="expected a benchmark to compare with"):
        find_leaks([Part(some)], against={}, sound=False)
    with pytest.raises(ValueError, match="the benchmark test has no clips"):
        find_leaks([Part(some)], against={"other": some, "test": none}, sound=False)
    with pytest.raises(ValueError, match="has no clips: expected some to be trained on"):
        find_leaks([Part(some), Part(none)], against={"test": some}, sound=False)


def _saved_table(path, sounds):
    datasets = pytest.importorskip("datasets")
    values = {"audio": [{"bytes": sound, "path": None} for sound in sounds], "caption": ["a"] * len(sounds)}
    datasets.Dataset.from_dict(values).save_to_disk(str(path / "new"))
    shutil.rmtree(path / "table", ignore_errors=True)
    (path / "new").rename(path / "table")
    return HuggingFaceFolder(str(path / "table"))


def test_other_sound_under_the_same_words_is_seen(tmp_path):
    """Of a data set that was saved anew nothing else tells, and of an object store neither."""
    noises = np.random.default_rng(3).standard_normal((3, RATE)) / 10
    sounds = [_encoded(noise, format="WAV", subtype="FLOAT") for noise in noises]
    test = _saved_table(tmp_path / "test", sounds[:1])
    assert not find_leaks([Part(_saved_table(tmp_path / "train", sounds[1:]))], against={"test": test}).offenders
    train = _saved_table(tmp_path / "train", sounds[:1] + sounds[2:])
    assert [one.key for one in find_leaks([Part(train)], against={"test": test}).offenders] == ["0"]

    thing = Thing("s3://a/b.tar", 5000, "one")
    digests = {
        plan_digest([Sample("a", of)])
        for of in (
            Range(thing, 512, 100, "a.flac"),
            Range(replace(thing, mark="another"), 512, 100, "a.flac"),
            Range(thing, 1024, 100, "a.flac"),
        )
    }
    assert len(digests) == 3


def test_a_file_that_a_saved_table_names_is_looked_at(tmp_path):
    datasets = pytest.importorskip("datasets")
    path = tmp_path / "a.wav"
    table = datasets.Dataset.from_dict({"audio": [str(path)]}).cast_column("audio", datasets.Audio(decode=False))
    digests = set()
    for size in (1, 2):
        path.write_bytes(b"0" * size)
        cells = (
            TableCell(table, 0, "audio", "table"),
            ParquetCell(tmp_path / "table.parquet", 0, 0, "audio", 1, "a.wav"),
        )
        digests |= {plan_digest([Sample("0", cell)]) for cell in cells}
    assert len(digests) == 4
    assert plan_digest([Sample("0", TableCell(table, 0, "audio", "table"))]) in digests


def test_damaged_fingerprints_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_CACHE", str(tmp_path))
    given = Given((_named("a"),))
    find_leaks([Part(given)], against={"test": given})
    (path,) = (tmp_path / "fingerprints").glob("*.npz")
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:-30]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is damaged .* delete it"):
            find_leaks([Part(given)], against={"test": given})
