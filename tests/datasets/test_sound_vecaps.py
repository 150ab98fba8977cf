from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.sound_vecaps import SoundVecaps


def tree(root):
    header = "id,caption\n"
    plant(
        root / "sound_vecaps",
        {
            "Sound-VECaps_audio.csv": header + "Y---1_cCGK4M.wav,A car passes.\nYoutubeid_1,Rain.\n",
            "Sound-VECaps_full.csv": header + "---1_cCGK4M,A red car passes.\n",
        },
        ("audio/Y---1_cCGK4M.wav", "audio/YYoutubeid_1.flac"),
    )
    return [SoundVecaps(), SoundVecaps("full")]


def test_both_captions(data):
    heard, seen = (source.build() for source in tree(data))
    assert heard[0] == Sample(
        key="Y---1_cCGK4M",
        audio=Location(data / "sound_vecaps/audio/Y---1_cCGK4M.wav"),
        captions={"eng_Latn": ("A car passes.",)},
        domain="sound",
        source="youtube:---1_cCGK4M",
        split="train",
    )
    assert heard[1].audio.path.name == "YYoutubeid_1.flac"
    assert seen[0].audio == heard[0].audio and seen[0].captions == {"eng_Latn": ("A red car passes.",)}
