"""Lapis: Language-Audio Pretraining, Inference and Search.

The door of the package, and nothing else: names are looked up when asked for, so that `import lapis` stays instant
and does not import torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lapis.hub import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    if name == "load":
        from lapis.hub import load

        return load
    raise AttributeError(f"module 'lapis' has no attribute {name!r}")
