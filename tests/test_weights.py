"""Tensors on disk: damage is named, nothing in a file is ever run, and what does not fit a module is said."""

import argparse
import os
import pathlib
import pickle
import random
import zipfile
from collections import OrderedDict

import pytest
import torch
from torch import nn

from lapis import weights
from lapis.files import sha256_of


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return {"a.weight": torch.randn(3, 4), "a.bias": torch.randn(3), "count": torch.tensor(7)}


def _equal(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype and torch.equal(one[name], other[name]), name


class _Runs:
    """A pickle of this runs a command when opened."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class TestRead:
    def test_what_was_written(self, tmp_path, tensors):
        digest = weights.write(tmp_path / "new" / "a.safetensors", tensors, metadata={"format": "pt"})
        assert digest == sha256_of(tmp_path / "new" / "a.safetensors")
        _equal(weights.read(tmp_path / "new" / "a.safetensors", sha256=digest), tensors)
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.safetensors"]

    @pytest.mark.parametrize("suffix", weights.PICKLED)
    @pytest.mark.parametrize("wrapper", [None, *weights.WRAPPERS])
    @pytest.mark.parametrize("zipped", [True, False])
    def test_what_torch_saved(self, tmp_path, tensors, suffix, wrapper, zipped):
        path = tmp_path / f"a{suffix}"
        optimizer = {"optimizer": {"state": [1, 2]}, "epoch": 3}
        content = tensors if wrapper is None else {wrapper: OrderedDict(tensors), **optimizer}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        _equal(weights.read(path), tensors)

    def test_arguments_of_a_training_script_do_not_stand_in_the_way(self, tmp_path, tensors):
        paths = [pathlib.Path("data"), pathlib.PurePosixPath("x"), pathlib.PureWindowsPath("C:/y")]
        arguments = argparse.Namespace(lr=0.1, paths=paths, more=argparse.Namespace(seed=1))
        torch.save({"model": tensors, "args": arguments}, tmp_path / "a.pth")
        _equal(weights.read(tmp_path / "a.pth"), tensors)

    def test_paths_of_another_system_do_not_either(self, tmp_path, tensors):
        class Elsewhere:
            def __reduce__(self):
                return pathlib.WindowsPath, ("C:/data",)

        torch.save({"model": tensors, "args": Elsewhere()}, tmp_path / "a.pth")
        _equal(weights.read(tmp_path / "a.pth"), tensors)

    @pytest.mark.parametrize("zipped", [True, False])
    def test_code_is_refused_and_not_run(self, tmp_path, tensors, zipped):
        path = tmp_path / "a.pth"
        content = {"model": tensors, "epoch": _Runs(f"touch {tmp_path / 'ran'}")}
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=r"a\.pth was not opened: it names \w+\.system, .* may run any code"):
            weights.read(path)
        assert not (tmp_path / "ran").exists()

    def test_a_bare_pickle_is_not_run_either(self, tmp_path):
        (tmp_path / "a.bin").write_bytes(pickle.dumps({"a": _Runs(f"touch {tmp_path / 'ran'}")}, protocol=2))
        with pytest.raises(ValueError, match=r"a\.bin was not opened: it names \w+\.system"):
            weights.read(tmp_path / "a.bin")
        assert not (tmp_path / "ran").exists()

    def test_a_method_of_a_plain_class_is_not_called(self, tmp_path, tensors):
        class Reaches:
            def __reduce__(self):
                return getattr, (argparse.Namespace, "__init__")

        torch.save({"model": tensors, "epoch": Reaches()}, tmp_path / "a.pth")
        with pytest.raises(ValueError, match="it names getattr"):
            weights.read(tmp_path / "a.pth")

    def test_a_checksum_is_verified_first(self, tmp_path, tensors):
        path = tmp_path / "a.safetensors"
        expected = weights.write(path, tensors)
        altered = bytearray(path.read_bytes())
        altered[-1] ^= 1
        path.write_bytes(altered)
        with pytest.raises(ValueError, match=rf"a\.safetensors .*sha256 {expected} expected, {sha256_of(path)} came"):
            weights.read(path, sha256=expected)

    @pytest.mark.filterwarnings("ignore::UserWarning")
    @pytest.mark.parametrize("name", ["a.safetensors", "a.pth", "old.pt", "a.zip"])
    def test_damage_anywhere_is_an_error_that_names_the_file(self, tmp_path, tensors, name):
        source = tmp_path / name
        if name == "a.safetensors":
            weights.write(source, tensors)
        elif name == "a.zip":
            torch.save(tensors, tmp_path / "inner.pth")
            with zipfile.ZipFile(source, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(tmp_path / "inner.pth", "release/inner.pth")
        else:
            torch.save({"model": tensors}, source, _use_new_zipfile_serialization=name != "old.pt")
        whole, chance = source.read_bytes(), random.Random(0)
        damaged, refused = tmp_path / f"damaged{source.suffix}", 0
        for attempt in range(200):
            content = bytearray(whole)
            if attempt % 2:
                del content[chance.randrange(len(content)) :]
            else:
                content[chance.randrange(len(content))] = chance.randrange(256)
            damaged.write_bytes(content)
            try:
                weights.read(damaged)
            except ValueError as error:
                assert "damaged" in str(error) or "inner.pth" in str(error), error
                refused += 1
        assert refused >= 100  # all that were cut short

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ([1, 2], "expected a dictionary of tensors, got list"),
            ({"a": torch.zeros(1), "step": 3}, "expected a tensor under each name, 'step' is int"),
            ({"model": {"a": torch.zeros(1), "b": {}}}, "expected a tensor under each name, 'b' is dict"),
            ({1: torch.zeros(1)}, "expected a tensor under each name, 1 is Tensor"),
        ],
    )
    def test_what_is_no_tensor_is_not_dropped_silently(self, tmp_path, content, message):
        torch.save(content, tmp_path / "a.pt")
        with pytest.raises(ValueError, match=rf"a\.pt: {message}"):
            weights.read(tmp_path / "a.pt")

    def test_a_file_must_be_there_and_of_a_known_kind(self, tmp_path):
        with pytest.raises(ValueError, match=r"nothing\.pt: expected a file of weights, there is no such file"):
            weights.read(tmp_path / "nothing.pt")
        (tmp_path / "a.onnx").write_bytes(b"x")
        with pytest.raises(ValueError, match=r"a\.onnx: expected a file of \.safetensors, .*got '\.onnx'"):
            weights.read(tmp_path / "a.onnx")


class TestArchive:
    def _zip(self, path, files):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)

    @pytest.fixture
    def pth(self, tmp_path, tensors):
        torch.save({"model": tensors}, tmp_path / "x.pth")
        return (tmp_path / "x.pth").read_bytes()

    def test_a_release_is_unpacked_once(self, tmp_path, tensors, pth):
        self._zip(
            tmp_path / "release.zip", {"m2d-2025/": "", "m2d-2025/checkpoint-30.pth": pth, "m2d-2025/log.txt": "x"}
        )
        _equal(weights.read(tmp_path / "release.zip"), tensors)
        (unpacked,) = (tmp_path / "cache").rglob("checkpoint-30.pth")
        before = unpacked.stat().st_mtime_ns
        _equal(weights.read(tmp_path / "release.zip"), tensors)
        assert unpacked.stat().st_mtime_ns == before

    def test_an_archive_under_the_name_of_its_file_is_known_by_its_content(self, tmp_path, tensors, pth):
        self._zip(tmp_path / "checkpoint.pth", {"checkpoint.pth": pth})
        _equal(weights.read(tmp_path / "checkpoint.pth"), tensors)

    def test_names_that_climb_out_stay_inside(self, tmp_path, tensors, pth):
        self._zip(tmp_path / "a.zip", {"../../../climbed.pth": pth})
        _equal(weights.read(tmp_path / "a.zip"), tensors)
        (found,) = tmp_path.rglob("climbed.pth")
        assert found.is_relative_to(tmp_path / "cache" / "unpacked")

    def test_one_file_of_weights_is_expected(self, tmp_path, pth):
        self._zip(tmp_path / "two.zip", {"a.pth": pth, "b.safetensors": b"x"})
        with pytest.raises(ValueError, match=r"two\.zip: expected exactly one .* found a\.pth, b\.safetensors"):
            weights.read(tmp_path / "two.zip")
        self._zip(tmp_path / "none.zip", {"readme.txt": "x"})
        with pytest.raises(ValueError, match="found none"):
            weights.read(tmp_path / "none.zip")

    def test_a_bomb_is_not_unpacked(self, tmp_path, pth, monkeypatch):
        monkeypatch.setattr(weights, "MOST_UNPACKED_BYTES", len(pth) - 1)
        self._zip(tmp_path / "a.zip", {"a.pth": pth})
        with pytest.raises(ValueError, match=r"a\.pth would be [\d,]+ bytes"):
            weights.read(tmp_path / "a.zip")
        assert not list((tmp_path / "cache").rglob("a.pth"))

    def test_an_archive_in_an_archive_is_not_followed(self, tmp_path, pth):
        self._zip(tmp_path / "inner.zip", {"a.pth": pth})
        self._zip(tmp_path / "outer.zip", {"inner.pth": (tmp_path / "inner.zip").read_bytes()})
        with pytest.raises(ValueError, match=r"inner\.pth is damaged"):
            weights.read(tmp_path / "outer.zip")


class TestWrite:
    def test_others_may_read_it_as_any_new_file(self, tmp_path, tensors):
        weights.write(tmp_path / "a.safetensors", tensors)
        (tmp_path / "new").touch()
        assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "new").stat().st_mode

    def test_tensors_that_share_memory_or_are_views(self, tmp_path):
        base = torch.arange(12.0).reshape(3, 4)
        given = {"base": base, "same": base, "row": base[1], "turned": base.T, "empty": torch.zeros(0, 3)}
        weights.write(tmp_path / "a.safetensors", given)
        _equal(weights.read(tmp_path / "a.safetensors"), given)

    def test_half_written_leaves_the_old_file(self, tmp_path, tensors, monkeypatch):
        path = tmp_path / "a.safetensors"
        digest = weights.write(path, tensors)
        monkeypatch.setattr(weights, "sha256_of", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            weights.write(path, {"other": torch.zeros(3)})
        assert sha256_of(path) == digest and list(tmp_path.iterdir()) == [path]


class _Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight


def _module(**kind):
    return nn.Sequential(OrderedDict(a=nn.Linear(4, 3, **kind), norm=nn.BatchNorm1d(3, **kind)))


class TestLoadStrictly:
    def test_into_memory_and_onto_nothing(self):
        source = _module().state_dict()
        for device in ("cpu", "meta"):
            module = _module(device=device)
            weights.load_strictly(module, source, source="x")
            _equal(module.state_dict(), source)
            assert module.a.weight.requires_grad

    def test_precision_is_the_modules_unless_it_has_none(self):
        halves = {name: t.half() if t.is_floating_point() else t for name, t in _module().state_dict().items()}
        for device, expected in (("cpu", torch.float32), ("meta", torch.float16)):
            module = _module(device=device)
            weights.load_strictly(module, halves, source="x")
            assert {p.dtype for p in module.parameters()} == {module.norm.running_mean.dtype} == {expected}
            assert module.norm.num_batches_tracked.dtype == torch.int64

    def test_what_does_not_fit_is_named_and_counted(self):
        given = _module().state_dict()
        given["a.wieght"] = given.pop("a.weight")
        given["a.bias"] = torch.zeros(5)
        given["norm.weight"] = torch.zeros(3, dtype=torch.int32)
        given |= {f"decoder.{number}": torch.zeros(1) for number in range(7)}
        with pytest.raises(ValueError) as caught:
            weights.load_strictly(_module(), given, source="some/file.pth")
        message = str(caught.value)
        for part in (
            "some/file.pth does not fit the model: 1 tensor (a.weight) missing",
            "8 tensors (a.wieght, did you mean 'a.weight'?, decoder.0, decoder.1, decoder.2, decoder.3, ...) unexp",
            "2 tensors (a.bias (shape [3] expected, [5] came), norm.weight (torch.float32 expected, torch.int32 came))",
        ):
            assert part in message, message

    @pytest.mark.parametrize("device", ["cpu", "meta"])
    @pytest.mark.parametrize("names", [("first", "second"), ("second",)])
    def test_parameters_that_are_one_stay_one(self, device, names):
        with torch.device(device):
            module = _Tied()
        value = torch.randn(4, 4)
        weights.load_strictly(module, {f"{name}.weight": value.clone() for name in names}, source="x")
        assert module.first.weight is module.second.weight and torch.equal(module.first.weight, value)

    def test_one_parameter_cannot_have_two_values(self):
        with pytest.raises(ValueError, match=r"x: second\.weight and first\.weight are one in the model and differ"):
            given = {"first.weight": torch.zeros(4, 4), "second.weight": torch.ones(4, 4)}
            weights.load_strictly(_Tied(), given, source="x")

    def test_what_no_file_holds_must_not_stay_empty(self):
        module = nn.Linear(2, 2, device="meta")
        module.register_buffer("table", torch.zeros(3, device="meta"), persistent=False)
        with pytest.raises(ValueError, match=r"x leaves 1 tensor \(table\) of the model without values"):
            weights.load_strictly(module, nn.Linear(2, 2).state_dict(), source="x")
