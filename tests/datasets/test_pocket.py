from pathlib import Path

import pytest

from lapis.datasets.pocket import Pocket, class_names

POCKET = Path(__file__).parents[2] / "data" / "pocket"


def tree(root):
    (root / "pocket").symlink_to(POCKET, target_is_directory=True)
    return [Pocket("val"), Pocket("test", domain="music")]


def test_a_domain(data):
    val, music = (source.build() for source in tree(data))
    assert {sample.domain for sample in music} == {"music"}
    assert {sample.domain for sample in val} == {"sound", "music", "speech"}
    assert set(class_names("music")) >= {sample.label for sample in music}


def test_it_is_not_there(data):
    with pytest.raises(ValueError, match="no tar matches"):
        Pocket("val").build()
    with pytest.raises(ValueError, match="expected the class names"):
        class_names("music")
