from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.audiosetcaps import AudioSetCaps


def tree(root):
    header = "id,caption\n"
    plant(
        root / "audiosetcaps",
        {
            "Dataset/AudioSetCaps_caption.csv": header + "Y---1_cCGK4M,A car.\nYY2345678901,A bird.\n",
            "Dataset/VGGSound_AudioSetCaps_caption.csv": header + "OxPnZzn1_L8_000883,A horn.\n",
            "Dataset/YouTube-8M_AudioSetCaps_caption.csv": header + "9eUrEyAR3xk_84_10,A song.\n",
        },
        (
            "audio/as/---1_cCGK4M.wav",
            "audio/as/YY2345678901.wav",
            "audio/vgg/OxPnZzn1_L8_000883.flac",
            "audio/yt8m/9eUrEyAR3xk_84_10.flac",
        ),
    )
    return [AudioSetCaps(), AudioSetCaps("VGGSound"), AudioSetCaps("YouTube-8M")]


def test_three_forms_of_ids(data):
    audioset, vggsound, youtube = (source.build() for source in tree(data))
    assert audioset == [
        Sample(
            key=key,
            audio=Location(data / "audiosetcaps/audio/as" / path),
            captions={"eng_Latn": (text,)},
            domain="sound",
            source=source,
            split="train",
        )
        for key, path, text, source in (
            ("Y---1_cCGK4M", "---1_cCGK4M.wav", "A car.", "youtube:---1_cCGK4M"),
            ("YY2345678901", "YY2345678901.wav", "A bird.", "youtube:Y2345678901"),
        )
    ]
    assert [sample.source for sample in vggsound + youtube] == ["youtube:OxPnZzn1_L8", "youtube:9eUrEyAR3xk"]
