"""A run's results on disk: one JSON file, readable by people and other programs, and where there are many items their
arrays in an .npz beside it, which the JSON names with its checksum. Both are written so that no reader sees half.
"""

import hashlib
import io
import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np

from lapis.evaluation.figure import Figure, Unit
from lapis.evaluation.results import Measured, RunResults
from lapis.files import atomic_write

FORMAT = "lapis-run-results"
VERSION = 1
ITEMS_IN_JSON = 5000
ARRAYS = ("items", "groups")
FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s/'\":,;]+/)+")
"""Of an absolute path within words; neither those of an address on the web nor of a relative path."""


def write(run: RunResults, path: Path | str) -> None:
    """Write a run; the arrays of an earlier one at this path are removed once the new one is whole.

    They stay where another file in the folder, a copy of the earlier run, names them. Paths of this machine are cut to
    their last part, the model's to its last two.

    Raises:
        ValueError: something of it is no plain value, or not a finite number.
    """
    path = Path(path)
    before = _arrays_of(path)
    values = {"format": FORMAT, "version": VERSION} | {name.name: getattr(run, name.name) for name in fields(run)}
    values["model"] = "/".join(Path(run.model).parts[-2:]) if Path(run.model).is_absolute() else run.model
    values["absent"] = {name: _without_folders(reason) for name, reason in run.absent.items()}
    values["benchmarks"] = {name: _values(measured) for name, measured in run.benchmarks.items()}
    beside = None
    if sum(len(items) for one in run.benchmarks.values() for items in one.items.values()) > ITEMS_IN_JSON:
        content = _packed(values["benchmarks"])
        digest = hashlib.sha256(content).hexdigest()
        # A name of its own: a run written over another one never finds the other's arrays.
        beside = path.with_name(f"{path.stem}-{digest[:12]}.npz")
        values["arrays"] = {"file": beside.name, "sha256": digest}
        with atomic_write(beside) as file:
            file.write(content)
    try:
        text = json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"these results cannot be written as JSON: {error}") from error
    with atomic_write(path, binary=False) as file:
        file.write(text + "\n")
    if before is not None and before != beside and not _named_elsewhere(before):
        before.unlink(missing_ok=True)


def read(path: Path | str) -> RunResults:
    """Read a run. Where its arrays are away it has no items, which a warning says.

    Raises:
        ValueError: the file is not there, is no run, is of another version, or it or its arrays are damaged.
    """
    path = Path(path)
    values = _json_of(path)
    if values.get("format") != FORMAT:
        raise ValueError(
            f"{path} holds no results of a run: expected the format {FORMAT!r}, got {values.get('format')!r}"
        )
    if values.get("version") != VERSION:
        raise ValueError(f"{path} is of version {values.get('version')!r}, this lapis reads version {VERSION}")
    arrays = _unpacked(path, values["arrays"]) if "arrays" in values else None
    away = "arrays" in values and arrays is None
    try:
        benchmarks = {name: _measured(name, one, arrays, away=away) for name, one in values["benchmarks"].items()}
        text = {name: values[name] for name in ("model", "identity", "suite", "started")}
        if not all(isinstance(value, str) for value in text.values()):
            raise TypeError(f"expected words for {', '.join(text)}")
        return RunResults(
            benchmarks=benchmarks,
            seconds=_seconds(values),
            surroundings=_words(values["surroundings"]),
            absent=_words(values["absent"]),
            **text,
        )
    except KeyError as error:
        raise ValueError(f"{path} is damaged: it lacks {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _values(measured: Measured) -> dict[str, Any]:
    values = {name.name: getattr(measured, name.name) for name in fields(measured)}
    values["figures"] = {name: asdict(figure) for name, figure in measured.figures.items()}
    values["unreadable"] = [_without_folders(failure) for failure in measured.unreadable]
    values |= {name: _without_folders(values[name]) for name in ("protocol", "chosen")}
    if isinstance(incomplete := measured.details.get("incomplete"), str):
        values["details"] = {**measured.details, "incomplete": _without_folders(incomplete)}
    for kind in ARRAYS:
        values[kind] = {name: array.tolist() for name, array in values[kind].items()}
    return values


def _without_folders(words: str) -> str:
    """A reason without the places of this machine, which tell of who measured and of nothing else."""
    return FOLDERS.sub("", words)


def _packed(benchmarks: dict[str, dict[str, Any]]) -> bytes:
    """Move the arrays out of the values into a compressed archive, and leave their numbers in it."""
    arrays: list[np.ndarray] = []
    for one in benchmarks.values():
        for kind in ARRAYS:
            for name, array in one[kind].items():
                arrays.append(np.asarray(array, np.float64 if kind == "items" else np.int64))
                one[kind][name] = len(arrays) - 1
    buffer = io.BytesIO()
    np.savez_compressed(buffer, *arrays)  # called arr_0, arr_1 ...
    return buffer.getvalue()


def _unpacked(path: Path, described: Any) -> Mapping[str, np.ndarray] | None:
    """The arrays; None where their file is away."""
    try:
        beside, expected = path.with_name(described["file"]), described["sha256"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: `arrays` names no file and checksum") from error
    try:
        content = beside.read_bytes()
    except FileNotFoundError:
        said = f"{path}: its items lay in {beside.name} beside it, which is away: figures can be read, not compared"
        warnings.warn(said, stacklevel=3)
        return None
    except OSError as error:
        reason = error.strerror
        raise ValueError(f"{path}: its items lie in {beside.name} beside it, which cannot be read: {reason}") from error
    if hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(f"{beside} is not the file that {path.name} names: its checksum is another")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return dict(archive)
    except (ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{beside} is damaged: {error}") from error


def _measured(name: str, values: Any, arrays: Mapping[str, np.ndarray] | None, *, away: bool) -> Measured:
    given: dict[str, Any] = dict(values)
    if unknown := sorted(given.keys() - {part.name for part in fields(Measured)}):
        raise ValueError(f"{name} has an unknown field {unknown[0]!r}")
    given["figures"] = {metric: _figure(f"{name}, {metric}", one) for metric, one in values["figures"].items()}
    for kind, numbers in (("items", np.float64), ("groups", np.int64)):
        # A KeyError here names the array that is missing.
        given[kind] = {
            metric: np.asarray(array if arrays is None else arrays[f"arr_{array}"], numbers)
            for metric, array in ({} if away else values[kind]).items()
        }
    for part in ("languages", "seeds", "unreadable"):
        given[part] = tuple(values[part])
    if not (isinstance(values["protocol"], str) and isinstance(values["data_checksum"], str)):
        raise ValueError(f"{name}: expected words for protocol and data_checksum")
    if not isinstance(values["num_clips"], int):
        raise ValueError(f"{name}: expected a number of num_clips, got {values['num_clips']!r}")
    given["seconds"] = _seconds(values)
    return Measured(**given)


def _figure(where: str, values: Any) -> Figure:
    if values["unit"] not in get_args(Unit):
        raise ValueError(f"{where} has an unknown unit {values['unit']!r}")
    low_high = values["interval"]
    return Figure(
        value=float(values["value"]),
        chance=None if values["chance"] is None else float(values["chance"]),
        interval=None if low_high is None else (float(low_high[0]), float(low_high[1])),
        unit=values["unit"],
    )


def _words(values: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in values.items()}


def _seconds(values: Mapping[str, Any]) -> float | None:
    return None if values["seconds"] is None else float(values["seconds"])


def _json_of(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is no JSON, or is cut off: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no results of a run: expected an object, got {type(values).__name__}")
    return values


def _arrays_of(path: Path) -> Path | None:
    """The arrays that a run at this path has beside it; None where there is no run, or one without."""
    try:
        values = _json_of(path)
        beside = path.with_name(values["arrays"]["file"]) if values.get("format") == FORMAT else None
    except (ValueError, KeyError, TypeError):
        return None
    return beside if beside is not None and beside.name.startswith(f"{path.stem}-") else None


def _named_elsewhere(arrays: Path) -> bool:
    """Whether another run in the folder names the same arrays: a copy."""
    for path in arrays.parent.iterdir():
        if path.is_file() and path.suffix != arrays.suffix:
            with path.open("rb") as file:
                begun = file.read(256)
                if FORMAT.encode() in begun and arrays.name.encode() in begun + file.read():
                    return True
    return False
