import pytest
from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.esc50 import Esc50


def tree(root):
    plant(
        root / "ESC-50-master",
        {
            "meta/esc50.csv": "filename,fold,target,category,esc10,src_file,take\n"
            "1-100032-A-0.wav,1,0,dog,True,100032,A\n"
            "1-100038-A-14.wav,1,14,chirping_birds,False,100038,A\n"
            "5-9032-A-0.wav,5,0,dog,True,9032,A\n"
        },
        ("audio/1-100032-A-0.wav", "audio/1-100038-A-14.wav", "audio/5-9032-A-0.wav"),
    )
    return [Esc50(), Esc50(folds=(1,)), Esc50(subset="ESC-10")]


def test_folds_and_the_small_set(data):
    whole, first, small = (source.build() for source in tree(data))
    assert first[1] == Sample(
        key="1-100038-A-14.wav",
        audio=Location(data / "ESC-50-master/audio/1-100038-A-14.wav"),
        seconds=5.0,
        label="chirping birds",
        domain="sound",
        source="freesound:100038",
        split="fold1",
    )
    assert [len(whole), len(first), len(small)] == [3, 2, 2]
    assert {sample.label for sample in small} == {"dog"}


@pytest.mark.parametrize("folds", [(), (0,), (1, 6)])
def test_a_fold_that_is_none(data, folds):
    tree(data)
    with pytest.raises(ValueError, match=r"folds of ESC-50 must be some of \(1, 2, 3, 4, 5\)"):
        Esc50(folds=folds).build()
