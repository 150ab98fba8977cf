"""Every corpus in the folder: it is told of, it is a value, and it fails with the name of what is not there.

Its test, `test_<module>.py`, has `tree(root)`, which plants it in its true layout and returns sources that read it, and
may have `OPTIONAL`, the names of files that it can do without.
"""

import importlib
import pickle
import re
import warnings
from dataclasses import FrozenInstanceError, fields, is_dataclass
from typing import get_args, get_type_hints

import pytest

from lapis import datasets
from lapis.data.sample import Openable
from lapis.data.sources import SourceConfig
from lapis.datasets.reading import MissingClips
from lapis.values import from_values, to_values

NAMES = datasets.names()
DOWNLOADED = [name for name in NAMES if name != "pocket"]
FLORES = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")


def planted(name, root):
    return importlib.import_module(f"test_{name}").tree(root)


def tables(root):
    return [path for path in sorted(root.rglob("*")) if path.is_file() and path.stat().st_size and _is_text(path)]


def _is_text(path):
    return path.suffix in (".csv", ".tsv", ".json", ".txt", ".scp", "") and path.name != "LICENSE"


def test_the_folder_is_walked():
    assert len(DOWNLOADED) >= 33
    assert not {"about", "reading", "segments", "objects", "languages", "youtube"} & set(NAMES)


def test_a_name_that_is_none():
    with pytest.raises(ValueError, match="no data set 'cloto', did you mean 'clotho'"):
        datasets.find("cloto")


@pytest.mark.parametrize("name", NAMES)
def test_it_is_told_of(name):
    about = datasets.find(name)
    module = importlib.import_module(f"lapis.datasets.{name}")
    assert about is module.ABOUT and module.__doc__
    assert about.source.__module__ == module.__name__ and about.source.__doc__ and about.source.build.__doc__
    assert about.name and about.licence and about.obtain.endswith((".", "`."))
    assert about.homepage.startswith("https://") or name == "pocket"
    assert about.paper is None or about.paper.startswith(("arXiv:", "doi:", "https://"))
    assert about.domain in ("sound", "music", "speech", "all")
    assert about.splits and all(count is None or count > 0 for count in about.splits.values())
    assert all(FLORES.fullmatch(code) for code in about.languages)
    digits = {"md5": 32, "sha256": 64}
    for checksum in about.checksums.values():
        kind, _, value = checksum.partition(":")
        assert re.fullmatch(f"[0-9a-f]{{{digits[kind]}}}", value)


@pytest.mark.parametrize("name", NAMES)
def test_its_choices_are_the_splits(name):
    about = datasets.find(name)
    hints = get_type_hints(about.source)
    if "folds" in hints:
        assert {f"fold{fold}" for fold in about.source().folds} == set(about.splits)
    else:
        assert set(get_args(hints["split"])) == set(about.splits)
    if name != "pocket":
        assert next(field.default for field in fields(about.source) if field.name == "folder")


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_value_and_reads(name, data):
    about = datasets.find(name)
    sources = planted(name, data)
    assert sources and all(type(source) is about.source for source in sources)
    for source in sources:
        assert is_dataclass(source) and isinstance(source, SourceConfig)
        with pytest.raises(FrozenInstanceError):
            source.split = "other"
        assert from_values(to_values(source)) == source == pickle.loads(pickle.dumps(source))
        samples = source.build()
        assert samples and list(pickle.loads(pickle.dumps(samples))) == list(samples)
        assert len({sample.key for sample in samples}) == len({str(sample.audio) for sample in samples}) == len(samples)
        for sample in samples:
            assert isinstance(sample.audio, Openable) and sample.audio.path.is_file()
            assert sample.split in about.splits and sample.domain in ("sound", "music", "speech")
            assert sample.seconds is None or sample.seconds > 0
            assert all(FLORES.fullmatch(code) for code in (*sample.captions, *filter(None, [sample.language])))
            assert all(texts and all(texts) for texts in sample.captions.values())
    assert pickle.loads(pickle.dumps(about)) == about


@pytest.mark.parametrize("name", DOWNLOADED)
def test_its_folder_is_not_there(name, data):
    source = planted(name, data / "elsewhere")[0]
    about = datasets.find(name)
    with pytest.raises(ValueError, match=re.escape(f"{data / source.folder}: expected the folder of {about.name}")):
        source.build()


@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_choice_that_is_none(name, data):
    source = planted(name, data)[0]
    hints = get_type_hints(type(source))
    for field in fields(source):
        if get_args(hints[field.name]) and field.name != "folds":
            wrong = pickle.loads(pickle.dumps(source))
            object.__setattr__(wrong, field.name, "nothing of the kind")
            with pytest.raises(ValueError, match=f"{field.name} of .* must be one of"):
                wrong.build()


@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_table_that_is_not_there_is_named(name, data):
    sources = planted(name, data)
    optional = getattr(importlib.import_module(f"test_{name}"), "OPTIONAL", set())
    for table in tables(data):
        content = table.read_bytes()
        for broken in (None, b"\xff\xfe\x00not text"):
            if broken is None:
                if table.name in optional:
                    continue
                table.unlink()
            else:
                table.write_bytes(broken)
            assert any(table.name in error for error in _errors(sources)), f"{table} {broken}"
        table.write_bytes(content)
    assert not _errors(sources)


@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_column_that_is_not_there_is_named(name, data):
    sources = planted(name, data)
    for table in tables(data):
        text = table.read_text(encoding="utf-8")
        header, _, rest = text.partition("\n")
        if table.suffix not in (".csv", ".tsv") or not re.search(
            r"(?i)caption|file|id|name|path|tone|clip|link", header
        ):
            continue
        if not re.fullmatch(r"[\w,\t\[\]]+", header):
            continue
        needed = 0
        for column in re.split(r"[,\t]", header):
            renamed = header.replace(column, "renamed", 1) if column else header
            table.write_text(f"{renamed}\n{rest}", encoding="utf-8")
            needed += any(f"{table}: no column {column!r}" in error for error in _errors(sources))
        table.write_text(text, encoding="utf-8")
        assert needed >= 2, table


@pytest.mark.parametrize("name", DOWNLOADED)
def test_without_any_sound(name, data):
    sources = planted(name, data)
    for path in data.rglob("*"):
        if path.is_file() and path not in tables(data):
            path.unlink()
    for source in sources:
        with pytest.raises(ValueError, match=r"there is a sound file for none of them below|expected clips, there are"):
            source.build()


def _errors(sources):
    """What the sources say when they are built: errors, and warnings of clips that are left out."""
    found = []
    for source in sources:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                source.build()
            except ValueError as error:
                found.append(str(error))
        found += [str(warning.message) for warning in told if issubclass(warning.category, MissingClips)]
    return found


def row(name):
    """The line of a corpus in docs/datasets.md."""
    about = datasets.find(name)
    splits = ", ".join(f"{split} {count:,}" if count else split for split, count in about.splits.items())
    hours = f"{about.hours:,g}" if about.hours else ""
    obtain = about.obtain.replace("`", "")
    link = f"[{about.name}]({about.homepage if name != 'pocket' else '../data/pocket/README.md'})"
    return f"| {link} | `{name}` | {about.domain} | {hours} | {splits} | {about.licence} | {obtain} |"


@pytest.mark.parametrize("name", NAMES)
def test_the_page_says_what_the_module_says(name, root):
    lines = (root / "docs" / "datasets.md").read_text(encoding="utf-8").splitlines()
    assert row(name) in lines, f"docs/datasets.md needs the line\n{row(name)}"
