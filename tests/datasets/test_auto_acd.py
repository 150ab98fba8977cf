from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.auto_acd import AutoAcd


def tree(root):
    header = "youtube_id,caption\n"
    plant(
        root / "auto_acd",
        {
            "train.csv": header + '---1_cCGK4M,"Birds chirp, a dog barks."\noPRC3zComfA_000117,A train passes.\n',
            "test.csv": header + "_abcdefghij,Rain.\n",
        },
        ("audioset/Y---1_cCGK4M.flac", "vggsound/oPRC3zComfA_000117.wav", "audioset/_abcdefghij.flac"),
    )
    return [AutoAcd("train"), AutoAcd("test")]


def test_ids_of_both_origins(data):
    samples = tree(data)[0].build()
    assert samples == [
        Sample(
            key=key,
            audio=Location(data / "auto_acd" / path),
            captions={"eng_Latn": (text,)},
            domain="sound",
            source=f"youtube:{key[:11]}",
            split="train",
        )
        for key, path, text in (
            ("---1_cCGK4M", "audioset/Y---1_cCGK4M.flac", "Birds chirp, a dog barks."),
            ("oPRC3zComfA_000117", "vggsound/oPRC3zComfA_000117.wav", "A train passes."),
        )
    ]
