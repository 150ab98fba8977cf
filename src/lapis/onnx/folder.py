"""An exported model as a folder: graphs, the texts' tokenizer, a report of parity, and `onnx.json`, written last.

`onnx.json` names the checksum of every file that decides an answer, so that a folder is either whole or refused.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from lapis import __version__
from lapis.files import atomic_write, sha256_of
from lapis.model import JointModel
from lapis.values import from_values, to_values

LIBRARY = "lapis"
FORMAT = 1
NAME = "onnx.json"
AUDIO_NAME = "audio.onnx"
TEXT_NAME = "text.onnx"
PARITY_NAME = "parity.json"
CARD_NAME = "README.md"

Precision = Literal["float32", "float16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class Description:
    """What `onnx.json` says of an exported model."""

    model: JointModel.Config
    """Of the model it was made from; its text tower's files lie below the folder."""
    precision: Precision
    identity: str
    """Of the model it was made from."""
    sample_rate: int
    files: Mapping[str, str]
    """The SHA-256 of each file that decides an answer, by its path below the folder."""
    licence: str = ""
    source: str = ""


def is_exported(folder: Path) -> bool:
    """Whether an exported model lies in a folder."""
    return (folder / NAME).is_file()


def write(description: Description, folder: Path) -> None:
    """Write `onnx.json`."""
    content = {
        "library": LIBRARY,
        "format": FORMAT,
        "lapis_version": __version__,
        "identity": description.identity,
        "precision": description.precision,
        "sample_rate": description.sample_rate,
        "width": description.model.width,
        "model": to_values(description.model),
        "files": dict(description.files),
        "licence": description.licence,
        "source": description.source,
    }
    with atomic_write(folder / NAME, binary=False) as file:
        json.dump(content, file, indent=2, ensure_ascii=False)


def describe(folder: Path | str) -> Description:
    """What the folder of an exported model says of it; only `onnx.json` is read.

    Raises:
        ValueError: it is not such a folder, or of another format, or its description is damaged.
    """
    path = Path(folder) / NAME
    if not path.is_file():
        raise ValueError(f"{folder}: expected the folder of an exported model, there is no {NAME}")
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict) or content.get("library") != LIBRARY or content.get("format") != FORMAT:
        raise ValueError(f"{path}: expected a model that Lapis exported in format {FORMAT}")
    files = content.get("files")
    if not isinstance(files, dict) or AUDIO_NAME not in files:
        raise ValueError(f"{path}: expected the checksums of the files under 'files', {AUDIO_NAME} among them")
    try:
        model = from_values(content.get("model"))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
    precision, rate = content.get("precision"), content.get("sample_rate")
    if not isinstance(model, JointModel.Config) or precision not in PRECISIONS or not isinstance(rate, int):
        raise ValueError(f"{path}: expected a joint model, a precision of {', '.join(PRECISIONS)} and a sample rate")
    said = {name: str(content.get(name, "")) for name in ("identity", "licence", "source")}
    return Description(model, precision, sample_rate=rate, files=files, **said)


def verify(folder: Path, files: Mapping[str, str]) -> None:
    """Compare every file with its checksum.

    Raises:
        ValueError: one is missing, or another one.
    """
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{path} is missing: {NAME} names it")
        if (came := sha256_of(path)) != expected:
            raise ValueError(f"{path} does not hold what {NAME} says: sha256 {expected} expected, {came} came")
