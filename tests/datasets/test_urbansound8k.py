import pytest
from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.urbansound8k import UrbanSound8k


def tree(root):
    plant(
        root / "UrbanSound8K",
        {
            "metadata/UrbanSound8K.csv": "slice_file_name,fsID,start,end,salience,fold,classID,class\n"
            "100032-3-0-0.wav,100032,0.0,0.317551,1,5,3,dog_bark\n"
            "100263-2-0-117.wav,100263,58.5,62.5,1,10,2,children_playing\n"
        },
        ("audio/fold5/100032-3-0-0.wav", "audio/fold10/100263-2-0-117.wav"),
    )
    return [UrbanSound8k(), UrbanSound8k(folds=(5,))]


def test_folds_and_lengths(data):
    whole, fifth = (source.build() for source in tree(data))
    assert fifth == [
        Sample(
            key="100032-3-0-0.wav",
            audio=Location(data / "UrbanSound8K/audio/fold5/100032-3-0-0.wav"),
            seconds=0.317551,
            label="dog bark",
            domain="sound",
            source="freesound:100032",
            split="fold5",
        )
    ]
    assert [(sample.split, sample.seconds) for sample in whole] == [("fold5", 0.317551), ("fold10", 4.0)]


def test_a_fold_that_is_none(data):
    tree(data)
    with pytest.raises(ValueError, match="folds of UrbanSound8K"):
        UrbanSound8k(folds=(11,)).build()
