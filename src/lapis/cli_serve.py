"""`lapis serve`: a model over HTTP."""

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def serve(
    model: str,
    /,
    *,
    index: str = "",
    host: str = "127.0.0.1",
    port: int = 8000,
    name: str = "",
    root: Path | None = None,
    keys: Path | None = None,
    limit: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    device: str = "",
    dtype: str = "",
) -> None:
    """Serve a model over HTTP: vectors as OpenAI's clients ask for them, search, times, classes and captions.

    SIGTERM and Ctrl-C end it well: what is begun is finished, what is new is refused.

    Parameters
    ----------
    model
        A folder, a file of official weights, or a name of either, as `lapis.load` takes it.
    index
        Made by `lapis index` with this model, to be searched: a folder, or an address such as s3://bucket/index.
    host
        The address to listen on. Others than this machine reach it only if told here.
    port
        To listen on; 0 for any that is free.
    name
        What clients call the model; the last part of its own name unless told.
    root
        Below which the names of found files are told; only the last part of a name is, unless told.
    keys
        A file with a key a line; LAPIS_API_KEYS may have more, with commas. Without keys all may ask.
    limit
        What the server takes, as name=value: requests_a_minute=60 sound_seconds=30. docs/serve.md has them all.
    device
        cpu or cuda; the GPU where there is one unless told.
    dtype
        Of the weights: float32, bfloat16 or float16; as they were saved unless told.
    """
    try:
        from lapis.serve.keys import Keys
        from lapis.serve.running import serve
        from lapis.serve.service import Service
    except ImportError as error:
        raise ValueError(f"a server needs more packages ({error.name}): pip install 'lapis-audio[serve]'") from error
    limits = _limits(limit)
    if root is not None and not root.is_dir():
        raise ValueError(f"--root: expected a folder, and {root} is not one")
    known = Keys.read(keys, os.environ)

    import torch  # what can be refused before has been

    from lapis import saved
    from lapis.hub import find, load, load_captioner

    path = find(model).path
    options = {"device": device or ("cuda" if torch.cuda.is_available() else "cpu"), "dtype": dtype or None}
    captions = path.is_dir() and saved.is_saved(path) and saved.describe(path).captioner is not None
    captioner = load_captioner(path, **options) if captions else None
    embedder = load(path, **options) if captioner is None else captioner.model
    called = name or (Path(model).expanduser().resolve().name if Path(model).expanduser().exists() else model)

    def make() -> Service:
        return Service(embedder, name=called, index=index or None, captioner=captioner, limits=limits)

    serve(make, host=host, port=port, keys=known, root=root)


def _limits(settings: tuple[str, ...]):  # noqa: ANN202
    from dataclasses import fields

    from lapis.serve.limits import Limits
    from lapis.values import nearest

    kinds = {of.name: type(of.default) for of in fields(Limits)}
    told = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or name not in kinds:
            raise ValueError(f"expected --limit name=value, got {setting!r}{nearest(name, tuple(kinds))}")
        try:
            told[name] = kinds[name](value)
        except ValueError:
            raise ValueError(f"--limit {name}: expected {kinds[name].__name__}, got {value!r}") from None
    return Limits(**told)
