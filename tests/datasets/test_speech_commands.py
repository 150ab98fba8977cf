import pytest
from planting import plant, speech

from lapis.data.sample import Location, Sample
from lapis.datasets.speech_commands import SpeechCommands, which_set

OPTIONAL = {"validation_list.txt", "testing_list.txt"}  # one without the other is an error, tested below
TRAIN, VALIDATION, TEST = "cat/0a7c2a8d_nohash_0.wav", "right/a69b9b3e_nohash_0.wav", "right/bb05582b_nohash_3.wav"


def tree(root):
    plant(
        root / "speech_commands" / "speech_commands_v0.02",
        {"validation_list.txt": VALIDATION + "\n", "testing_list.txt": TEST + "\n", "LICENSE": "CC-BY"},
        (TRAIN, VALIDATION, TEST, "_background_noise_/doing_the_dishes.wav"),
    )
    return [SpeechCommands(split) for split in ("train", "validation", "test", "background_noise")]


def _expected(root, path, split):
    word, file = path.split("/")
    return speech(
        root / "speech_commands/speech_commands_v0.02",
        path,
        path.removesuffix(".wav"),
        word,
        label=word,
        speaker=file[:8],
        split=split,
    )


def test_lists_and_what_is_in_neither(data):
    train, validation, test, noise = (source.build() for source in tree(data))
    assert train == [_expected(data, TRAIN, "train")]
    assert validation == [_expected(data, VALIDATION, "validation")]
    assert test == [_expected(data, TEST, "test")]
    place = data / "speech_commands/speech_commands_v0.02/_background_noise_/doing_the_dishes.wav"
    key = "_background_noise_/doing_the_dishes"
    assert noise == [Sample(key=key, audio=Location(place), domain="sound", split="background_noise")]


def test_the_rule_stands_in_for_lost_lists(data):
    sources = tree(data)
    with_lists = [source.build() for source in sources]
    for name in OPTIONAL:
        (data / "speech_commands/speech_commands_v0.02" / name).unlink()
    assert [source.build() for source in sources] == with_lists


def test_one_list_without_the_other(data):
    sources = tree(data)
    (data / "speech_commands/speech_commands_v0.02/testing_list.txt").unlink()
    for source in sources[:2]:
        with pytest.raises(ValueError, match=r"testing_list\.txt: expected a file"):
            source.build()


def test_a_speaker_is_in_one_split_whatever_the_word():
    assert which_set("right/bb05582b_nohash_3.wav") == which_set("bb05582b_nohash_0.wav") == "test"
    splits = [which_set(f"yes/{number:08x}_nohash_0.wav") for number in range(4000)]
    assert all(0.08 < splits.count(split) / 4000 < 0.12 for split in ("validation", "test"))
