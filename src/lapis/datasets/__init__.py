"""Corpora, one file each, found by module name. Floor 3.

A corpus is a module with a frozen source and an `ABOUT` that tells of it. The source reads tables and lists of files,
never sound.
"""

import importlib
import pkgutil

from lapis.datasets.about import About
from lapis.values import nearest


def names() -> list[str]:
    """The corpora: the modules of this folder that have an `ABOUT`."""
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return [name for name in modules if hasattr(importlib.import_module(f"{__name__}.{name}"), "ABOUT")]


def find(name: str) -> About:
    """What there is to know of the corpus in the module `name`, its source among it.

    Raises:
        ValueError: there is no such corpus.
    """
    if name not in names():
        raise ValueError(f"no data set {name!r}{nearest(name, names())}; the data sets are {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{name}").ABOUT
