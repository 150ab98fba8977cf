"""Units: how numbers are shown, and which of two is better."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation import runs
from lapis.evaluation.compare import compare
from lapis.evaluation.figure import Figure, shown
from lapis.evaluation.results import Measured
from lapis.evaluation.results_file import read, write


def test_numbers_are_shown_as_their_unit_wants():
    told = {unit: shown(12.34567, unit) for unit in ("score", "rank", "error")}
    assert told == {"score": "12.346", "rank": "12.3", "error": "12.3457"}
    assert shown(-0.0123, "lost share") == shown(-0.0123, "share") == "-1.2%"


@pytest.mark.parametrize(
    ("unit", "verdict"),
    [
        ("share", "second is better"),
        ("score", "second is better"),
        ("rank", "first is better"),
        ("error", "first is better"),
        ("lost share", "first is better"),
    ],
)
def test_the_higher_or_the_lower_is_better_by_the_unit(unit, verdict, tmp_path):
    def run(value):
        items = np.full(12, value) + np.arange(12) / 100
        figures = {"x": Figure(float(items.mean()), None, None, unit)}
        one = Measured(protocol="p", figures=figures, data_checksum="", num_clips=12, items={"x": items})
        return replace(runs.run(), benchmarks={"b-1": one})

    write(run(0.6), tmp_path / "run.json")
    (difference,) = compare(run(0.2), second=read(tmp_path / "run.json")).differences
    assert difference.verdict == verdict and difference.shown().startswith("+")
