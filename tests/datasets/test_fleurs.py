import pytest
from planting import plant, speech

from lapis.datasets.fleurs import Fleurs

TEXT = 'Er sagte: "Das ist es."'


def tree(root):
    row = f"1552\t10007447443898042117.wav\t{TEXT}\ter sagte das ist es\te r |\t119040\tMALE\n"
    plant(
        root / "fleurs" / "data" / "de_de",
        {"dev.tsv": row, "test.tsv": row.replace("10007447443898042117", "7")},
        ("audio/dev/10007447443898042117.wav", "audio/test/7.wav"),
    )
    return [Fleurs("dev", language="de_de"), Fleurs("test", language="de_de")]


def test_a_sentence_with_quotes(data):
    assert tree(data)[0].build() == [
        speech(
            data / "fleurs/data/de_de/audio/dev",
            "10007447443898042117.wav",
            "10007447443898042117.wav",
            TEXT,
            language="deu_Latn",
            seconds=7.44,
            source="flores:1552",
            split="dev",
        )
    ]


def test_a_row_that_is_cut(data):
    source, _ = tree(data)
    plant(data / "fleurs/data/de_de", {"dev.tsv": "1552\ta.wav\ttext\n"})
    with pytest.raises(ValueError, match=r"dev\.tsv, row 1: expected 7 fields, got 3"):
        source.build()
