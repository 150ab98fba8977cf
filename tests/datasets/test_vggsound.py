import pytest
from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.reading import MissingClips
from lapis.datasets.vggsound import VggSound


def tree(root):
    plant(
        root / "vggsound",
        {
            "vggsound.csv": '---g-f_I2yQ,1,people marching,test\n--0PQM4-hqg,30,"waterfall burbling",train\n'
            '--0PQM4-hqg,130,"air conditioning noise, or wind",train\n'
        },
        (
            "video/---g-f_I2yQ_000001.mp4",
            "video/--0PQM4-hqg_000030.mp4",
            "video/--0PQM4-hqg_000130.mp4",
        ),
    )
    return [VggSound("train"), VggSound("test")]


def test_two_clips_of_one_video(data):
    samples = tree(data)[0].build()
    assert samples == [
        Sample(
            key=key,
            audio=Location(data / f"vggsound/video/{key}.mp4"),
            label=label,
            domain="sound",
            source="youtube:--0PQM4-hqg",
            split="train",
        )
        for key, label in (
            ("--0PQM4-hqg_000030", "waterfall burbling"),
            ("--0PQM4-hqg_000130", "air conditioning noise, or wind"),
        )
    ]


def test_a_bare_id_does_not_tell_two_clips_apart(data):
    source = tree(data)[0]
    (data / "vggsound/video/--0PQM4-hqg_000130.mp4").rename(data / "vggsound/video/--0PQM4-hqg.mp4")
    with pytest.warns(MissingClips, match=r"1 of 2 clips .* '--0PQM4-hqg_000130'"):
        assert len(source.build()) == 1
