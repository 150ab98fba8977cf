from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.song_describer import SongDescriber


def tree(root):
    plant(
        root / "song_describer",
        {
            "song_describer.csv": "caption_id,track_id,caption,is_valid_subset,familiarity,artist_id,album_id,path,"
            "duration\n"
            "528,976784,Fast and bright,False,0,421686,115108,84/976784.mp3,140.5\n"
            "730,986589,A calm song,,2,7805,116156,89/986589.mp3,223.3\n"
            "552,986589,A warm voice,True,1,7805,116156,89/986589.mp3,223.3\n",
        },
        ("audio/84/976784.2min.mp3", "audio/89/986589.2min.mp3"),
    )
    return [SongDescriber(), SongDescriber("valid")]


def test_captions_of_a_track_together(data):
    full, valid = (source.build() for source in tree(data))
    assert [sample.captions["eng_Latn"] for sample in full] == [
        ("Fast and bright",),
        ("A calm song", "A warm voice"),
    ]
    assert valid == [
        Sample(
            key="986589",
            audio=Location(data / "song_describer/audio/89/986589.2min.mp3"),
            captions={"eng_Latn": ("A warm voice",)},
            domain="music",
            source="jamendo:986589",
            split="valid",
        )
    ]
