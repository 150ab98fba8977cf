import pytest
from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.musiccaps import MusicCaps
from lapis.datasets.reading import MissingClips


def tree(root):
    plant(
        root / "musiccaps",
        {
            "musiccaps-public.csv": "ytid,start_s,end_s,audioset_positive_labels,aspect_list,caption,author_id,"
            "is_balanced_subset,is_audioset_eval\n"
            '-0Gj8-vB1q4,30,40,"/m/0140xf,/m/02cjck","[\'low quality\', \'sad\']","A sad, slow ballad.\nWith piano.",4,'
            "False,True\n"
            "-0SdAVK79lg,30,40,/m/0155w,['guitar'],A guitar.,0,False,False\n"
            "gone-000000,0,10,/m/0155w,['guitar'],Gone.,0,False,True\n",
        },
        ("audio/[-0Gj8-vB1q4]-[30-40].wav", "audio/-0SdAVK79lg.m4a"),
    )
    return [MusicCaps("train")]


def test_splits_by_the_part_of_audioset(data):
    (train,) = tree(data)[0].build()
    assert train.audio.path.name == "-0SdAVK79lg.m4a"
    with pytest.warns(MissingClips, match="1 of 2 clips"):
        samples = MusicCaps("eval").build()
    assert samples == [
        Sample(
            key="-0Gj8-vB1q4",
            audio=Location(data / "musiccaps/audio/[-0Gj8-vB1q4]-[30-40].wav"),
            captions={"eng_Latn": ("A sad, slow ballad.\nWith piano.",)},
            seconds=10.0,
            domain="music",
            source="youtube:-0Gj8-vB1q4",
            split="eval",
        )
    ]
