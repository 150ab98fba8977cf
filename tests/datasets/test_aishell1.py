import pytest
from planting import plant, speech

from lapis.datasets.aishell1 import Aishell1
from lapis.datasets.reading import MissingClips


def tree(root):
    plant(
        root / "data_aishell",
        {"transcript/aishell_transcript_v0.8.txt": "BAC009S0002W0122 今天 天气 很 好\nBAC009S0724W0121 明天 下雨\n"},
        ("wav/train/S0002/BAC009S0002W0122.wav", "wav/dev/S0724/BAC009S0724W0121.wav"),
    )
    return [Aishell1("train"), Aishell1("dev")]


def test_spaces_are_taken_out(data):
    assert tree(data)[0].build() == [
        speech(
            data / "data_aishell/wav/train",
            "S0002/BAC009S0002W0122.wav",
            "BAC009S0002W0122",
            "今天天气很好",
            language="zho_Hans",
            speaker="S0002",
            split="train",
        )
    ]


def test_recordings_without_a_transcript_are_counted(data):
    source, _ = tree(data)
    plant(data / "data_aishell", {}, ("wav/train/S0002/BAC009S0002W0999.wav",))
    with pytest.warns(MissingClips, match=r"1 of 2 recordings .* no line in .*aishell_transcript_v0\.8\.txt"):
        assert len(source.build()) == 1
