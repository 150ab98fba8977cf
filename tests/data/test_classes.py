"""Names of classes and the classes of clips; what is wrong with them is named."""

from pathlib import Path

import numpy as np
import pytest

from lapis.data.classes import class_names, class_targets, labels_of
from lapis.data.sample import Location, Sample
from lapis.data.sources import Table


def _sample(label: str | None) -> Sample:
    return Sample("clip", Location(Path("nowhere")), label=label)


def test_names_stand_in_a_file_one_a_line(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    (tmp_path / "classes.txt").write_text("Speech\nInside, small room\n\n", encoding="utf-8")
    assert (
        class_names("classes.txt") == ("Speech", "Inside, small room") == class_names(("Speech", "Inside, small room"))
    )
    with pytest.raises(
        ValueError, match=r"other.txt: expected the names of classes, one a line; there is no such file"
    ):
        class_names("other.txt")
    (tmp_path / "classes.txt").write_text("Speech\nDog\nSpeech\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"classes.txt: class 'Speech' stands there twice"):
        class_names("classes.txt")
    with pytest.raises(ValueError, match=r"at least two classes, got \['Dog'\]"):
        class_names(("Dog",))


def test_targets_are_one_where_a_clip_is_of_a_class():
    samples = [_sample("dog"), _sample("rain;dog")]
    found = class_targets(samples, classes=("rain", "wind", "dog"), kind="multi-label")
    np.testing.assert_array_equal(found, [[0, 0, 1], [1, 0, 1]])
    assert labels_of(samples) == ("dog", "rain")


def test_what_is_wrong_with_a_label_is_named():
    for label, kind, message in (
        ("cat", "multi-label", "clip clip has label 'cat', which is none of the 2 classes"),
        (None, "multi-label", "clip clip: expected labels, got None"),
        ("dog;rain", "single-label", "clip clip: expected one label, got 'dog;rain'"),
    ):
        with pytest.raises(ValueError, match=message):
            class_targets([_sample(label)], classes=("dog", "rain"), kind=kind)


def test_a_table_may_list_labels(tmp_path):
    path = tmp_path / "table.jsonl"
    path.write_text('{"audio": "a.wav", "caption": "x", "label": ["dog", "rain"]}\n', encoding="utf-8")
    assert Table(str(path)).build()[0].labels == ("dog", "rain")
