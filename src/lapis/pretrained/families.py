"""The modules of this folder asked in turn: whose weights are these, and what is known of a name."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from lapis import pretrained, weights
from lapis.model import Embedder
from lapis.pretrained.official import Official

KEYS_SHOWN = 3


def official() -> dict[str, Official]:
    """The names of official weights and what is known of each."""
    return {name: known for family in _families() for name, known in family.OFFICIAL.items()}


def open_weights(path: Path, options: Mapping[str, Any]) -> Embedder:
    """The model of a file of weights; its family is known by the names of its tensors.

    Raises:
        ValueError: no family knows them, or they are not whole; or the family has no such option.
    """
    tensors = weights.read(path)
    keys = frozenset(tensors)
    readers = [family for family in _families() if hasattr(family, "recognises")]
    matching = [family for family in readers if family.recognises(keys)]
    if len(matching) != 1:
        names = ", ".join(_name(family) for family in matching or readers)
        known = f"belong to more than one family: {names}" if matching else f"are of no family known: {names}"
        shown = ", ".join(sorted(keys)[:KEYS_SHOWN])
        raise ValueError(f"{path}: its {len(keys)} tensors ({shown}, ...) {known}")
    try:
        return _called(matching[0].build, tensors, options=options, source=str(path), folder=path.parent)
    except (IndexError, KeyError, RuntimeError) as error:
        family = _name(matching[0])
        raise ValueError(f"{path} does not have the tensors of {family}, or not in their shapes: {error}") from error


def open_folder(path: Path, options: Mapping[str, Any]) -> Embedder | None:
    """The model of a folder in the layout of another library, or None where no family recognises it.

    Raises:
        ValueError: a family recognises it and cannot read it, or has no such option.
    """
    for family in _families():
        if hasattr(family, "recognises_folder") and family.recognises_folder(path):
            return _called(family.from_folder, path, options=options)
    return None


def _families() -> list[ModuleType]:
    """The modules of this folder that offer official weights."""
    names = sorted(each.name for each in pkgutil.iter_modules(pretrained.__path__))
    modules = [importlib.import_module(f"{pretrained.__name__}.{name}") for name in names]
    return [module for module in modules if hasattr(module, "OFFICIAL")]


def _name(family: ModuleType) -> str:
    return family.__name__.rpartition(".")[2]


def _called(function: Callable[..., Embedder], value: Any, *, options: Mapping[str, Any], **rest: Any) -> Embedder:
    """What a family makes, with options that it has."""
    parameters = inspect.signature(function).parameters.values()
    keywords = [parameter.name for parameter in parameters if parameter.kind == parameter.KEYWORD_ONLY]
    known = [name for name in keywords if name not in rest]
    if unknown := sorted(options.keys() - set(known)):
        family = function.__module__.rpartition(".")[2]
        raise ValueError(f"{family} has no option {unknown[0]!r}; its options are {', '.join(known) or 'none'}")
    return function(value, **rest, **options)
