import pytest
from planting import plant, speech

from lapis.datasets.librispeech import LibriSpeech


def tree(root):
    plant(
        root / "LibriSpeech",
        {
            "dev-clean/84/121123/84-121123.trans.txt": "84-121123-0000 THE DOOR WAS OPEN\n84-121123-0001 NOBODY CAME\n",
            "dev-clean/174/50561/174-50561.trans.txt": "174-50561-0000 A LIGHT IN THE WINDOW\n",
        },
        (
            "dev-clean/84/121123/84-121123-0000.flac",
            "dev-clean/84/121123/84-121123-0001.flac",
            "dev-clean/174/50561/174-50561-0000.flac",
        ),
    )
    return [LibriSpeech("dev-clean")]


def test_utterances_of_all_chapters(data):
    assert tree(data)[0].build() == [
        speech(data / "LibriSpeech/dev-clean", f"{chapter}/{key}.flac", key, text, speaker=speaker, split="dev-clean")
        for chapter, key, text, speaker in (
            ("174/50561", "174-50561-0000", "A LIGHT IN THE WINDOW", "174"),
            ("84/121123", "84-121123-0000", "THE DOOR WAS OPEN", "84"),
            ("84/121123", "84-121123-0001", "NOBODY CAME", "84"),
        )
    ]


def test_a_chapter_without_its_transcript_is_not_passed_over(data):
    source = tree(data)[0]
    (data / "LibriSpeech/dev-clean/84/121123/84-121123.trans.txt").unlink()
    with pytest.raises(ValueError, match=r"84-121123\.trans\.txt: expected a file of the corpus"):
        source.build()
