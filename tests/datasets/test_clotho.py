import unicodedata

import pytest
from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.clotho import Clotho

HEADER = "file_name,caption_1,caption_2,caption_3,caption_4,caption_5\n"


def tree(root):
    plant(
        root / "clotho",
        {
            "clotho_captions_development.csv": HEADER
            + 'Distorted AM Radio noise.wav,a,b,c,d,"e, and more"\nCigüeña crotorando.wav,1,2,3,4,5\n',
            "clotho_captions_evaluation.csv": HEADER + "Santa Motor.wav,v,w,x,y,z\n",
        },
        (
            "development/Distorted AM Radio noise.wav",
            # As another file system writes it: letters and accents apart.
            "development/" + unicodedata.normalize("NFD", "Cigüeña crotorando.wav"),
            "evaluation/Santa Motor.wav",
        ),
    )
    return [Clotho("development"), Clotho("evaluation")]


def test_five_captions_a_clip(data):
    first, second = tree(data)[0].build()
    assert first == Sample(
        key="Distorted AM Radio noise.wav",
        audio=Location(data / "clotho/development/Distorted AM Radio noise.wav"),
        captions={"eng_Latn": ("a", "b", "c", "d", "e, and more")},
        domain="sound",
        split="development",
    )
    assert second.key == "Cigüeña crotorando.wav" and second.audio.path.is_file()


def test_a_row_with_a_comma_too_many_is_named(data):
    source, _ = tree(data)
    plant(data / "clotho", {"clotho_captions_development.csv": HEADER + "Santa Motor.wav,a,b,c,d,e,f\n"})
    with pytest.raises(ValueError, match=r"development\.csv, row 1: expected 6 fields, got 7"):
        source.build()
