"""Tensors on disk: read without running anything a file contains, written whole, and put into a module strictly.

A pickle can name any function of the machine and have it called. Here a file may name tensors and the few plain
classes that training scripts store beside them, and is refused with the name of anything else.
"""

import argparse
import contextlib
import hashlib
import os
import pathlib
import pickle
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lapis.files import NEW_FILE_MODE, atomic_write, cache_folder, sha256_of
from lapis.values import nearest

Tensors = dict[str, Tensor]

PICKLED = (".pt", ".pth", ".ckpt", ".bin")
SUFFIXES = (".safetensors", *PICKLED)
"""Of files that hold tensors; a `.zip` may hold one of them."""
ARCHIVE = ".zip"
WRAPPERS = ("model", "state_dict", "model_state_dict")
MOST_UNPACKED_BYTES = 64 << 30
NAMED = 5
"""So many tensors of each kind are named when weights do not fit."""

# Paths of another system cannot be made on this one; the pure classes hold the same words everywhere.
_PLAIN_CLASSES: list[Any] = [argparse.Namespace]
# Numbers and arrays of numpy, as training scripts leave them among their arguments.
_PLAIN_CLASSES += [np.ndarray, np.dtype, *(getattr(np.dtypes, name) for name in np.dtypes.__all__)]
for _module in ("numpy._core.multiarray", "numpy.core.multiarray"):
    _PLAIN_CLASSES += [(np._core.multiarray.scalar, f"{_module}.scalar")]  # pyright: ignore[reportAttributeAccessIssue]
    _PLAIN_CLASSES += [(np._core.multiarray._reconstruct, f"{_module}._reconstruct")]  # pyright: ignore[reportAttributeAccessIssue]
for _module in ("pathlib", "pathlib._local"):
    for _name in ("PosixPath", "PurePosixPath"):
        _PLAIN_CLASSES.append((pathlib.PurePosixPath, f"{_module}.{_name}"))
    for _name in ("WindowsPath", "PureWindowsPath"):
        _PLAIN_CLASSES.append((pathlib.PureWindowsPath, f"{_module}.{_name}"))

_BROKEN = (
    *(RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, AssertionError, OverflowError),
    *(struct.error, pickle.UnpicklingError, zipfile.BadZipFile),
)
"""What a damaged file makes the readers raise."""


def read(path: Path | str, *, sha256: str | None = None) -> Tensors:
    """The tensors of a file, on the processor, mapped from the disk where the format allows it.

    Dictionaries under `model`, `state_dict` or `model_state_dict` are taken out; what lies beside them (an optimiser,
    arguments, a step) is dropped.

    Args:
        path: `.safetensors`, a file that `torch.save` wrote (`.pt`, `.pth`, `.ckpt`, `.bin`), or a `.zip` that holds
            exactly one of these, which is unpacked once into the cache.
        sha256: what the file must hash to; it is not opened otherwise.

    Raises:
        ValueError: the file is not there, is another one, is damaged, holds something that is no tensor, or could run
            code when opened.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path}: expected a file of weights, there is no such file")
    if sha256 is not None and (came := sha256_of(path)) != sha256:
        raise ValueError(f"{path} is not the expected file: sha256 {sha256} expected, {came} came")
    if path.suffix not in (*SUFFIXES, ARCHIVE):
        raise ValueError(f"{path}: expected a file of {', '.join((*SUFFIXES, ARCHIVE))}, got {path.suffix!r}")
    return _read(_unpacked(path) if _is_release(path) else path)


def write(path: Path | str, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None) -> str:
    """Write tensors as safetensors; the file takes its place only when it is whole. Tied tensors are written each.

    Returns:
        The SHA-256 of the file.
    """
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.", suffix=".part") as folder:
        whole = Path(folder) / path.name
        save_file(_apart(tensors), whole, metadata=dict(metadata) if metadata else None)
        whole.chmod(NEW_FILE_MODE)  # safetensors makes files that nobody else may read
        with whole.open("rb+") as file:
            os.fsync(file.fileno())
        digest = sha256_of(whole)
        whole.replace(path)
    return digest


def digest(tensors: Mapping[str, Tensor], *, beside: str = "") -> str:
    """16 hexadecimal digits that name tensors by their names and values, and what is said `beside` them."""
    found = hashlib.sha256(beside.encode())
    for name, tensor in sorted(tensors.items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def require(tensors: Mapping[str, Tensor], axes: Mapping[str, int], *, source: str) -> None:
    """See that tensors whose shapes say how large a model is are there, each with so many axes.

    Raises:
        ValueError: one is missing, or has another number of axes.
    """
    for name, count in axes.items():
        if name not in tensors:
            raise ValueError(f"{source} does not fit any model: 1 tensor ({name}) missing")
        if tensors[name].ndim != count:
            came = list(tensors[name].shape)
            raise ValueError(f"{source} does not fit any model: {name} must have {count} axes, its shape is {came}")


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Put tensors into a module, each by its name and of its shape, none missing and none left over.

    A module with anything on the meta device takes the tensors as they are, in the file's precision; another one
    converts them to its own. Parameters that are one stay one; a file may hold them under any of their names.

    Raises:
        ValueError: names, shapes or kinds differ, or something of the module is still without values afterwards.
    """
    own = module.state_dict()
    tied = _tied_names(module)
    given = dict(tensors)
    for names in tied:
        present = [name for name in names if name in given]
        for name in names:
            if present and name in own:
                if name in given and not torch.equal(given[name], given[present[0]]):
                    raise ValueError(f"{source}: {name} and {present[0]} are one in the model and differ in the file")
                given[name] = given[present[0]]
    if misfits := _misfits(own, given):
        raise ValueError(f"{source} does not fit the model: {'; '.join(misfits)}")
    assign = any(tensor.is_meta for tensor in own.values())
    if not assign:
        given = {name: tensor.to(own[name]) for name, tensor in given.items()}
    module.load_state_dict(given, strict=True, assign=assign)
    for first, *others in tied:
        for other in others:
            owner, _, leaf = other.rpartition(".")
            module.get_submodule(owner).register_parameter(leaf, module.get_parameter(first))
    everything = [*module.named_parameters(), *module.named_buffers()]
    if left := [name for name, tensor in everything if tensor.is_meta]:
        raise ValueError(f"{source} leaves {_counted(left)} of the model without values")


def _read(path: Path) -> Tensors:
    if path.suffix != ".safetensors":
        return _unwrapped(_unpickled(path), path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, *_BROKEN) as error:
        raise ValueError(f"{path} is damaged, or no safetensors: {error}") from error


def _unpickled(path: Path) -> Any:
    mapped = _is_zip(path)  # the format before 2020 is a bare pickle, which cannot be mapped
    try:
        with torch.serialization.safe_globals(_PLAIN_CLASSES):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except _BROKEN as error:
        if refused := re.search(r"GLOBAL (\S+)|function (<.*?>)|but got (<.*?>)", str(error)):
            name = next(filter(None, refused.groups()))
            raise ValueError(
                f"{path} was not opened: it names {name}, and a file of weights that has Python call something other "
                f"than tensors may run any code. Ask whoever made it for safetensors, or for the tensors alone"
            ) from error
        told = re.search(r"WeightsUnpickler error:\s*(.+)", str(error)) or re.match(r"\s*(.+)", str(error))
        reason = told.group(1) if told else type(error).__name__
        raise ValueError(f"{path} is damaged, or nothing that torch.save wrote: {reason}") from error


def _unwrapped(content: Any, path: Path) -> Tensors:
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected a dictionary of tensors, got {type(content).__name__}")
    inner = next((content[name] for name in WRAPPERS if isinstance(content.get(name), Mapping)), content)
    tensors: Tensors = {}
    for name, value in inner.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{path}: expected a tensor under each name, {name!r} is {type(value).__name__}")
        tensors[name] = value.detach()
    return tensors


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _is_release(path: Path) -> bool:
    """Whether this is an archive of files, not the zip that `torch.save` writes."""
    if not _is_zip(path) and path.suffix != ARCHIVE:
        return False
    with _opened(path) as archive:
        return not any(name.endswith("/data.pkl") for name in archive.namelist())


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except _BROKEN as error:
        raise ValueError(f"{path} is not a whole zip archive: {error}") from error
    with archive:
        try:
            yield archive
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
            raise ValueError(f"{path} cannot be unpacked: {error}") from error


def _unpacked(path: Path) -> Path:
    """The one file of weights in an archive, unpacked once into the cache, under nothing but its own name."""
    with _opened(path) as archive:
        found = [item for item in archive.infolist() if not item.is_dir() and item.filename.endswith(SUFFIXES)]
        if len(found) != 1:
            names = ", ".join(item.filename for item in found) or "none"
            raise ValueError(f"{path}: expected exactly one file of weights in the archive, found {names}")
        (item,) = found
        if item.file_size > MOST_UNPACKED_BYTES:
            raise ValueError(f"{path}: {item.filename} would be {item.file_size:,} bytes, which no weights are")
        target = cache_folder("unpacked", sha256_of(path)[:32]) / Path(item.filename).name
        if not target.exists():
            with archive.open(item) as source, atomic_write(target) as file:
                shutil.copyfileobj(source, file, 1 << 20)
        return target


def _apart(tensors: Mapping[str, Tensor]) -> Tensors:
    """Contiguous tensors on the processor, no two of which share memory."""
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    end = 0
    for name, tensor in sorted(whole.items(), key=lambda item: item[1].data_ptr()):
        if tensor.data_ptr() < end:
            whole[name] = tensor.clone()
        end = max(end, tensor.data_ptr() + tensor.nbytes)
    return whole


def _tied_names(module: nn.Module) -> list[list[str]]:
    """Names of parameters that are one, for each such parameter."""
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def _misfits(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> list[str]:
    missing = [name for name in own if name not in given]
    unexpected = [name for name in given if name not in own]
    # Only of those that will be shown: comparing each name with each takes seconds.
    unexpected[:NAMED] = [f"{name}{nearest(name, missing or list(own))}" for name in unexpected[:NAMED]]
    unlike = []
    for name in own.keys() & given.keys():
        expected, came = own[name], given[name]
        if expected.shape != came.shape:
            unlike.append(f"{name} (shape {list(expected.shape)} expected, {list(came.shape)} came)")
        elif expected.is_floating_point() != came.is_floating_point():
            unlike.append(f"{name} ({expected.dtype} expected, {came.dtype} came)")
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape or kind": sorted(unlike)}
    return [f"{_counted(names)} {kind}" for kind, names in kinds.items() if names]


def _counted(names: list[str]) -> str:
    shown = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
    return f"{len(names)} {'tensor' if len(names) == 1 else 'tensors'} ({shown})"
