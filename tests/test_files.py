"""Files on disk: no reader sees half a file, and no download passes unverified."""

import hashlib
import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.error import HTTPError, URLError

import pytest

from lapis import files

CONTENT = bytes(range(256)) * 10_000  # More than two blocks.
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path):
    """The address of a server of `weights.bin`, and the paths asked of it."""
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format, *values):
            asked.append(self.path)

    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "weights.bin").write_bytes(CONTENT)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "served"))) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


class TestAtomicWrite:
    def test_writes(self, tmp_path):
        with files.atomic_write(tmp_path / "new" / "a.bin") as file:
            file.write(CONTENT)
            assert not (tmp_path / "new" / "a.bin").exists()
        assert (tmp_path / "new" / "a.bin").read_bytes() == CONTENT
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.bin"]

    def test_text_is_utf8(self, tmp_path):
        with files.atomic_write(tmp_path / "a.txt", binary=False) as file:
            file.write("дождь")
        assert (tmp_path / "a.txt").read_bytes() == "дождь".encode()

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_interrupted_leaves_the_old_file_alone(self, tmp_path, error):
        folder = tmp_path / "folder"
        folder.mkdir()
        (folder / "a.bin").write_bytes(b"old")
        with pytest.raises(error), files.atomic_write(folder / "a.bin") as file:
            file.write(b"half of the ne")
            raise error
        assert (folder / "a.bin").read_bytes() == b"old"
        assert [path.name for path in folder.iterdir()] == ["a.bin"]

    @pytest.mark.skipif(os.name != "posix", reason="permission bits")
    def test_permissions_are_those_of_any_new_file(self, tmp_path):
        (tmp_path / "plain").touch()
        with files.atomic_write(tmp_path / "atomic") as file:
            file.write(b"x")
        assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


class TestDownload:
    def test_fetches_verifies_and_keeps(self, server, cache):
        address, asked = server
        progress = []
        got = files.download(f"{address}/weights.bin", sha256=SHA256, progress=lambda *step: progress.append(step))
        assert got.read_bytes() == CONTENT
        assert got.parent == cache / "downloads"
        assert got.name.endswith("-weights.bin")
        assert progress[-1] == (len(CONTENT), len(CONTENT))
        assert [fetched for fetched, _ in progress] == sorted(fetched for fetched, _ in progress)
        assert files.download(f"{address}/weights.bin", sha256=SHA256) == got
        assert asked == ["/weights.bin"]

    def test_a_damaged_copy_is_fetched_again(self, server):
        address, asked = server
        got = files.download(f"{address}/weights.bin", sha256=SHA256)
        got.write_bytes(CONTENT[:-1])
        assert files.download(f"{address}/weights.bin", sha256=SHA256).read_bytes() == CONTENT
        assert len(asked) == 2

    def test_another_checksum_leaves_nothing(self, server, tmp_path):
        address, _ = server
        with pytest.raises(ValueError, match=f"sha256 {'0' * 64} expected, {SHA256} came"):
            files.download(f"{address}/weights.bin", sha256="0" * 64, folder=tmp_path / "here")
        assert list((tmp_path / "here").iterdir()) == []

    def test_what_is_not_there(self, server, cache, tmp_path):
        address, _ = server
        with pytest.raises(HTTPError):
            files.download(f"{address}/nothing.bin", sha256=SHA256)
        with pytest.raises(URLError):
            files.download((tmp_path / "nothing.bin").as_uri(), sha256=SHA256)
        assert list((cache / "downloads").iterdir()) == []

    def test_file_address(self, tmp_path):
        (tmp_path / "with space.bin").write_bytes(CONTENT)
        got = files.download((tmp_path / "with space.bin").as_uri(), sha256=SHA256, folder=tmp_path / "here")
        assert got.parent == tmp_path / "here"
        assert got.read_bytes() == CONTENT

    @pytest.mark.parametrize("address", ["ftp://host/file", "weights.bin", "data:,hello"])
    def test_other_schemes_are_refused(self, address):
        with pytest.raises(ValueError, match="expected an http, https or file address"):
            files.download(address, sha256=SHA256)


class TestCacheFolder:
    def test_lapis_cache(self, cache):
        assert files.cache_folder("a", "b") == cache / "a" / "b"
        assert (cache / "a" / "b").is_dir()

    def test_xdg_cache_home(self, tmp_path, monkeypatch):
        monkeypatch.delenv("LAPIS_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert files.cache_folder() == tmp_path / "xdg" / "lapis"

    def test_home(self, tmp_path, monkeypatch):
        monkeypatch.delenv("LAPIS_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("USERPROFILE", str(tmp_path))
        assert files.cache_folder("models") == tmp_path / ".cache" / "lapis" / "models"


def test_sha256_of(tmp_path):
    (tmp_path / "a.bin").write_bytes(CONTENT)
    assert files.sha256_of(tmp_path / "a.bin") == SHA256


def test_a_lock_is_held_by_one_and_free_afterwards(tmp_path):
    lock = tmp_path / "new" / "lock"
    refused = pytest.raises(ValueError, match="is in use by another process")
    with files.locked(lock), refused, files.locked(lock):
        pass
    with files.locked(lock):
        pass
