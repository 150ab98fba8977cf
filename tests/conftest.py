"""What all tests share: a cache of their own, no hub, the repository's data, and few threads."""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from lapis.cli import main

# Machines differ in speed, and the first call of a kernel is slow: no deadline on an example.
settings.register_profile("lapis", deadline=None)
settings.load_profile("lapis")

ROOT = Path(__file__).parent.parent
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Several test processes share the cores.
torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A cache that lasts for the session, shared by the workers of pytest-xdist, and the pocket corpus as data."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    os.environ["LAPIS_CACHE"] = str(shared / "lapis-cache")
    os.environ["LAPIS_DATA"] = str(ROOT / "data")
    return _settings()


@pytest.fixture(autouse=True)
def settled(places: dict[str, str]):
    """Fails the test after which the environment is another: the next one of its process would read other data."""
    yield
    left = _settings()
    for name in left.keys() - places.keys():
        del os.environ[name]
    os.environ.update(places)
    assert left == places, "a test, or a fixture of its file, left other LAPIS_ variables than it found"


def _settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("LAPIS_")}


@dataclass(frozen=True)
class Answer:
    """What a command leaves behind."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def lapis(monkeypatch, capsys, tmp_path):
    """The command `lapis` with these words, in this process and in the test's folder: starting one takes seconds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # which `main` replaces

    def call(*words: object) -> Answer:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, words)))
        return Answer(int(ended.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT
