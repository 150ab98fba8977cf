import pytest
from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.surge import Surge

TRAIN = "surge-patches-3rdparty-Argitoth-Drums-Snare-velocity64"
VALID = "surge-patches-3rdparty-Argitoth-Drums-Kick-velocity64"


def tree(root):
    plant(
        root / "surge",
        {"dataset_surge_tone_splits.csv": f"tone,split\n{VALID},valid\n{TRAIN},train\n"},
        (f"{TRAIN}/21.ogg", f"{TRAIN}/60.ogg", f"{VALID}/60.ogg"),
    )
    return [Surge("train"), Surge("valid"), Surge("all")]


def test_pitches_and_splits_by_preset(data):
    train, valid, everything = (source.build() for source in tree(data))
    assert valid == [
        Sample(
            key=f"{VALID}/60",
            audio=Location(data / f"surge/{VALID}/60.ogg"),
            label="60",
            domain="music",
            source=VALID,
            split="valid",
        )
    ]
    assert [sample.label for sample in train] == ["21", "60"]
    assert len(everything) == 3


def test_a_preset_without_a_split(data):
    source = tree(data)[0]
    plant(data / "surge", {}, ("another-velocity64/60.ogg",))
    with pytest.raises(ValueError, match=r"dataset_surge_tone_splits\.csv: expected a split of 'another-velocity64'"):
        source.build()
    plant(data / "surge", {}, (f"{TRAIN}/high.ogg",))
    with pytest.raises(ValueError, match=r"high\.ogg: expected a MIDI pitch"):
        Surge("all").build()
