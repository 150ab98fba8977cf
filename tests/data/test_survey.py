import json

import numpy as np
import pytest
import soundfile

from data.corpus import SAMPLE_RATE, sound_bytes, tones, write_tar
from lapis.data.folders import Folder
from lapis.data.sources import Table, Tars
from lapis.data.survey import survey
from lapis.data.survey_picture import draw_survey
from lapis.datasets.pocket import Pocket


@pytest.fixture
def planted(tmp_path):
    """A table in which everything that is looked for is there once or twice."""
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    sine = np.sin(2 * np.pi * 440 * time)
    sounds = {
        "good": 0.3 * sine,
        "silent": 1e-5 * sine,
        "quiet": 5e-3 * sine,
        "clipped": np.clip(3 * sine, -1, 1),
        "long": np.tile(0.2 * sine, 3),
    }
    for name, sound in sounds.items():
        soundfile.write(tmp_path / f"{name}.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    (tmp_path / "twin.wav").write_bytes((tmp_path / "good.wav").read_bytes())
    (tmp_path / "cut.wav").write_bytes((tmp_path / "long.wav").read_bytes()[:100_000])
    (tmp_path / "text.wav").write_text("text")
    (tmp_path / "opus.opus").write_bytes(sound_bytes(1.0, format="OGG"))
    rows = [
        {"audio": "good.wav", "captions": {"eng_Latn": "A Tone", "deu_Latn": ["ein Ton", "Ton"]}, "seconds": 1.0},
        {"audio": "twin.wav", "captions": {"eng_Latn": "a  tone"}, "seconds": 1.0, "key": "same"},
        {"audio": "silent.wav", "captions": {}, "key": "same"},
        {"audio": "quiet.wav", "captions": {"eng_Latn": " "}, "label": "tone"},
        {"audio": "clipped.wav", "captions": {"eng_Latn": ["a tone", "a tone"]}, "label": "tone;loud"},
        {"audio": "long.wav", "captions": {}, "label": "tone", "seconds": 2.0},
        {"audio": "cut.wav", "captions": {"eng_Latn": "cut off"}},
        {"audio": "text.wav", "captions": {"eng_Latn": "text"}, "language": "eng_Latn"},
        {"audio": "opus.opus", "captions": {"eng_Latn": "opus"}, "domain": "sound"},
    ]
    (tmp_path / "table.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return Table(str(tmp_path / "table.jsonl"))


@pytest.mark.parametrize("workers", [1, 2])
def test_all_that_was_planted_is_found(planted, workers):
    found = survey(planted, workers=workers)
    assert (found.clips, found.stated, found.captions, found.without_words) == (9, 3, 9, 1)
    assert found.labels == {"tone": 3, "loud": 1} and found.spoken_languages == {"eng_Latn": 1}
    assert found.caption_languages == {"eng_Latn": 6, "deu_Latn": 1}
    assert found.captions_a_clip == {"0": 3, "1": 4, "2": 1, "3": 1}
    assert (found.equal_keys, found.equal_captions, found.repeated_captions) == (1, 2, {"A Tone": 3})
    assert found.caption_characters["deu_Latn"] == {
        "0%": 3, "5%": 3, "25%": 3, "50%": 3, "75%": 7, "95%": 7, "100%": 7,
    }  # fmt: skip
    sound = found.sound
    assert sound.read == 8
    for listed, name in (
        (sound.unreadable, "text.wav"),
        (sound.broken_off, "cut.wav"),
        (sound.silent, "silent.wav"),
        (sound.quiet, "quiet.wav"),
        (sound.clipped, "clipped.wav"),
        (sound.other_duration, "long.wav"),
        (sound.equal_bytes, "twin.wav"),
    ):
        assert listed.count == 1 and name in listed.examples[0], (name, listed)
    assert "as " in sound.equal_bytes.examples[0] and "good.wav" in sound.equal_bytes.examples[0]
    assert sound.formats["wav/float, 16000 Hz"] == 7
    assert sound.levels["100%"] == pytest.approx(-1.1, abs=0.5)
    measured = sound.seconds / sound.read
    assert found.hours == pytest.approx((4.0 + 6 * measured) / 3600)
    json.dumps(found.to_dict(), allow_nan=False)


def test_some_clips_stand_for_many(tmp_path):
    write_tar(tmp_path / "a.tar", tones(20))
    every, some, none = (survey(Tars(f"{tmp_path}/a.tar"), read=read) for read in (100, 5, 0))
    assert (every.sound.read, some.sound.read, none.sound) == (20, 5, None)
    assert every.hours == some.hours == none.hours > 0
    again = survey(Tars(f"{tmp_path}/a.tar"), read=5, workers=2)
    assert again == some != survey(Tars(f"{tmp_path}/a.tar"), read=5, seed=1)


@pytest.mark.parametrize(("peak", "read"), [(1e30, 1), (3e4, 2)])
def test_samples_far_from_full_scale(tmp_path, peak, read):
    """Numbers that are no sound are told of; those that were never brought to 1 are loud, and clipped."""
    sound = np.full(4000, 0.1, np.float32)
    soundfile.write(tmp_path / "a.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "b.wav", sound * 10 * peak, SAMPLE_RATE, subtype="FLOAT")
    found = survey(Folder(str(tmp_path)))
    assert (found.sound.read, found.sound.unreadable.count, found.sound.clipped.count) == (read, 2 - read, read - 1)
    assert read == 2 or "got 1e+30" in found.sound.unreadable.examples[0]
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_damaged_shard_is_told_of(tmp_path):
    write_tar(tmp_path / "a.tar", tones(3))
    (tmp_path / "b.tar").write_text("no tar" * 500)
    found = survey(Tars(f"{tmp_path}/*.tar"))
    assert found.clips == 3 and found.unreadable.count == 1 and "b.tar" in found.unreadable.examples[0]


def test_the_pocket_corpus_and_its_picture(tmp_path):
    found = survey(Pocket("val"), read=20)
    assert found.domains == {"speech": 106, "music": 53, "sound": 42} and len(found.caption_languages) == 8
    draw_survey(found, path=tmp_path / "a.png", title="$pocket$")
    draw_survey(survey(Pocket("val"), read=0), path=tmp_path / "b.png", title="words only")
    for name in ("a.png", "b.png"):
        content = (tmp_path / name).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) > 20_000
