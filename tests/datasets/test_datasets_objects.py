"""Lists in JSON files that are too large for the memory."""

import json
import tracemalloc

import pytest
from planting import plant

from lapis.datasets import objects as module
from lapis.datasets.objects import objects

VALUES = {
    "version": 1.25,
    "about": {"audios": ["not these"], "text": 'a "quoted" \\ {brace'},
    "count": 12_345,
    "audios": [{"n": number, "text": "é漢字" * number, "list": [[], {}, None, -1.5e3]} for number in range(30)],
    "after": True,
}


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("escaped", [False, True])
def test_the_same_whatever_is_read_at_a_time(tmp_path, monkeypatch, size, indent, escaped):
    monkeypatch.setattr(module, "CHUNK_CHARACTERS", size)
    plant(tmp_path, {"a.json": "\ufeff " + json.dumps(VALUES, indent=indent, ensure_ascii=escaped) + "\n"})
    assert list(objects(tmp_path / "a.json", "audios")) == VALUES["audios"]


def test_an_empty_list(tmp_path):
    plant(tmp_path, {"a.json": '{"audios" : [ ] }'})
    assert list(objects(tmp_path / "a.json", "audios")) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"audios": [{"a": 1}, ', "not whole"),
        ('{"audios": [{"a": 1}, {"a"', "is not JSON"),
        ('{"audios": [{"a": 1} {"b": 2}]}', "expected ',', got '{'"),
        ('{"audios": [1]}', "expected objects under 'audios', got int"),
        ('{"audios": {"a": 1}}', "expected '\\['"),
        ('{"others": []}', "expected a list under 'audios', there is none"),
        ("[]", "expected '{'"),
        ("", "not whole"),
        ('{"audios": [{"a": nothing, "b": "' + 100 * "x" + '"}]}', "is not JSON"),
    ],
)
def test_what_is_no_such_file_is_named(tmp_path, content, message):
    plant(tmp_path, {"a.json": content})
    with pytest.raises(ValueError, match=f"a\\.json.*{message}"):
        list(objects(tmp_path / "a.json", "audios"))


def test_a_file_that_is_not_there_or_not_in_utf_8(tmp_path):
    with pytest.raises(ValueError, match=r"a\.json: expected a file of the corpus"):
        list(objects(tmp_path / "a.json", "audios"))
    (tmp_path / "a.json").write_bytes(b'{"audios": [{"a": "\xe9"}]}')
    with pytest.raises(ValueError, match=r"a\.json is not JSON in UTF-8"):
        list(objects(tmp_path / "a.json", "audios"))


def test_memory_does_not_grow_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_CHARACTERS", 1 << 14)
    with (tmp_path / "a.json").open("w") as file:
        file.write('{"audios": [')
        for number in range(20_000):
            file.write(f'{"," if number else ""}{{"n": {number}, "text": "{"x" * 200}"}}')
        file.write("]}")
    assert (tmp_path / "a.json").stat().st_size > 4_000_000
    tracemalloc.start()
    assert sum(item["n"] for item in objects(tmp_path / "a.json", "audios")) == 20_000 * 19_999 // 2
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000
