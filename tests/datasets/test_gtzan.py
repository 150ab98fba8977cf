import pytest
from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.gtzan import Gtzan


def tree(root):
    plant(
        root / "gtzan",
        {
            "train_filtered.txt": "blues/blues.00029.au\njazz/jazz.00054.au\n",
            "valid_filtered.txt": "blues/blues.00000.wav\r\n",
        },
        ("genres/blues/blues.00029.au", "genres/blues/blues.00000.au", "genres/jazz/jazz.00054.au"),
    )
    return [Gtzan("train"), Gtzan("valid"), Gtzan("all")]


def test_lists_whatever_suffix_they_give(data):
    train, valid, everything = (source.build() for source in tree(data))
    assert valid == [
        Sample(
            key="blues.00000",
            audio=Location(data / "gtzan/genres/blues/blues.00000.au"),
            label="blues",
            domain="music",
            split="valid",
        )
    ]
    assert [sample.label for sample in train] == ["blues", "jazz"]
    assert len(everything) == 3 and {sample.split for sample in everything} == {"all"}


def test_a_file_of_another_name(data):
    source = tree(data)[2]
    plant(data / "gtzan", {}, ("genres/blues/mine.wav",))
    with pytest.raises(ValueError, match=r"mine\.wav: expected a name such as blues\.00000\.au"):
        source.build()
