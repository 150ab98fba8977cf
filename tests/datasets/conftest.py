"""A data folder for every test of a corpus."""

import pytest


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    return tmp_path
