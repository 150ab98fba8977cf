import json

import numpy as np
import pytest
import soundfile
from planting import plant

from lapis import audio
from lapis.data.sample import Sample
from lapis.datasets.gigaspeech import GigaSpeech, written
from lapis.datasets.reading import MissingClips
from lapis.datasets.segments import Segment

RATE = 16_000


def recording(aid, segments, **fields):
    path = f"audio/youtube/P0000/{aid}.opus"
    return {
        "title": "Ünïcode",
        "url": "N/A",
        "path": path,
        "aid": aid,
        "format": "opus",
        "segments": segments,
        **fields,
    }


def part(sid, begin, end, text, subsets=("{XL}", "{L}")):
    return {"sid": sid, "begin_time": begin, "end_time": end, "subsets": list(subsets), "text_tn": text}


def tree(root):
    talk = recording(
        "YOU0000000315",
        [
            part("YOU0000000315_S0000", 0.25, 1.0, "IT'S LATE <COMMA> ISN'T IT <QUESTIONMARK>"),
            part("YOU0000000315_S0001", 1.0, 1.5, "<MUSIC>"),
            part("YOU0000000315_S0002", 1.5, 1.75, "NOT IN THIS ONE <PERIOD>", subsets=("{DEV}",)),
        ],
        url="https://www.youtube.com/watch?v=zr2n1fLVasU",
    )
    plant(
        root / "GigaSpeech",
        {"GigaSpeech.json": json.dumps({"dataset": "GigaSpeech", "version": 1.0, "audios": [talk]}, indent=2)},
        (talk["path"],),
    )
    wave = np.sin(np.arange(2 * RATE) / 40).astype(np.float32)
    soundfile.write(root / "GigaSpeech" / talk["path"], wave, RATE, format="FLAC")
    return [GigaSpeech("L"), GigaSpeech("DEV")]


def test_parts_of_a_long_recording(data):
    samples = tree(data)[0].build()
    path = data / "GigaSpeech/audio/youtube/P0000/YOU0000000315.opus"
    text = "IT'S LATE, ISN'T IT?"
    common = {"domain": "speech", "source": "youtube:zr2n1fLVasU", "split": "L"}
    assert samples == [
        Sample(
            key="YOU0000000315_S0000",
            audio=Segment(path, 0.25, 0.75),
            captions={"eng_Latn": (text,)},
            seconds=0.75,
            language="eng_Latn",
            transcript=text,
            **common,
        ),
        # A segment of noise is there, and has no words.
        Sample(key="YOU0000000315_S0001", audio=Segment(path, 1.0, 0.5), seconds=0.5, **common),
    ]


def test_only_the_segment_is_heard(data):
    sample = tree(data)[0].build()[0]
    whole = audio.read(sample.audio.path)
    assert np.array_equal(audio.read(sample.audio.open()), whole[RATE // 4 : RATE])
    assert str(sample.audio).endswith("YOU0000000315.opus#t=0.25,1")


def test_segments_of_a_missing_recording_are_counted(data):
    source = tree(data)[0]
    content = json.loads((data / "GigaSpeech/GigaSpeech.json").read_text(encoding="utf-8"))
    content["audios"].append(recording("gone", [part(f"gone_{n}", n, n + 1, "HI") for n in range(3)]))
    plant(data / "GigaSpeech", {"GigaSpeech.json": json.dumps(content)})
    with pytest.warns(MissingClips, match="3 of 5 clips"):
        assert len(source.build()) == 2


def test_a_segment_that_ends_before_it_begins(data):
    source = tree(data)[0]
    content = {"audios": [recording("YOU0000000315", [part("a", 2, 1, "HI")])]}
    plant(data / "GigaSpeech", {"GigaSpeech.json": json.dumps(content)})
    with pytest.raises(ValueError, match=r"recording YOU0000000315, segment a: expected an end after the beginning"):
        source.build()


def test_tags_become_punctuation():
    assert written("WELL <COMMA> NO <EXCLAMATIONPOINT>") == "WELL, NO!"
