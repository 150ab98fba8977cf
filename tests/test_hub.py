"""Models by name or path, with a family of weights made on the spot and a hub of our own on this machine."""

import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import huggingface_hub.constants
import numpy as np
import pytest
import torch

import tiny
from lapis import hub, pretrained, saved, weights
from lapis import recipe as recipes
from lapis.cli import app
from lapis.doctor import ModelWarning
from lapis.files import atomic_write, sha256_of
from lapis.model import Embedder
from lapis.pretrained import fetch
from lapis.pretrained.families import official

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CLIP = np.sin(np.arange(16_000) * 0.05).astype(np.float32)
FAMILY = '''
"""A family for tests: the tiny model, its tensors under `theirs.`."""

import numpy as np

import tiny
from lapis.pretrained.official import Official, OfficialFile
from lapis.weights import load_strictly

OFFICIAL = {official}


def recognises(keys):
    return "theirs.audio_projection.weight" in keys


def build(tensors, *, source, folder=None, shout=False, width=8):
    model = tiny.CONFIG.build_empty()
    load_strictly(model, {{name.removeprefix("theirs."): t for name, t in tensors.items()}}, source=source)
    model.beside = sorted(path.name for path in folder.iterdir())
    model.shouts = shout
    return model


def recognises_folder(folder):
    return (folder / "theirs.json").is_file()


class Remote:
    """An embedder that is no module: its weights are elsewhere."""

    identity, sample_rate, width = "remote", 16_000, 8
    embed_audio = embed_text = staticmethod(lambda items: np.eye(len(items), 8, dtype=np.float32))


def from_folder(folder):
    return Remote() if "remote" in (folder / "theirs.json").read_text() else tiny.model(3)
'''


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # for single files; the hub's library has read it before


@pytest.fixture
def published(tmp_path):
    """A folder of published files: weights with an optimiser beside them, and the words of the text tower."""
    folder = tmp_path / "published"
    folder.mkdir()
    tensors = {f"theirs.{name}": tensor for name, tensor in tiny.model().state_dict().items()}
    torch.save({"model": tensors, "optimizer": {"moments": torch.zeros(100_000)}}, folder / "tiny.pth")
    (folder / "words.txt").write_text("rain")
    return folder


@pytest.fixture
def family(tmp_path, published, monkeypatch):
    """Adds a module to the folder that the hub walks; gives the folder of its published files."""
    files = ", ".join(
        f"OfficialFile({path.name!r}, address={path.as_uri()!r}, sha256={sha256_of(path)!r})"
        for path in sorted(published.iterdir())
    )
    known = f"""{{
        "Tiny-2026": Official("CC0 of a test", "https://tiny.example", ({files},), "its words are few"),
        "owner/tiny": Official("CC0 of a test", "https://tiny.example"),
    }}"""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "tiny_of_tests.py").write_text(FAMILY.format(official=known))
    monkeypatch.setattr(pretrained, "__path__", [*pretrained.__path__, str(tmp_path / "modules")])
    yield published
    sys.modules.pop("lapis.pretrained.tiny_of_tests", None)


def _quiet(name, **options):
    return hub.load(name, check=False, **options)


class TestPaths:
    def test_a_saved_model(self, tmp_path):
        saved.save(tiny.model(), tmp_path / "model")
        model = _quiet(tmp_path / "model")
        assert isinstance(model, Embedder) and model.identity == tiny.model().identity
        assert _quiet(str(tmp_path / "model")).identity == model.identity

    def test_a_finished_training_run_is_a_saved_model(self, tmp_path):
        small = ("model.audio.width=24", "model.audio.depth=3", "model.audio.heads=2", "model.audio.hidden=24")
        settings = (*small, "budget.clips=6", "training.steps=1", "checks=[]", "threads=1")
        recipe = recipes.override(recipes.find("pocket"), settings)
        recipes.run(recipe, folder=tmp_path / "run")
        assert saved.describe(tmp_path / "run").source == "a run of the recipe pocket"
        assert saved.golden(tmp_path / "run").text.shape[1] == 512
        model = _quiet(tmp_path / "run")
        for name in ("config.json", "golden.safetensors"):  # a run of before
            (tmp_path / "run" / name).unlink()
        older = _quiet(tmp_path / "run")
        assert older.identity == model.identity and not any(p.requires_grad for p in older.parameters())
        (tmp_path / "run" / "model.safetensors").unlink()
        with pytest.raises(ValueError, match=r"expected the folder of a finished training run, model\.safetensors is"):
            _quiet(tmp_path / "run")

    def test_a_file_of_official_weights_is_known_by_its_tensors(self, family):
        model = _quiet(family / "tiny.pth", shout=True)
        assert model.identity == tiny.model().identity
        assert model.shouts and model.beside == ["tiny.pth", "words.txt"]

    def test_a_folder_with_official_weights(self, family):
        assert _quiet(family).identity == tiny.model().identity
        (family / "second.pth").write_bytes((family / "tiny.pth").read_bytes())
        with pytest.raises(ValueError, match=r"or one file of official weights; it holds second\.pth, tiny\.pth"):
            _quiet(family)

    def test_a_folder_of_another_library(self, family, tmp_path):
        (tmp_path / "theirs").mkdir()
        (tmp_path / "theirs" / "theirs.json").write_text("{}")
        assert _quiet(tmp_path / "theirs").identity == tiny.model(3).identity
        (tmp_path / "theirs" / "theirs.json").write_text("remote")
        assert _quiet(tmp_path / "theirs").identity == "remote"
        with pytest.raises(ValueError, match=r"Remote works where and as it is, not on cpu, torch\.bfloat16"):
            _quiet(tmp_path / "theirs", dtype="bfloat16")

    def test_weights_of_nobody(self, family, tmp_path):
        weights.write(tmp_path / "x.safetensors", {"a": torch.zeros(1), "b": torch.zeros(1)})
        with pytest.raises(
            ValueError, match=r"x\.safetensors: its 2 tensors \(a, b, \.\.\.\) are of no family known: "
        ):
            _quiet(tmp_path / "x.safetensors")

    def test_an_empty_folder(self, tmp_path):
        with pytest.raises(ValueError, match=r"expected the folder of a saved model, .* it holds no weights"):
            _quiet(tmp_path)

    def test_precision_and_device(self, tmp_path):
        saved.save(tiny.model(), tmp_path / "model")
        for dtype in ("bfloat16", torch.bfloat16):
            model = _quiet(tmp_path / "model", dtype=dtype, device="cpu")
            assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
        with pytest.raises(ValueError, match="expected a dtype of float32, bfloat16, float16, got 'int8'"):
            _quiet(tmp_path / "model", dtype="int8")

    def test_options_and_revisions_that_are_none(self, family, tmp_path):
        with pytest.raises(ValueError, match="tiny_of_tests has no option 'loud'; its options are shout, width"):
            _quiet(family / "tiny.pth", loud=True)
        with pytest.raises(ValueError, match="is here, where there are no revisions: got revision 'main'"):
            _quiet(family / "tiny.pth", revision="main")
        saved.save(tiny.model(), tmp_path / "model")
        with pytest.raises(ValueError, match="is a saved model, which takes no options: got shout"):
            _quiet(tmp_path / "model", shout=True)


class TestNames:
    def test_single_files_are_fetched_verified_and_kept(self, family):
        assert _quiet("Tiny-2026").beside == ["tiny.pth", "words.txt"]
        for path in family.iterdir():
            path.unlink()
        assert _quiet("Tiny-2026").identity == tiny.model().identity

    def test_a_file_that_is_another_one_is_refused(self, family):
        (family / "words.txt").write_text("snow")
        with pytest.raises(ValueError, match=r"words\.txt is not the expected file: sha256 \w+ expected, \w+ came"):
            _quiet("Tiny-2026")

    def test_a_checksum_that_nobody_told(self, tmp_path, published):
        file = fetch.OfficialFile("tiny.pth", address=(published / "tiny.pth").as_uri())
        path = fetch.fetch("Tiny", fetch.Official("CC0", "https://tiny.example", (file,)))
        assert path.name == "tiny.pth" and sha256_of(path) == sha256_of(published / "tiny.pth")

    def test_licence_and_warning_are_shown_once(self, family, caplog):
        with caplog.at_level(logging.WARNING):
            _quiet("Tiny-2026")
        assert [record.getMessage() for record in caplog.records] == [
            "Tiny-2026: licence of the weights: CC0 of a test. See https://tiny.example",
            "Tiny-2026: its words are few",
        ]
        caplog.clear()
        _quiet("Tiny-2026")
        assert not caplog.records

    def test_a_name_that_is_none_is_told_the_nearest(self, family):
        expected = r"tiny-2026: expected the folder of a finished training run .*, did you mean 'Tiny-2026'\?"
        with pytest.raises(ValueError, match=expected):
            _quiet("tiny-2026")

    def test_without_a_network_it_says_so(self, family, monkeypatch):
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        (family / "tiny.pth").unlink()
        with pytest.raises(ValueError, match=r"tiny\.pth is not in the cache, and HF_HUB_OFFLINE is set: fetch file:"):
            _quiet("Tiny-2026")
        with pytest.raises(ValueError, match=r"runs/pocet is no file or folder here, .* and HF_HUB_OFFLINE is set"):
            _quiet("runs/pocet")
        with pytest.raises(ValueError, match=r"owner/tny is no file .*, did you mean 'owner/tiny'\?"):
            _quiet("owner/tny")

    def test_an_address_that_does_not_answer(self, family):
        (family / "tiny.pth").unlink()
        with pytest.raises(ValueError, match=r"tiny\.pth cannot be fetched \(.*No such file"):
            _quiet("Tiny-2026")

    def test_single_files_have_no_revisions(self, family):
        with pytest.raises(ValueError, match="published as single files, which have no revision: got revision 'v2'"):
            _quiet("Tiny-2026", revision="v2")

    def test_every_official_name_can_be_fetched_from_somewhere(self):
        assert official()
        for name, known in official().items():
            assert known.licence and known.homepage.startswith("https://"), name
            assert known.files or hub.REPOSITORY.fullmatch(name), name
            if known.files:
                assert len({file.address is None for file in known.files}) == 1, name
                assert any(file.name.endswith((*weights.SUFFIXES, weights.ARCHIVE)) for file in known.files), name
                assert hub.REPOSITORY.fullmatch(name) or known.files[0].address, name
            for file in known.files:
                assert file.address is None or file.address.startswith("https://"), name
                assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32, name


def _cached(folder, repository, files):
    """A repository as the hub's cache keeps it."""
    place = folder / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    snapshot = place / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name, content in files.items():
        (snapshot / name).write_bytes(content)


class _Hub(BaseHTTPRequestHandler):
    """The part of the Hugging Face hub that a snapshot asks for."""

    files: dict[str, bytes]
    asked: list[str]

    def log_message(self, format, *values):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, *, body):
        path = unquote(urlsplit(self.path).path)
        if path == "/api/models/owner/tiny/revision/main":
            self._send(
                json.dumps({"id": "owner/tiny", "modelId": "owner/tiny", "sha": COMMIT, "siblings": []}).encode()
            )
        elif path.startswith("/api/models/owner/tiny/tree/"):
            entries = [
                {"type": "file", "path": n, "size": len(c), "oid": f"{i:040x}"} for i, (n, c) in self._numbered()
            ]
            self._send(json.dumps(entries).encode())
        elif path.startswith(f"/owner/tiny/resolve/{COMMIT}/") and path.rpartition("/")[2] in self.files:
            name = path.rpartition("/")[2]
            self.asked.append(name)
            self._send(self.files[name], body=body, etag=name)
        else:
            self._send(b"{}", status=404)

    def _numbered(self):
        return enumerate(self.files.items(), start=1)

    def _send(self, content, *, status=200, body=True, etag="x"):
        self.send_response(status)
        for name, value in {"Content-Length": len(content), "ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}.items():
            self.send_header(name, str(value))
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def our_hub(tmp_path):
    """An environment that finds a hub of our own, its files, and the names it was asked for."""
    handler = type("Handler", (_Hub,), {"files": {}, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        environment = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
        yield environment, handler.files, handler.asked
        server.shutdown()
        thread.join()


def _in_a_new_process(root, environment, name):
    """What `load` answers where the hub's own settings have not been read yet."""
    code = f"import tiny; from lapis import hub; print(hub.load({name!r}, check=False).identity)"
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=root / "tests",
        env=os.environ | environment,
        check=False,
    )


class TestHub:
    @pytest.fixture
    def in_cache(self, tmp_path, monkeypatch):
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        return tmp_path / "hub"

    def test_a_repository_in_the_cache_opens_without_a_network(self, in_cache, tmp_path):
        saved.save(tiny.model(), tmp_path / "model")
        _cached(in_cache, "somebody/tiny", {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()})
        assert _quiet("somebody/tiny").identity == tiny.model().identity

    def test_official_weights_in_a_repository(self, family, in_cache):
        _cached(in_cache, "owner/tiny", {path.name: path.read_bytes() for path in family.iterdir()})
        assert _quiet("owner/tiny").identity == tiny.model().identity

    def test_a_file_of_a_repository_is_verified(self, tmp_path, published, in_cache):
        _cached(in_cache, "owner/tiny", {"tiny.pth": b"another"})
        file = fetch.OfficialFile("tiny.pth", sha256=sha256_of(published / "tiny.pth"))
        with pytest.raises(ValueError, match=r"tiny\.pth is not the published file: sha256 \w+ expected, \w+ came"):
            fetch.fetch("owner/tiny", fetch.Official("CC0", "https://tiny.example", (file,)))

    def test_from_the_hub_come_weights_and_tables_and_no_code(self, root, tmp_path, our_hub):
        environment, files, asked = our_hub
        saved.save(tiny.model(), tmp_path / "model")
        files |= {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
        files |= {"modeling.py": b"raise SystemExit", "model.onnx": b"x", "pytorch_model.bin": b"x"}
        answer = _in_a_new_process(root, environment, "owner/tiny")
        assert answer.stdout.strip() == tiny.model().identity, answer.stderr
        assert {"config.json", "model.safetensors"} <= set(asked) and not {"modeling.py", "pytorch_model.bin"} & set(
            asked
        )
        before = len(asked)
        again = _in_a_new_process(root, environment | {"HF_HUB_OFFLINE": "1"}, "owner/tiny")
        assert again.stdout == answer.stdout and len(asked) == before

    def test_pickled_weights_come_where_there_are_no_others(self, root, our_hub):
        environment, files, asked = our_hub
        files |= {"a.bin": b"x", "config.json": b"{}", "modeling.py": b"x"}
        answer = _in_a_new_process(root, environment, "owner/tiny")
        assert "a.bin is damaged" in answer.stderr
        assert set(asked) == {"a.bin", "config.json"}

    def test_a_repository_that_is_not_there(self, root, our_hub):
        answer = _in_a_new_process(root, our_hub[0], "nobody/nothing")
        assert (
            "nobody/nothing: neither a file or folder here, nor a repository of the Hugging Face hub" in answer.stderr
        )

    def test_a_hub_that_does_not_answer(self, root, our_hub):
        answer = _in_a_new_process(root, our_hub[0] | {"HF_ENDPOINT": "http://127.0.0.1:9"}, "owner/tiny")
        assert "owner/tiny is no file or folder here" in answer.stderr and "the hub did not give it" in answer.stderr

    def test_what_is_pushed_opens(self, monkeypatch):
        """At the border: what would be uploaded is looked at, nothing is sent."""
        calls = []

        def create_repo(api, repository, *, private, exist_ok):
            calls.append((repository, private))
            return f"https://hub.example/{repository}"

        def upload_folder(api, *, repo_id, folder_path, commit_message):
            calls.append(saved.describe(folder_path).licence)
            calls.append(saved.open(folder_path).identity)

        monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
        monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
        address = hub.push_to_hub(tiny.model(), "owner/mine", private=True, licence="CC0")
        assert address == "https://hub.example/owner/mine"
        assert calls == [("owner/mine", True), "CC0", tiny.model().identity]


class TestCheck:
    def test_a_collapsed_model_is_loaded_with_a_warning(self, tmp_path):
        model = tiny.model()
        with torch.no_grad():
            model.text_encoder.table.weight.fill_(0.5)
        saved.save(model, tmp_path / "model")
        with pytest.warns(ModelWarning, match="model: "):
            hub.load(tmp_path / "model")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            hub.load(tmp_path / "model", check=False)

    def test_a_model_that_answers_otherwise_than_when_it_was_saved(self, tmp_path):
        saved.save(tiny.model(), tmp_path / "model")
        config = json.loads((tmp_path / "model" / "config.json").read_text())
        config["files"]["model.safetensors"] = weights.write(
            tmp_path / "model" / "model.safetensors", tiny.model(1).state_dict()
        )
        (tmp_path / "model" / "config.json").write_text(json.dumps(config))
        with pytest.warns(ModelWarning, match="answers differently from when it was saved"):
            hub.load(tmp_path / "model")

    def test_weights_that_are_no_numbers_are_refused(self, tmp_path):
        model = tiny.model()
        with torch.no_grad():
            model.audio_projection.weight[0, 0] = float("nan")
        saved.save(model, tmp_path / "model")
        with pytest.raises(ValueError, match=r"model: NaN or infinity in audio_projection\.weight"):
            hub.load(tmp_path / "model")


class TestConvert:
    @pytest.mark.filterwarnings("ignore::lapis.doctor.ModelWarning")
    def test_weights_become_a_slim_folder(self, family, tmp_path, capsys):
        app(["convert", str(family / "tiny.pth"), "--out", str(tmp_path / "out")], result_action="return_value")
        printed = capsys.readouterr().out
        assert "MB) -> " in printed and "licence of the weights: CC0 of a test" in printed
        assert saved.describe(tmp_path / "out").licence == "CC0 of a test"
        model = _quiet(tmp_path / "out")
        np.testing.assert_array_equal(model.embed_audio([CLIP]), tiny.model().embed_audio([CLIP]))
        size = (tmp_path / "out" / "model.safetensors").stat().st_size
        assert size < (family / "tiny.pth").stat().st_size / 2

    @pytest.mark.filterwarnings("ignore::lapis.doctor.ModelWarning")
    def test_in_half_precision_with_options_of_the_family(self, family, tmp_path):
        done = hub.convert("Tiny-2026", tmp_path / "out", dtype="bfloat16", shout=True)
        assert done.bytes_before > done.bytes_after and done.path.name == "tiny.pth"
        assert {parameter.dtype for parameter in _quiet(tmp_path / "out").parameters()} == {torch.bfloat16}
        # A model of Lapis keeps its licence when it is converted again.
        assert hub.convert(tmp_path / "out", tmp_path / "again").licence == "CC0 of a test"

    def test_what_is_there_is_not_overwritten(self, family, tmp_path):
        with atomic_write(tmp_path / "out" / "precious.txt", binary=False) as file:
            file.write("x")
        with pytest.raises(ValueError, match="out is there already: choose a folder that is new or empty"):
            hub.convert("Tiny-2026", tmp_path / "out")

    def test_an_option_needs_a_value(self, tmp_path):
        with pytest.raises(ValueError, match="expected --option name=value, got 'shout'"):
            app(["convert", "x", "--out", str(tmp_path / "o"), "--option", "shout"], result_action="return_value")


def test_other_families_have_formats_of_their_own(tmp_path):
    class Other:
        identity, sample_rate, width = "other", 16_000, 8
        embed_audio = embed_text = staticmethod(lambda items: np.zeros((len(items), 8), np.float32))

    with pytest.raises(ValueError, match="expected a joint model of Lapis; Other is saved by the library it is from"):
        hub.save_pretrained(Other(), tmp_path)
