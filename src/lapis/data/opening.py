"""Which source a path means: a table, tars, a folder that `datasets` saved, or a folder of sounds."""

import glob
from collections.abc import Iterable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from lapis import audio
from lapis.data.folders import Folder
from lapis.data.sources import HuggingFaceFolder, SourceConfig, Table, Tars
from lapis.files import data_path
from lapis.values import nearest, parsed

TABLES = (".csv", ".jsonl", ".parquet")
Config = TypeVar("Config")


def source_at(place: str, *, settings: Iterable[str] = ()) -> SourceConfig:
    """The source that lies at a path, at a glob of tars, or at an address of tars.

    Args:
        place: as the working folder sees it, or else the data folder; of an address that ends in `/`, the tars in it.
        settings: the source's other fields, as `field=value`.

    Raises:
        ValueError: it is none of these or two of them, or the source has no such field.
        FileNotFoundError: nothing is there.
    """
    if not place:
        raise ValueError("expected the name of a corpus or a path, got an empty one")
    if (place.endswith(".tar") and not _is_folder(place)) or "://" in place:
        if "://" not in place:
            return configured(Tars, settings, pattern=_found(place))
        return configured(Tars, settings, pattern=f"{place}*.tar" if place.endswith("/") else place)
    path = Path(_found(place))
    if path.suffix.lower() in TABLES and path.is_file():
        return configured(Table, settings, path=str(path))
    if path.is_dir():
        if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
            return configured(HuggingFaceFolder, settings, path=str(path))
        if tar := next((found for found in path.glob("*.tar") if not found.is_dir()), None):
            if sounds := audio.find_audio(path):
                raise ValueError(
                    f"{path} holds tars ({tar.name}) and sounds ({sounds[0].relative_to(path)}): expected one of both; "
                    f"the tars alone are {path}/*.tar"
                )
            return configured(Tars, settings, pattern=f"{glob.escape(str(path))}/*.tar")
        return configured(Folder, settings, path=str(path))
    kinds = f"a table ({', '.join(TABLES)}), .tar shards, or a folder of sounds"
    what = "a sound file: give its folder" if audio.is_audio_path(path) else "none of these"
    raise ValueError(f"{place}: expected {kinds}; it is {what}")


def _found(place: str) -> str:
    """The place as an absolute path or pattern, with something at it."""
    for candidate in (Path(place).absolute(), data_path(place).absolute()):
        if candidate.exists():
            return glob.escape(str(candidate)) if place.endswith(".tar") and candidate.is_file() else str(candidate)
        if place.endswith(".tar") and glob.glob(str(candidate)):  # noqa: PTH207  (the pattern may hold folders)
            return str(candidate)
    raise FileNotFoundError(f"{place}: expected the name of a corpus or a path, there is nothing")


def _is_folder(place: str) -> bool:
    return any(candidate.is_dir() for candidate in (Path(place), data_path(place)))


def configured(kind: type[Config], settings: Iterable[str], **given: Any) -> Config:
    """A frozen configuration made of `field=value` texts, strictly by its fields' types.

    Raises:
        ValueError: there is no such field, a value is of another type, or a field that is needed is not given.
    """
    hints, known = get_type_hints(kind), {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    values = dict(given)
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise ValueError(f"expected field=value, got {setting!r}")
        if name not in known:
            raise ValueError(f"{kind.__name__} has no {name!r}{nearest(name, list(known))}; it has {', '.join(known)}")
        values[name] = parsed(text, hints[name], name=name)
    needed = [n for n, f in known.items() if f.default is MISSING and f.default_factory is MISSING and n not in values]
    if needed:
        choices = "; ".join(f"{name}: {_told(hints[name])}" for name in needed)
        raise ValueError(f"{kind.__name__} needs {choices}: say which with --set {needed[0]}=...")
    return kind(**values)


def _told(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    return getattr(kind, "__name__", None) or str(kind).replace("typing.", "")
