import pytest
from planting import plant, speech

from lapis.datasets.ravdess import Ravdess

SPOKEN, SUNG = "03-01-06-01-02-01-12", "03-02-02-02-01-02-24"


def tree(root):
    places = (
        f"Audio_Speech_Actors_01-24/Actor_12/{SPOKEN}.wav",
        f"Audio_Song_Actors_01-24/Actor_24/{SUNG}.wav",
        f"Video_Speech_Actor_12/Actor_12/01{SPOKEN[2:]}.mp4",
        f"Audio_Song_Actors_01-24/__MACOSX/Actor_24/._{SUNG}.wav",
    )
    plant(root / "ravdess", {}, places)
    return [Ravdess(), Ravdess("song")]


def test_names_tell_everything(data):
    spoken, sung = (source.build() for source in tree(data))
    assert spoken == [
        speech(
            data / "ravdess/Audio_Speech_Actors_01-24/Actor_12",
            f"{SPOKEN}.wav",
            SPOKEN,
            "Dogs are sitting by the door.",
            label="fearful",
            speaker="12",
            split="speech",
        )
    ]
    (song,) = sung
    assert (song.label, song.domain, song.speaker) == ("calm", "music", "24")
    assert song.transcript == "Kids are talking by the door."


def test_a_copy_in_another_folder_is_an_error(data):
    source = tree(data)[0]
    plant(data / "ravdess", {}, (f"copy/Actor_12/{SPOKEN}.wav",))
    with pytest.raises(ValueError, match="have one name"):
        source.build()
