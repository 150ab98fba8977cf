import pytest
from planting import plant, speech

from lapis.datasets.mls import Mls

OPTIONAL = {"segments.txt"}


def tree(root):
    plant(
        root / "mls",
        {
            "mls_polish/dev/transcripts.txt": "6892_10049_000000\tna krześle siedział żółw\n",
            "mls_polish/dev/segments.txt": "6892_10049_000000\thttp://www.archive.org/x_64kb.mp3\t401.76\t417.57\n",
            "mls_polish_opus/dev/transcripts.txt": "6892_10049_000000\tna krześle siedział żółw\n",
        },
        (
            "mls_polish/dev/audio/6892/10049/6892_10049_000000.flac",
            "mls_polish_opus/dev/audio/6892/10049/6892_10049_000000.opus",
        ),
    )
    return [Mls("dev", language="polish"), Mls("dev", language="polish", coding="opus")]


def test_lengths_where_they_are_published(data):
    flac, opus = (source.build() for source in tree(data))
    assert flac == [
        speech(
            data / "mls/mls_polish/dev/audio",
            "6892/10049/6892_10049_000000.flac",
            "6892_10049_000000",
            "na krześle siedział żółw",
            language="pol_Latn",
            seconds=15.81,
            speaker="6892",
            split="dev",
        )
    ]
    assert (opus[0].seconds, opus[0].audio.path.suffix) == (None, ".opus")


def test_segments_of_another_form(data):
    source, _ = tree(data)
    plant(data / "mls", {"mls_polish/dev/segments.txt": "6892_10049_000000 401.76\n"})
    with pytest.raises(ValueError, match=r"segments\.txt: expected name, address, beginning and end"):
        source.build()
