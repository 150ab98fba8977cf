"""An index in an object store: moto's S3 server, in a process of its own, with the same code as for a folder."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_index import make_index, windows_of
from tones import ToneEmbedder, write_tone

from lapis.search.index import METADATA_NAME, Index
from lapis.search.place import Place
from storage_server import not_ours, s3_server, settings

pytest.importorskip("moto.server", reason="needs an S3 server: pip install 'moto[s3]' flask flask-cors")
pytest.importorskip("obstore", reason="needs the extra storage")

ADDRESS = "s3://bucket/deep/index"
KILLED = "s3://bucket/killed"


@pytest.fixture(scope="module")
def endpoint():
    with s3_server() as address:
        yield address


@pytest.fixture
def store(endpoint, tmp_path, monkeypatch):
    for name in not_ours():
        monkeypatch.delenv(name)
    for name, value in settings(endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LAPIS_CACHE", str(tmp_path / "cache"))


ADDING = f"""
import sys
from tones import ToneEmbedder
from lapis.search.index import Index
index = Index.create_or_open({KILLED!r}, embedder_identity="tones", width=5, window_seconds=1.0)
index.update(sys.argv[1], embedder=ToneEmbedder(pause_seconds=0.05), batch_seconds=2.0, commit_windows=2,
             progress=lambda done, total: print(done, flush=True))
"""


@pytest.mark.slow
def test_killed_and_run_again(store, tmp_path):
    sounds = tmp_path / "sounds"
    for number in range(13):
        write_tone(sounds / f"{number:02}.wav", 100 + 60 * number, seconds=2)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", ADDING, str(sounds)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert next(line for line in process.stdout if int(line) >= 6)
        process.send_signal(signal.SIGKILL)

    index = Index.open(KILLED, embedder_identity="tones")
    kept = windows_of(index)
    assert 4 <= len(kept) == len(set(kept)) < 26
    report = index.update(sounds, embedder=ToneEmbedder())
    assert (report.unchanged, report.added + report.unchanged) == (len({path for path, _ in kept}), 13)
    rows = windows_of(index)
    assert len(rows) == len(set(rows)) == 26


def test_made_changed_searched_and_made_anew(store, tmp_path):
    sounds = tmp_path / "sounds"
    for name, hertz in (("low", 300), ("high", 1000), ("other", 2000)):
        write_tone(sounds / f"{name}.wav", hertz, seconds=2)
    with pytest.raises(ValueError, match=f"there is no index in {ADDRESS}"):
        Index.open(ADDRESS)
    index = make_index(f"{ADDRESS}/", window_seconds=1.0)
    assert index.update(sounds, embedder=ToneEmbedder()).windows == 6
    (sounds / "high.wav").rename(sounds / "moved.wav")
    (sounds / "other.wav").unlink()
    report = index.update(sounds, embedder=ToneEmbedder())
    assert (report.moved, report.removed, report.windows, report.unchanged) == (1, 1, 0, 1)
    (best, *_) = Index.open(ADDRESS).search_text("high", embedder=ToneEmbedder())
    assert best.path.name == "moved.wav"

    stamp = Place(ADDRESS).stamp()
    assert stamp is not None and Place(ADDRESS).stamp() == stamp and Place("s3://bucket/none").stamp() is None
    import obstore
    from obstore.store import from_url

    obstore.delete(from_url(ADDRESS), METADATA_NAME)
    with pytest.raises(ValueError, match=r"cannot be read .*index\.json.*If the store answers"):
        make_index(ADDRESS)
    assert make_index(ADDRESS, rebuild=True).num_windows == 0 and Place(ADDRESS).stamp() != stamp


def test_a_bucket_that_is_not_there_is_no_damaged_disk(store):
    with pytest.raises(ValueError, match=r"s3://nobody/index cannot be read .*There is no such bucket"):
        Index.open("s3://nobody/index")
