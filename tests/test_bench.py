"""Every measurement in `bench` runs in its quick form and leaves its JSON. What it measured is not judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parent.parent / "bench").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_quick_form(script, tmp_path):
    out = tmp_path / "result.json"
    command = [sys.executable, str(script), "--quick", "--out", str(out)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() and json.loads(out.read_text())
