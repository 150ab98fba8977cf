"""Models by name or path: what Lapis saved, official weights of any family it knows, and repositories of the hub.

A path is looked at, never trusted by its name: the keys of the tensors say which family a file of weights belongs to.
"""

import re
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lapis import calibration, doctor, saved, weights
from lapis.calibration import Calibrated
from lapis.captioner import Captioner
from lapis.files import sha256_of
from lapis.model import Embedder, JointModel
from lapis.onnx import folder as exported
from lapis.pretrained.families import official, open_folder, open_weights
from lapis.pretrained.fetch import fetch, snapshot
from lapis.pretrained.official import Official
from lapis.recipe import loads
from lapis.values import PACKAGE, nearest

__all__ = [
    "Conversion",
    "Found",
    "convert",
    "find",
    "load",
    "load_captioner",
    "official",
    "push_to_hub",
    "save_pretrained",
]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Found:
    """The files of a model on this machine, and what is known of them where they are official ones."""

    path: Path
    official: Official | None = None


def load(
    name_or_path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    check: bool = True,
    revision: str | None = None,
    **options: Any,
) -> Embedder:
    """A model, ready to embed, with the calibration that lies in its folder.

    A calibration that cannot be read, or was fitted to other weights or in another precision, is left out with a
    warning.

    Args:
        name_or_path: the folder of a saved model, of a finished training run, or of an export (`lapis export`), which
            works on ONNX Runtime and takes no dtype; a file or folder of official weights;
            a folder of a family that transformers or sentence-transformers keep; one of the names of `official`; or
            any repository of the Hugging Face hub that holds one of these, as owner/name.
        device: where it shall work.
        dtype: of its weights (float32, bfloat16 or float16); as they are in the file unless told.
        check: ask the model a few built-in sounds and sentences, and warn of what is not well (`lapis doctor` tells
            more).
        revision: of the hub's repository: a branch, a tag or a commit.
        options: what the family's own `build` takes, for official weights.

    Raises:
        ValueError: there is no such model, its files are not whole or not what they should be, a weight is not a
            finite number, or the family has no such option.
    """
    kind = _dtype(dtype)
    # ONNX Runtime has devices of its own, and says so itself.
    place = None if exported.is_exported(Path(name_or_path).expanduser()) else _place(device)
    found = find(name_or_path, revision=revision)
    if exported.is_exported(found.path):
        embedder, golden = _open_exported(found.path, options, device=str(device), kind=kind)
    else:
        embedder, golden = _open(found.path, options)
    if isinstance(embedder, nn.Module):
        embedder.eval().requires_grad_(False).to(device=place, dtype=kind)
    elif not exported.is_exported(found.path) and (kind is not None or place != torch.device("cpu")):
        raise ValueError(f"{name_or_path}: {type(embedder).__name__} works where and as it is, not on {device}, {kind}")
    if check:
        for finding in doctor.tripwire(embedder, golden=golden):
            if finding.check == "finite weights":
                raise ValueError(f"{name_or_path}: {finding.sentence}")
            warnings.warn(f"{name_or_path}: {finding.check}: {finding.sentence}", doctor.ModelWarning, stacklevel=2)
    # A model's identity is a digest of all its weights: it is asked for only where there is something to compare.
    if isinstance(embedder, Calibrated) and (found.path / calibration.NAME).is_file():
        try:
            embedder.calibration = calibration.read(found.path, identity=embedder.identity)
        except ValueError as error:
            warnings.warn(f"{name_or_path}: without a calibration: {error}", doctor.ModelWarning, stacklevel=2)
    return embedder


def load_captioner(
    name_or_path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = None,
    check: bool = True,
    revision: str | None = None,
) -> Captioner:
    """A model with the decoder that says what it hears: `load_captioner(folder).caption(waveforms)`.

    Args:
        name_or_path: the folder of a finished run whose recipe had the objective `Caption`, or of a model saved with
            its captioner, or a repository of the Hugging Face hub with one.
        device: where they shall work.
        dtype: of their weights; as they were saved unless told.
        check: ask the model a few built-in sounds and sentences, as `load` does.
        revision: of the hub's repository.

    Raises:
        ValueError: there is no such model, or it has no decoder of captions, or its files are not whole.
    """
    published = str(name_or_path) in official() and not Path(name_or_path).exists()  # none of them says captions
    path = Path(name_or_path) if published else find(name_or_path, revision=revision).path
    if not (path.is_dir() and saved.is_saved(path)):
        raise ValueError(
            f"{name_or_path}: expected the folder of a run or of a saved model, with a decoder of captions"
        )
    saved.decoder(path)  # before the model is opened, which takes longer
    model = load(path, device=device, dtype=dtype, check=check)
    assert isinstance(model, JointModel)
    return saved.captioner(path, model=model, dtype=_dtype(dtype))


def find(name_or_path: str | Path, *, revision: str | None = None) -> Found:
    """The files of a model: where they are, or fetched from where they are published.

    Raises:
        ValueError: nothing is there, or it cannot be fetched.
    """
    path = Path(name_or_path).expanduser()
    if path.exists():
        if revision is not None:
            raise ValueError(f"{path} is here, where there are no revisions: got revision {revision!r}")
        return Found(path)
    name, known = str(name_or_path), official()
    if name in known:
        return Found(fetch(name, known[name], revision=revision), known[name])
    close = nearest(name, list(known))
    if isinstance(name_or_path, str) and REPOSITORY.fullmatch(name):
        try:
            return Found(snapshot(name, revision=revision))
        except ValueError as error:
            raise ValueError(f"{error}{close}") from error
    raise ValueError(
        f"{name}: expected the folder of a finished training run or of a saved model, a file of official weights, or a "
        f"name of published weights, such as {', '.join(sorted(known))}{close}"
    )


def save_pretrained(model: Embedder | Captioner, folder: Path | str, *, licence: str = "", source: str = "") -> None:
    """Write a model as a folder that `load` opens anywhere, without a network.

    Args:
        model: a joint model, or a captioner, whose model is saved with its decoder; other families have formats of
            their own.
        folder: made if need be.
        licence: of the weights, in words.
        source: where the weights come from.

    Raises:
        ValueError: the model is of a family that its own library saves.
    """
    captioner = model if isinstance(model, Captioner) else None
    joint = captioner.model if captioner else model
    if not isinstance(joint, JointModel):
        raise ValueError(f"expected a joint model of Lapis; {type(model).__name__} is saved by the library it is from")
    saved.save(joint, folder, captioner=captioner, licence=licence, source=source)


def push_to_hub(
    model: Embedder | Captioner,
    repository: str,
    *,
    private: bool = False,
    licence: str = "",
    source: str = "",
    message: str = "Saved by Lapis",
) -> str:
    """Save a model into a repository of the Hugging Face hub, made if need be; returns its address.

    Raises:
        ValueError: the name is none, the model cannot be saved, or the hub does not take it.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    except ImportError as error:
        raise ValueError("the hub needs an extra: pip install 'lapis-audio[hub]'") from error
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder, licence=licence, source=source)
        api = HfApi(library_name=PACKAGE)
        try:
            address = api.create_repo(repository, private=private, exist_ok=True)
            api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
        except (HfHubHTTPError, HFValidationError) as error:
            raise ValueError(f"{repository}: the hub did not take the model: {error}") from error
    return str(address)


@dataclass(frozen=True)
class Conversion:
    """What `convert` did."""

    path: Path
    """Of the weights it read."""
    bytes_before: int
    bytes_after: int
    licence: str
    """Empty where it is not known."""


def convert(
    name_or_path: str | Path,
    out: Path | str,
    *,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    **options: Any,
) -> Conversion:
    """Any weights that `load` reads, as a folder of Lapis: no optimiser, no pickle, with the tokenizer.

    Raises:
        ValueError: the weights cannot be read, or `out` holds something already.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already: choose a folder that is new or empty")
    found = find(name_or_path, revision=revision)
    known = found.official or _official_file(found.path)
    licence = known.licence if known else ""
    model = load(found.path, dtype=dtype, **options)
    if found.path.is_dir() and saved.is_saved(found.path):
        description = saved.describe(found.path)
        licence = description.licence
        if description.captioner is not None:
            assert isinstance(model, JointModel)
            model = saved.captioner(found.path, model=model, dtype=_dtype(dtype))
    source = known.homepage if known else found.path.name
    save_pretrained(model, out, licence=licence, source=source)
    return Conversion(found.path, _size(found.path), _size(out), licence)


def _open(path: Path, options: dict[str, Any]) -> tuple[Embedder, doctor.Golden | None]:
    """The model at a path, and its answers when it was saved where they were recorded."""
    if path.is_file():
        return open_weights(path, options), None
    if saved.is_saved(path):
        _no_options(path, options)
        return saved.open(path), saved.golden(path)
    if (path / "recipe.json").is_file():
        _no_options(path, options)
        return _open_run(path), None
    if (embedder := open_folder(path, options)) is not None:
        return embedder, None
    found = sorted(each for each in path.iterdir() if each.suffix in (*weights.SUFFIXES, weights.ARCHIVE))
    if len(found) > 1:
        found = [each for each in found if each.name == saved.WEIGHTS_NAME] or found
    if len(found) != 1:
        holds = ", ".join(each.name for each in found) or "no weights"
        raise ValueError(
            f"{path}: expected the folder of a saved model, of a finished training run, of a family that Lapis knows, "
            f"or one file of official weights; it holds {holds}"
        )
    return open_weights(found[0], options), None


def _open_exported(
    folder: Path, options: dict[str, Any], *, device: str, kind: torch.dtype | None
) -> tuple[Embedder, doctor.Golden | None]:
    from lapis.onnx import runtime

    _no_options(folder, options)
    if kind is not None:
        raise ValueError(f"{folder}: an export has the precision it was made with; make another one for {kind}")
    return runtime.open(folder, device=device), runtime.golden(folder)


def _open_run(folder: Path) -> JointModel:
    """The model of a training run of before runs ended as saved models."""
    recipe, path = folder / "recipe.json", folder / saved.WEIGHTS_NAME
    if not path.is_file():
        raise ValueError(f"{folder}: expected the folder of a finished training run, {path.name} is not in it")
    model = loads(recipe.read_text(encoding="utf-8")).model.build()
    weights.load_strictly(model, weights.read(path), source=str(path))
    return model


def _no_options(path: Path, options: dict[str, Any]) -> None:
    if options:
        raise ValueError(f"{path} is a saved model, which takes no options: got {', '.join(options)}")


def _place(device: torch.device | str) -> torch.device:
    """The device of a name, tried out."""
    try:
        return torch.zeros(1, device=device).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"expected a device that is here, such as cpu or cuda, got {device}: {reason}") from error


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype | None:
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise ValueError(f"expected a dtype of {', '.join(DTYPES)}, got {dtype!r}")
        return DTYPES[dtype]
    return dtype


def _official_file(path: Path) -> Official | None:
    """What is known of a file somebody fetched himself."""
    digests = {file.sha256: each for each in official().values() for file in each.files if file.sha256}
    return digests.get(sha256_of(path)) if path.is_file() else None


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)
