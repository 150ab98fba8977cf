import pytest
from planting import plant, speech

from lapis.datasets.aishell2 import Aishell2

TEST = "AISHELL-DEV-TEST-SET/Mic/test/"


def tree(root):
    plant(
        root / "aishell2",
        {
            "AISHELL-2/iOS/data/wav.scp": "IC0001W0001\twav/C0001/IC0001W0001.wav\n",
            "AISHELL-2/iOS/data/trans.txt": "IC0001W0001\t厨房用品\n",
            TEST + "wav.scp": "IT0011W0001 wav/T0011/IT0011W0001.wav\n",
            TEST + "trans.txt": "IT0011W0001 换一首歌 Let's go\n",
        },
        ("AISHELL-2/iOS/data/wav/C0001/IC0001W0001.wav", TEST + "wav/T0011/IT0011W0001.wav"),
    )
    return [Aishell2("train"), Aishell2("test", channel="Mic")]


def test_channels(data):
    train, test = (source.build() for source in tree(data))
    assert train == [
        speech(
            data / "aishell2/AISHELL-2/iOS/data",
            "wav/C0001/IC0001W0001.wav",
            "IC0001W0001",
            "厨房用品",
            language="zho_Hans",
            speaker="C0001",
            split="train",
        )
    ]
    assert test[0].transcript == "换一首歌 Let's go" and test[0].speaker == "T0011"


def test_training_is_there_for_one_channel(data):
    tree(data)
    with pytest.raises(ValueError, match="for 'iOS' only, got 'Mic'"):
        Aishell2("train", channel="Mic").build()


def test_a_recording_without_text(data):
    source = tree(data)[1]
    plant(data / "aishell2", {TEST + "trans.txt": "IT0011W0002 x\n"})
    with pytest.raises(ValueError, match=r"trans\.txt: expected the text of IT0011W0001"):
        source.build()
