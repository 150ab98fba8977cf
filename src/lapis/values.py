"""Configurations as plain values and back: what recipes and saved models are on disk.

A frozen dataclass becomes a mapping with its dotted path under `class`, and comes back through that path. A file can
name classes of this package only, and of packages that the running program has added to `TRUSTED`: reading a
description imports nothing else and runs nothing but the constructors of dataclasses.
"""

import difflib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import reduce
from typing import Any, get_args

PACKAGE = "lapis"
TRUSTED = {PACKAGE}
"""Packages whose classes a description may name; a program that brings towers of its own adds its package."""


def to_values(part: Any) -> Any:
    """A configuration as plain values: a dataclass becomes a mapping with its dotted path under `class`."""
    if is_dataclass(part) and not isinstance(part, type):
        values = {field.name: to_values(getattr(part, field.name)) for field in fields(part)}
        return {"class": path_of(type(part)), **values}
    if isinstance(part, type):
        return {"type": path_of(part)}
    if isinstance(part, Mapping):
        return {name: to_values(value) for name, value in part.items()}
    if isinstance(part, tuple):
        return [to_values(value) for value in part]
    if isinstance(part, list):  # rare, in the settings of other libraries, which tell the two apart
        return {"list": [to_values(value) for value in part]}
    return part


def from_values(values: Any) -> Any:
    """The inverse of `to_values`. Only classes of trusted packages are looked up.

    Raises:
        ValueError: a class is not a dataclass or layer of a trusted package, or its fields are others.
    """
    if isinstance(values, list):
        return tuple(from_values(value) for value in values)
    if not isinstance(values, Mapping):
        return values
    if values.keys() == {"type"} and ":" in str(values["type"]):  # other libraries' settings may hold a bare "type"
        return class_at(values["type"])
    if values.keys() == {"list"} and isinstance(values["list"], list):
        return list(from_values(values["list"]))
    parts = {name: from_values(value) for name, value in values.items() if name != "class"}
    if "class" not in values:
        return parts
    kind = class_at(values["class"])
    if not is_dataclass(kind):
        raise ValueError(f"{values['class']} is not a configuration: expected a dataclass")
    known = {field.name: field for field in fields(kind)}
    if unknown := sorted(parts.keys() - known.keys()):
        raise ValueError(f"{values['class']} has no field {unknown[0]!r}{nearest(unknown[0], list(known))}")
    # A description that is older than a field gets the field's default, which says how it was before.
    required = {name for name, field in known.items() if field.default is MISSING and field.default_factory is MISSING}
    if missing := sorted(required - parts.keys()):
        raise ValueError(f"{values['class']} needs the field {missing[0]!r}")
    return kind(**parts)


def check_choice(value: Any, choices: Any, *, name: str) -> None:
    """See that a value is one of a `Literal`'s.

    Raises:
        ValueError: it is another one.
    """
    if value not in (known := get_args(choices)):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")


def parsed(text: str, kind: Any, *, name: str) -> Any:
    """What a user typed as a value of exactly this type: as JSON, or as bare words.

    Raises:
        ValueError: it is none, or nothing of this type can be typed.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError
    from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

    try:
        expected = TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise ValueError(f"{name!r} cannot be set from the command line: write a recipe") from error
    try:
        return expected.validate_json(text, strict=True)
    except ValidationError:
        try:
            return expected.validate_python(text, strict=True)
        except ValidationError as error:
            raise ValueError(f"{name}: {error.errors()[0]['msg'].lower()}, got {text!r}") from error


def nearest(name: str, known: Sequence[str]) -> str:
    """`, did you mean 'x'?` with the known name most like this one, or nothing where none is like it."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def path_of(kind: type) -> str:
    """Module and name of a class, as `class_at` reads them."""
    return f"{kind.__module__}:{kind.__qualname__}"


def class_at(path: Any) -> type:
    """The class at `module:Name.Inner`.

    Raises:
        ValueError: the package is not a trusted one, nothing is there, or what is there is no class.
    """
    if not isinstance(path, str):
        raise ValueError(f"expected the path of a class as module:Name, got {path!r}")
    module, _, name = path.partition(":")
    refused = f"a file may name classes of trusted packages only ({', '.join(sorted(TRUSTED))}), got {path!r}"
    if module.split(".")[0] not in TRUSTED:
        raise ValueError(refused)
    try:
        found = reduce(getattr, name.split("."), importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise ValueError(f"this version of {PACKAGE} has no {path!r}") from error
    if not isinstance(found, type):
        raise ValueError(f"expected a class, {path!r} is {type(found).__name__}")
    if found.__module__.split(".")[0] not in TRUSTED:  # reached through an import of a trusted module
        raise ValueError(refused)
    return found
