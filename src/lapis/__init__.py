"""Lapis: Language-Audio Pretraining, Inference and Search.

The door of the package, and nothing else: names are looked up when asked for, so that `import lapis` stays instant
and does not import torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lapis.hub import load, load_captioner, official, push_to_hub, save_pretrained

__version__ = "0.1.0"
__all__ = ["__version__", "load", "load_captioner", "official", "push_to_hub", "save_pretrained"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from lapis import hub

        return getattr(hub, name)
    raise AttributeError(f"module 'lapis' has no attribute {name!r}")
