"""Tables of captions beside a source: which clips get what, and lines that are no rows."""

import json
from pathlib import Path

import pytest

from lapis.data.captioned import Row, read_table, with_captions
from lapis.data.sample import Location, Sample

TABLE = {("eng_Latn", "A dog barks."): [("deu_Latn", ("Ein Hund bellt.",)), ("eng_Latn", ("A hound gives voice.",))]}


def test_a_translation_is_not_added_to_captions_of_its_language():
    own = {"eng_Latn": ("A  dog barks.",), "deu_Latn": ("Der Hund!",)}
    without = {"eng_Latn": ("A dog barks.",), "deu_Latn": ("",)}
    told, other = (with_captions(Sample("a", Location(Path("x")), of), [TABLE]).captions for of in (own, without))
    assert told == {"eng_Latn": ("A  dog barks.", "A hound gives voice."), "deu_Latn": ("Der Hund!",)}
    assert other == {"eng_Latn": ("A dog barks.", "A hound gives voice."), "deu_Latn": ("Ein Hund bellt.",)}


def test_a_lone_surrogate_finds_its_row(tmp_path):
    (tmp_path / "captions.jsonl").write_text(Row("A \ufffd dog", "eng_Latn", "deu_Latn", ("Ein Hund",)).line())
    sample = Sample("a", Location(Path("x")), {"eng_Latn": ("A \ud83d dog",)})
    assert with_captions(sample, [read_table(tmp_path)]).captions["deu_Latn"] == ("Ein Hund",)


@pytest.mark.parametrize(
    "wrong",
    [{"language": ["x"]}, {"language": {}}, {"text": 5}, {"to": None}, {"captions": "Ein Hund"}, {"captions": [5]}],
)
def test_a_line_that_is_no_row_is_told(tmp_path, wrong):
    row = {"language": None, "text": "dog", "to": "deu_Latn", "captions": ["Ein Hund"]}
    (tmp_path / "captions.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(row | wrong)}\n")
    with pytest.raises(ValueError, match=r"captions\.jsonl, line 2: expected text, language"):
        read_table(tmp_path)
