from dataclasses import dataclass
from pathlib import Path

import pytest

from lapis.data.sample import Location, Sample
from lapis.evaluation.part import Part


@dataclass(frozen=True)
class Ten:
    def build(self):
        return [Sample(str(number), Location(Path("x.wav"))) for number in range(10)]


def keys(clips):
    return [sample.key for sample in Part(Ten(), clips).build()]


def test_a_part_is_spread_over_its_source_in_order():
    assert keys(4) == ["0", "3", "6", "9"] and keys(1) == ["0"]
    assert keys(10) == keys(99) == [str(number) for number in range(10)]
    for clips in range(1, 11):
        assert len(set(keys(clips))) == clips


def test_a_part_of_nothing_is_refused():
    with pytest.raises(ValueError, match="a number of clips above zero, got 0"):
        Part(Ten(), 0)
