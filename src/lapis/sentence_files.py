"""The two small files that make the folder of a saved model one that sentence-transformers opens too."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lapis.files import atomic_write

MODULE_TYPE = "lapis.sentence_module.LapisModule"
MODULES_NAME = "modules.json"
CONFIG_NAME = "config_sentence_transformers.json"


def write_files(folder: Path, *, width: int) -> None:
    """Write them; a configuration that is there already stays, since it may hold prompts that somebody chose.

    Args:
        folder: of a saved model.
        width: of its vectors, for readers of the file; the library asks the model.
    """
    _write(folder / MODULES_NAME, [{"idx": 0, "name": "0", "path": "", "type": MODULE_TYPE}])
    if (folder / CONFIG_NAME).exists():
        return
    needs = {"specifier": f">={version('lapis-audio')}", "reason": "It holds the code of this model."}
    configuration = {
        "model_type": "SentenceTransformer",
        "similarity_fn_name": "cosine",
        "embedding_dimension": width,
        "prompts": {},
        "default_prompt_name": None,
        "requirements": {"lapis-audio": needs},
    }
    _write(folder / CONFIG_NAME, configuration)


def _write(path: Path, content: Any) -> None:
    with atomic_write(path, binary=False) as file:
        json.dump(content, file, indent=2)
