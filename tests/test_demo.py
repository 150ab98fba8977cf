"""`make demo` in small: two steps of training, then everything else as it is, and one page that needs no other file."""

import re

import processes
from lapis.search.index import Index

SMALL = (
    "model.audio.width=24",
    "model.audio.depth=3",
    "model.audio.heads=2",
    "model.audio.hidden=24",
    "budget.clips=6",
    "training.steps=2",
    "checks=[]",
)


def test_demo_writes_a_page_that_stands_alone(root, tmp_path):
    answer = processes.python_script(root / "demo" / "demo.py", "--out", tmp_path, "--set", *SMALL, seconds=300)
    assert answer.returncode == 0, answer.stderr
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<audio") == 15 and page.count("data:audio/ogg;base64,") == 15
    assert page.count("data:image/png;base64,") == 4  # the curves and three confusions
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    for words in ("火が燃えている", "pocket-sound-zeroshot-eng_Latn-1", "chance"):
        assert words in page
    assert Index.open(tmp_path / "index").model == str(tmp_path / "run")  # so that `lapis search` finds it
