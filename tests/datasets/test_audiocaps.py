import pytest
from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.audiocaps import AudioCaps
from lapis.datasets.reading import MissingClips

HEADER = "audiocap_id,youtube_id,start_time,caption\n"


def tree(root):
    plant(
        root / "audiocaps",
        {
            "dataset/train.csv": HEADER
            + "91139,r1nicOVtvkQ,130,A voice beside running water\n"
            + '58146,-DGBjjwyaqE,20,"Clanging, then ""hey"""\n',
            "dataset/test.csv": HEADER
            + "".join(f"{number},7fmOlUlwoNg,10,Caption {number}\n" for number in range(103_549, 103_554)),
            "dataset2.0/val.csv": HEADER + "1,vfY_TJq7n_U,130,Rustling\n",
        },
        (
            "wavs/train/Yr1nicOVtvkQ.wav",
            "wavs/train/-DGBjjwyaqE_20_30.flac",
            "wavs/test/7fmOlUlwoNg.wav",
            "wavs/val/YvfY_TJq7n_U_130.m4a",
        ),
    )
    return [AudioCaps("train"), AudioCaps("test"), AudioCaps("val", edition="2.0")]


def test_captions_in_rows_and_a_clip_that_is_gone(data):
    source = tree(data)[1]
    with (data / "audiocaps/dataset/test.csv").open("a", encoding="utf-8") as file:
        file.write("103541,6BJ455B1aAs,0,Something flies past\n")
    with pytest.warns(MissingClips, match=r"1 of 2 clips of .*test\.csv .*'6BJ455B1aAs_0_10'"):
        samples = source.build()
    assert samples == [
        Sample(
            key="7fmOlUlwoNg_10",
            audio=Location(data / "audiocaps/wavs/test/7fmOlUlwoNg.wav"),
            captions={"eng_Latn": tuple(f"Caption {number}" for number in range(103_549, 103_554))},
            domain="sound",
            source="youtube:7fmOlUlwoNg",
            split="test",
        )
    ]


def test_names_of_files_and_quoted_captions(data):
    first, second = tree(data)[0].build()
    assert (first.audio.path.name, first.key) == ("Yr1nicOVtvkQ.wav", "r1nicOVtvkQ_130")
    assert (second.audio.path.name, second.source) == ("-DGBjjwyaqE_20_30.flac", "youtube:-DGBjjwyaqE")
    assert second.captions == {"eng_Latn": ('Clanging, then "hey"',)}


def test_two_files_of_one_clip_are_an_error(data):
    source = tree(data)[0]
    plant(data / "audiocaps", {}, ("copy/Yr1nicOVtvkQ.wav",))
    with pytest.raises(ValueError, match=r"copy/Yr1nicOVtvkQ\.wav.*have one name"):
        source.build()
