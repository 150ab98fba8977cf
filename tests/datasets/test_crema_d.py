import pytest
from planting import plant, speech

from lapis.datasets.crema_d import CremaD


def tree(root):
    plant(root / "crema_d", {}, ("AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1040_ITH_SAD_X.wav", "README.md"))
    return [CremaD()]


def test_names_tell_everything(data):
    assert tree(data)[0].build() == [
        speech(data / "crema_d/AudioWAV", f"{key}.wav", key, text, label=label, speaker=key[:4], split="all")
        for key, text, label in (
            ("1001_DFA_ANG_XX", "Don't forget a jacket.", "anger"),
            ("1040_ITH_SAD_X", "I think I have a doctor's appointment.", "sad"),
        )
    ]


@pytest.mark.parametrize("name", ["mine.wav", "1001_DFA_JOY_XX.wav", "1001_AAA_ANG_XX.wav"])
def test_a_file_of_another_name(data, name):
    source = tree(data)[0]
    plant(data / "crema_d", {}, (f"AudioWAV/{name}",))
    with pytest.raises(ValueError, match=rf"{name}: expected a name such as"):
        source.build()
