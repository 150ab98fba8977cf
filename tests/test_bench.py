"""Every measurement in `bench` runs in its quick form and leaves its JSON. What it measured is not judged here."""

import json
from pathlib import Path

import pytest

import processes

SCRIPTS = sorted((Path(__file__).parent.parent / "bench").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_quick_form(script, tmp_path):
    out = tmp_path / "result.json"
    answer = processes.python_script(script, "--quick", "--out", out)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() and json.loads(out.read_text())
