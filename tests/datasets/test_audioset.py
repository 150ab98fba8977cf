import pytest
from planting import plant

from lapis.data.sample import Location, Sample
from lapis.datasets.audioset import AudioSet, class_names
from lapis.datasets.reading import MissingClips

SEGMENTS = """# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=22160, num_segs=22160, num_unique_labels=527, num_positive_labels=52882
# YTID, start_seconds, end_seconds, positive_labels
--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"
-0DdlOuIFUI, 50.000, 57.500, "/m/0dgw9r"
"""


def tree(root):
    plant(
        root / "audioset",
        {
            "class_labels_indices.csv": "index,mid,display_name\n"
            '0,/m/09x0r,"Speech"\n29,/t/dd00088,"Gush"\n136,/m/0dgw9r,"Owl, or so"\n',
            "balanced_train_segments.csv": SEGMENTS,
            "eval_segments.csv": SEGMENTS,
        },
        ("balanced_train_segments/Y--PJHxphWEs.wav", "balanced_train_segments/Y-0DdlOuIFUI.wav"),
    )
    return [AudioSet("balanced_train"), AudioSet("eval")]


def test_several_classes_and_published_lengths(data):
    samples = tree(data)[0].build()
    assert samples == [
        Sample(
            key=key,
            audio=Location(data / f"audioset/balanced_train_segments/Y{key}.wav"),
            seconds=seconds,
            label=label,
            domain="sound",
            source=f"youtube:{key}",
            split="balanced_train",
        )
        for key, seconds, label in (("--PJHxphWEs", 10.0, "Speech;Gush"), ("-0DdlOuIFUI", 7.5, "Owl, or so"))
    ]
    assert list(class_names(data / "audioset").values()) == ["Speech", "Gush", "Owl, or so"]


def test_a_class_without_a_name(data):
    source, _ = tree(data)
    plant(data / "audioset", {"balanced_train_segments.csv": SEGMENTS.replace("/m/09x0r", "/m/nothing")})
    with pytest.raises(ValueError, match=r"clip --PJHxphWEs: class '/m/nothing' is not in .*class_labels_indices"):
        source.build()


def test_missing_clips_are_counted(data):
    source, _ = tree(data)
    (data / "audioset/balanced_train_segments/Y-0DdlOuIFUI.wav").unlink()
    with pytest.warns(MissingClips, match=r"1 of 2 clips of .*balanced_train_segments\.csv"):
        assert len(source.build()) == 1
