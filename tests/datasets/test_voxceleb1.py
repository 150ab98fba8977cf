import pytest
from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.voxceleb1 import VoxCeleb1


def tree(root):
    plant(
        root / "voxceleb1",
        {"iden_split.txt": "3 id10003/na8-QEFmj44/00003.wav\n1 id10003/tCq2LcKO6xY/00002.wav\n"},
        ("wav/id10003/na8-QEFmj44/00003.wav", "wav/id10003/tCq2LcKO6xY/00002.wav"),
    )
    return [VoxCeleb1("train"), VoxCeleb1("test")]


def test_numbers_are_splits(data):
    train, test = (source.build() for source in tree(data))
    assert test == [
        Sample(
            key="id10003/na8-QEFmj44/00003.wav",
            audio=Location(data / "voxceleb1/wav/id10003/na8-QEFmj44/00003.wav"),
            label="id10003",
            domain="speech",
            speaker="id10003",
            source="youtube:na8-QEFmj44",
            split="test",
        )
    ]
    assert [sample.key for sample in train] == ["id10003/tCq2LcKO6xY/00002.wav"]


@pytest.mark.parametrize("line", ["4 id1/v/1.wav", "1 1.wav", "id1/v/1.wav"])
def test_a_line_of_another_form(data, line):
    source, _ = tree(data)
    plant(data / "voxceleb1", {"iden_split.txt": line + "\n"})
    with pytest.raises(ValueError, match=r"iden_split\.txt"):
        source.build()
