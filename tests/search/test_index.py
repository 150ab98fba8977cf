"""The index: incremental, honest about unreadable files, whole after a crash, and right about what sounds alike."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tones import SAMPLE_RATE, ToneEmbedder, tone, write_sound, write_tone

import tiny
from lapis.calibration import Calibration
from lapis.search import hearing_files
from lapis.search.claims import Claims
from lapis.search.index import METADATA_NAME, TABLE_NAME, Index, nothing_matches


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    folder = tmp_path / "sounds"
    write_tone(folder / "low.wav", 300)
    write_tone(folder / "deep" / "high.wav", 1000)
    write_tone(folder / "both.wav", 300, 1000)
    return folder


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return make_index(tmp_path / "index", window_seconds=2.0)


def make_index(folder: Path, **changes) -> Index:
    embedder = ToneEmbedder()
    return Index.create_or_open(folder, embedder_identity=embedder.identity, width=embedder.width, **changes)


def counts(report) -> dict[str, int]:
    return {name: getattr(report, name) for name in ("added", "unchanged", "changed", "removed", "windows")}


def windows_of(index: Index) -> list[tuple[str, int]]:
    rows = index.table.search().select(["path", "window"]).to_arrow().to_pylist()
    return sorted((row["path"], row["window"]) for row in rows)


def test_words_find_the_sound_they_mean(index, sounds):
    index.update(sounds, embedder=ToneEmbedder())
    hits = index.search_text("high tone", embedder=ToneEmbedder())
    assert [hit.path.name for hit in hits] == ["high.wav", "both.wav", "low.wav"]
    np.testing.assert_allclose([hit.score for hit in hits], [1, np.sqrt(0.5), 0], atol=1e-2)
    assert (hits[0].start_seconds, hits[0].end_seconds) == (0.0, 1.0)
    assert hits[0].path == (sounds / "deep" / "high.wav").resolve()


def test_search_equals_a_plain_cosine_over_all_windows(index, tmp_path):
    generator = np.random.default_rng(0)
    folder = tmp_path / "mixed"
    clips = {}
    for number in range(12):
        clips[f"{number}.wav"] = sum(
            loudness * tone(hertz) for loudness, hertz in zip(generator.random(5), (100, 300, 600, 1000, 3000))
        )
        write_sound(folder / f"{number}.wav", clips[f"{number}.wav"])
    index.update(folder, embedder=ToneEmbedder())
    query = generator.random(5)
    cosine = {name: float(ToneEmbedder()._bands(clip) @ query / np.linalg.norm(query)) for name, clip in clips.items()}
    expected = sorted(cosine, key=cosine.__getitem__, reverse=True)[:7]
    hits = index.search(query, limit=7)
    assert [hit.path.name for hit in hits] == expected
    np.testing.assert_allclose([hit.score for hit in hits], [cosine[name] for name in expected], atol=1e-3)


def test_a_clip_finds_what_sounds_like_it(index, sounds, tmp_path):
    index.update(sounds, embedder=ToneEmbedder())
    hits = index.search_like(write_tone(tmp_path / "query.wav", 310), embedder=ToneEmbedder(), limit=2)
    assert [hit.path.name for hit in hits] == ["low.wav", "both.wav"]


def test_a_long_query_is_the_mean_of_its_windows(index, sounds, tmp_path):
    index.update(sounds, embedder=ToneEmbedder())
    half_and_half = np.concatenate([tone(300, seconds=2), tone(1000, seconds=2)])
    (best, *_) = index.search_like(write_sound(tmp_path / "query.wav", half_and_half), embedder=ToneEmbedder())
    assert best.path.name == "both.wav"
    assert best.score == pytest.approx(1, abs=1e-3)


def test_a_second_update_reads_nothing(index, sounds):
    assert counts(index.update(sounds, embedder=ToneEmbedder())) == {
        "added": 3, "unchanged": 0, "changed": 0, "removed": 0, "windows": 3,
    }  # fmt: skip
    listener = ToneEmbedder()
    assert counts(index.update(sounds, embedder=listener)) == {
        "added": 0, "unchanged": 3, "changed": 0, "removed": 0, "windows": 0,
    }  # fmt: skip
    assert listener.seconds_heard == []


def test_added_changed_and_removed_files(index, sounds):
    write_tone(sounds / "long.wav", 300, seconds=5)
    index.update(sounds, embedder=ToneEmbedder())
    write_tone(sounds / "new.wav", 100)
    write_tone(sounds / "long.wav", 1000, seconds=3)
    (sounds / "low.wav").unlink()
    assert counts(index.update(sounds, embedder=ToneEmbedder())) == {
        "added": 1, "unchanged": 2, "changed": 1, "removed": 1, "windows": 3,
    }  # fmt: skip
    assert [(Path(path).name, window) for path, window in windows_of(index)] == [
        ("both.wav", 0), ("high.wav", 0), ("long.wav", 0), ("long.wav", 1), ("new.wav", 0),
    ]  # fmt: skip
    names = [hit.path.name for hit in index.search_text("high", embedder=ToneEmbedder(), limit=2)]
    assert sorted(names) == ["high.wav", "long.wav"]


def test_a_subfolder_can_be_updated_alone(index, sounds):
    index.update(sounds, embedder=ToneEmbedder())
    (sounds / "low.wav").unlink()
    write_tone(sounds / "deep" / "high.wav", 1000, seconds=1.5)
    report = index.update(sounds / "deep", embedder=ToneEmbedder())
    assert counts(report) == {"added": 0, "unchanged": 0, "changed": 1, "removed": 0, "windows": 1}
    assert [path.name for path in index.paths] == ["both.wav", "high.wav", "low.wav"]
    assert index.num_windows == 3


def test_a_long_file_is_many_windows_and_the_best_one_speaks_for_it(index, sounds):
    parts = [tone(300, seconds=2), tone(300, seconds=2), tone(3000, seconds=2), tone(300, seconds=1)]
    write_sound(sounds / "long.wav", np.concatenate(parts))
    index.update(sounds, embedder=ToneEmbedder(), batch_seconds=3.0)
    (best, *rest) = index.search_text("hiss", embedder=ToneEmbedder())
    assert (best.path.name, best.start_seconds, best.end_seconds) == ("long.wav", 4.0, 6.0)
    assert best.path not in [hit.path for hit in rest]
    windows = [
        hit for hit in index.search_text("hiss", embedder=ToneEmbedder(), per_file=False) if hit.path == best.path
    ]
    assert sorted(hit.start_seconds for hit in windows) == [0.0, 2.0, 4.0, 6.0]


def test_one_file_that_owns_the_nearest_windows_does_not_hide_the_others(tmp_path, sounds):
    index = make_index(tmp_path / "index", window_seconds=0.1)
    write_tone(sounds / "long.wav", 1010, seconds=8)
    index.update(sounds / "long.wav" / "..", embedder=ToneEmbedder())
    hits = index.search_text("high", embedder=ToneEmbedder(), limit=3)
    assert sorted(hit.path.name for hit in hits) == ["both.wav", "high.wav", "long.wav"]


def test_windows_may_overlap(tmp_path, sounds):
    index = make_index(tmp_path / "index", window_seconds=0.5, hop_seconds=0.25)
    index.update(sounds, embedder=ToneEmbedder())
    hits = index.search_text("low", embedder=ToneEmbedder(), limit=50, per_file=False)
    starts = sorted(hit.start_seconds for hit in hits if hit.path.name == "low.wav")
    assert starts[:3] == [0.0, 0.25, 0.5]


def test_the_model_hears_bounded_batches_and_one_window_at_most(index, sounds):
    write_tone(sounds / "long.wav", 300, seconds=30)
    batches = []

    class Watching(ToneEmbedder):
        def embed_audio(self, waveforms):
            batches.append(sum(map(len, waveforms)) / SAMPLE_RATE)
            assert max(map(len, waveforms)) <= 2 * SAMPLE_RATE
            return super().embed_audio(waveforms)

    index.update(sounds, embedder=Watching(), batch_seconds=4.0)
    assert max(batches) < 4 + 2
    assert sum(batches) == pytest.approx(33)


def test_unreadable_files_are_reported_and_do_not_stop_the_rest(index, sounds):
    (sounds / "text.wav").write_text("this is not sound")
    (sounds / "empty.wav").touch()
    report = index.update(sounds, embedder=ToneEmbedder())
    assert counts(report) == {"added": 3, "unchanged": 0, "changed": 0, "removed": 0, "windows": 3}
    failed = {path.name: reason for path, reason in report.failed}
    assert set(failed) == {"text.wav", "empty.wav"}
    assert "expected a sound file" in failed["text.wav"]
    assert "0 bytes" in failed["empty.wav"]
    assert {path.name for path in index.paths} == {"low.wav", "high.wav", "both.wav"}


def test_a_file_that_fails_in_the_middle_leaves_nothing_of_itself(index, sounds, monkeypatch):
    def blocks(source, **options):
        for number, block in enumerate(genuine(source, **options)):
            if Path(source).name == "long.wav" and number == 3:
                raise OSError("the disk stopped here")
            yield block

    genuine = hearing_files.audio.blocks
    monkeypatch.setattr(hearing_files.audio, "blocks", blocks)
    write_tone(sounds / "long.wav", 300, seconds=10)
    report = index.update(sounds, embedder=ToneEmbedder(), batch_seconds=3.0)
    assert [(path.name, reason) for path, reason in report.failed] == [("long.wav", "the disk stopped here")]
    assert index.num_windows == 3


def test_a_file_that_turned_unreadable_leaves_the_index(index, sounds):
    index.update(sounds, embedder=ToneEmbedder())
    (sounds / "low.wav").write_text("this is not sound any more")
    report = index.update(sounds, embedder=ToneEmbedder())
    assert [path.name for path, _ in report.failed] == ["low.wav"]
    assert report.removed == 0
    assert {path.name for path in index.paths} == {"high.wav", "both.wav"}


@pytest.mark.parametrize(
    "name", ["雨の音.wav", "l'été à Orléans.wav", "дождь; DROP TABLE.wav", 'a "b" %_\\.wav', "🌧 .wav"]
)
def test_names_in_any_script(index, sounds, name):
    write_tone(sounds / name, 3000)
    index.update(sounds, embedder=ToneEmbedder())
    (best, *_) = index.search_text("hiss", embedder=ToneEmbedder())
    assert best.path.name == name
    write_tone(sounds / name, 3000, seconds=5)
    assert index.update(sounds, embedder=ToneEmbedder()).changed == 1
    (sounds / name).unlink()
    assert index.update(sounds, embedder=ToneEmbedder()).removed == 1
    assert index.num_windows == 3


def test_a_name_that_is_not_utf8_is_reported(index, sounds):
    name = os.fsdecode(b"caf\xe9.wav")
    try:
        (sounds / "low.wav").rename(sounds / name)
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    report = index.update(sounds, embedder=ToneEmbedder())
    assert [path.name for path, _ in report.failed] == [name]
    assert report.added == 2


def test_killed_in_the_middle_and_run_again(tmp_path, sounds):
    for number in range(40):
        write_tone(sounds / f"{number:02}.wav", 100 + 20 * number, seconds=3)
    folder = tmp_path / "index"
    script = f"""
from tones import ToneEmbedder
from lapis.search.index import Index
index = Index.create_or_open({str(folder)!r}, embedder_identity="tones", width=5, window_seconds=2.0)
index.update({str(sounds)!r}, embedder=ToneEmbedder(pause_seconds=0.03), batch_seconds=3.0, commit_windows=4,
             progress=lambda done, total: print(done, flush=True))
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if int(line) >= 12:
            break
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()

    index = Index.open(folder, embedder_identity="tones")
    kept = windows_of(index)
    assert 8 <= len(kept) < 83
    assert len(set(kept)) == len(kept)
    report = index.update(sounds, embedder=ToneEmbedder())
    assert report.unchanged == len({path for path, _ in kept})
    assert report.added == 43 - report.unchanged
    rows = windows_of(index)
    assert len(rows) == len(set(rows)) == 40 * 2 + 3


@dataclass
class CalibratedTones(ToneEmbedder):
    calibration: Calibration | None = None


def _calibrated(**changes) -> CalibratedTones:
    return CalibratedTones(calibration=tiny.calibration("tones", width=5, **changes))


def test_hits_say_how_probable_they_are_as_the_calibration_says_of_all_pairs(index, sounds):
    model = _calibrated()
    index.update(sounds, embedder=model)
    waveforms = [tone(1000), tone(300, 1000), tone(300)]
    told = model.calibration.meaning(model.embed_text(["high"]), clips=model.embed_audio(waveforms))
    hits = index.search_text("high tone", embedder=model)
    assert [hit.path.name for hit in hits] == ["high.wav", "both.wav", "low.wav"]
    np.testing.assert_allclose([hit.probability for hit in hits], told.probability[0], atol=1e-3)
    assert [hit.heard for hit in hits] == told.heard[0].tolist() == [True, True, False]
    assert not nothing_matches(hits)
    plain = index.search_text("high tone", embedder=ToneEmbedder())
    assert [(hit.path, hit.score) for hit in plain] == [(hit.path, hit.score) for hit in hits]
    assert {(hit.probability, hit.heard) for hit in plain} == {(None, None)} and not nothing_matches(plain)


def test_nothing_matches_where_no_hit_counts_as_heard(index, sounds):
    strict = _calibrated(least_score=0.95)
    assert index.search_text("high", embedder=strict) == []  # of no sounds there is nothing to say
    index.update(sounds, embedder=strict)
    assert nothing_matches(index.search_text("hiss", embedder=strict, limit=2))
    like = index.search_like(sounds / "low.wav", embedder=strict)
    assert {hit.probability for hit in like} == {None} and not nothing_matches(like)  # it is of words


def test_a_calibration_of_other_weights_is_refused(index, sounds):
    index.update(sounds, embedder=ToneEmbedder())
    with pytest.raises(
        ValueError, match=r"fitted to other weights \(others\) than these \(tones\): run lapis calibrate"
    ):
        index.search_text("high", embedder=CalibratedTones(calibration=tiny.calibration("others", width=5)))


def test_progress_counts_the_files_that_are_read(index, sounds):
    steps = []
    index.update(sounds, embedder=ToneEmbedder(), progress=lambda done, total: steps.append((done, total)))
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_an_open_index_sees_what_another_process_wrote(index, sounds):
    reader = Index.open(index.folder)
    assert reader.search(np.ones(5)) == []
    index.update(sounds, embedder=ToneEmbedder())
    assert len(reader.search(np.ones(5))) == 3


def test_another_model_is_refused(index, sounds):
    other = ToneEmbedder(identity="other")
    for attempt in (
        lambda: Index.open(index.folder, embedder_identity="other"),
        lambda: Index.create_or_open(index.folder, embedder_identity="other", width=5),
        lambda: index.update(sounds, embedder=other),
        lambda: index.search_text("low", embedder=other),
        lambda: index.search_like(sounds / "low.wav", embedder=other),
    ):
        with pytest.raises(ValueError, match=r"built with tones, not with other.*--rebuild"):
            attempt()


def test_a_rebuild_takes_another_model(index, sounds):
    index.update(sounds, embedder=ToneEmbedder())
    rebuilt = Index.create_or_open(index.folder, embedder_identity="other", width=5, rebuild=True)
    assert rebuilt.num_windows == 0
    assert Index.open(index.folder, embedder_identity="other").metadata.window_seconds == 10


def test_windows_are_fixed_when_the_index_is_made(index):
    assert make_index(index.folder).metadata.window_seconds == 2.0
    with pytest.raises(ValueError, match=r"window_seconds 2.0, not 5.0.*--rebuild"):
        make_index(index.folder, window_seconds=5.0)
    for senseless in ({"window_seconds": 0.0}, {"hop_seconds": -1.0}, {"window_seconds": 1.0, "hop_seconds": 2.0}):
        with pytest.raises(ValueError, match="expected 0 < width and 0 < hop <= window"):
            make_index(index.folder.with_name("none"), **senseless)


def test_an_index_tells_where_its_model_lies_or_that_it_does_not_know(tmp_path):
    assert make_index(tmp_path / "one", model="somewhere/run").model == "somewhere/run"
    with pytest.raises(ValueError, match=r"two: the index does not tell where its model .* lies: expected --model"):
        _ = make_index(tmp_path / "two").model


def test_no_index_and_no_folder(tmp_path, index):
    with pytest.raises(ValueError, match="there is no index in"):
        Index.open(tmp_path / "nothing")
    with pytest.raises(ValueError, match="expected a folder of sounds"):
        index.update(tmp_path / "nothing", embedder=ToneEmbedder())


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"format": 2}', "\x00\xff"])
def test_damaged_metadata(index, content):
    path = index.folder / METADATA_NAME
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ValueError, match=r"cannot be read .*index\.json.*damaged.*--rebuild"):
        Index.open(index.folder)


def test_an_index_whose_making_was_cut_short_is_made(tmp_path, index, sounds):
    """Killed before the table was whole, and before the JSON was written; rows whose JSON was lost are not touched."""
    (tmp_path / "cut" / f"{TABLE_NAME}.lance" / "_transactions").mkdir(parents=True)
    assert make_index(tmp_path / "cut").num_windows == 0
    (index.folder / METADATA_NAME).unlink()
    assert make_index(index.folder, window_seconds=2.0).update(sounds, embedder=ToneEmbedder()).added == 3
    (index.folder / METADATA_NAME).unlink()
    with pytest.raises(ValueError, match=r"cannot be read .*index\.json.*damaged.*--rebuild"):
        make_index(index.folder)


def test_an_address_is_no_path():
    with pytest.raises(ValueError, match="expected an address as a str"):
        Index.open(Path("s3://bucket/index"))


@pytest.mark.parametrize("number", [1, 99])
def test_another_format(index, number):
    path = index.folder / METADATA_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": number}))
    with pytest.raises(ValueError, match=rf"format {number}.*reads format 2.*embed again with .*--rebuild"):
        Index.open(index.folder)
    assert make_index(index.folder, rebuild=True).num_windows == 0


def _shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    "damage", [Path.unlink, _shorten, lambda path: path.write_bytes(b"\x07" * path.stat().st_size)]
)
@pytest.mark.parametrize("part", ["data/*.lance", "_versions/*.manifest"])
def test_damaged_table(index, sounds, damage, part):
    index.update(sounds, embedder=ToneEmbedder())
    files = list((index.folder / f"{TABLE_NAME}.lance").glob(part))
    assert files
    for path in files:
        damage(path)
    with pytest.raises(ValueError, match=r"cannot be read .*damaged.*--rebuild"):
        Index.open(index.folder).search_text("low", embedder=ToneEmbedder())
    with pytest.raises(ValueError, match=r"cannot be read .*damaged.*--rebuild"):
        Index.open(index.folder).update(sounds, embedder=ToneEmbedder())
    rebuilt = make_index(index.folder, rebuild=True)
    assert rebuilt.update(sounds, embedder=ToneEmbedder()).added == 3


def test_a_place_where_no_index_can_be(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for place in (tmp_path / "file", tmp_path / "file" / "index"):
        with pytest.raises(ValueError, match=r"the index in .* cannot be"):
            make_index(place)


def test_lancedb_is_asked_for_where_it_is_missing(tmp_path, index, monkeypatch):
    monkeypatch.setitem(sys.modules, "lancedb", None)
    for attempt in (lambda: make_index(tmp_path / "new"), lambda: Index.open(index.folder)):
        with pytest.raises(ValueError, match=r"^an index needs LanceDB: pip install 'lapis-audio\[search\]'$"):
            attempt()


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_query_is_refused(index, text):
    with pytest.raises(ValueError, match="empty text"):
        index.search_text(text, embedder=ToneEmbedder())


def test_senseless_queries_are_refused(index, tmp_path):
    for vector in (np.zeros(5), np.full(5, np.nan), np.ones(4)):
        with pytest.raises(ValueError, match="expected a"):
            index.search(vector)
    with pytest.raises(ValueError, match="limit"):
        index.search(np.ones(5), limit=0)
    (tmp_path / "text.wav").write_text("not sound")
    with pytest.raises(ValueError):
        index.search_like(tmp_path / "text.wav", embedder=ToneEmbedder())


def test_vectors_that_are_not_finite_stop_the_update(index, sounds):
    class Broken(ToneEmbedder):
        def embed_audio(self, waveforms):
            return np.full((len(waveforms), self.width), np.nan, np.float32)

    with pytest.raises(ValueError, match=r"tones gave .* not finite vectors"):
        index.update(sounds, embedder=Broken())
    assert index.num_windows == 0


def test_an_update_leaves_few_files_behind(index, sounds):
    for number in range(30):
        write_tone(sounds / f"{number}.wav", 300, seconds=0.2)
    index.update(sounds, embedder=ToneEmbedder(), batch_seconds=1.0, commit_windows=1)
    assert index.num_windows == 33
    assert index.table.stats()["fragment_stats"]["num_fragments"] == 1


def test_a_rebuild_is_refused_while_somebody_adds(index: Index, sounds: Path):
    with Claims(index.folder).adding():
        with pytest.raises(ValueError, match="is in use by another process"):
            make_index(index.folder, rebuild=True)
        with pytest.raises(ValueError, match="is in use by another process"):
            index.compact()
        assert index.update(sounds, embedder=ToneEmbedder()).added == 3


def test_an_update_sees_what_another_process_wrote_since_it_opened_the_table(index: Index, sounds: Path):
    other = Index.open(index.folder)
    index.update(sounds, embedder=ToneEmbedder())
    report = other.update(sounds, embedder=ToneEmbedder())
    assert (report.added, report.unchanged, other.num_windows) == (0, 3, index.num_windows)
