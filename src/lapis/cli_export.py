"""`lapis export`: a model as ONNX graphs, and how near they are to it."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def export(
    model: str,
    /,
    *,
    out: Path,
    precision: str = "float32",
    audio_only: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Write a model as ONNX graphs, the log-mel inside, and compare their answers with the model's.

    The exit status is 2 where they differ: a cosine below 0.9999 in float32, below 0.999 in the others.

    Parameters
    ----------
    model
        A folder, a file of official weights, or a name of either, as `lapis.load` takes it.
    out
        Folder to make, which `lapis.load` opens on ONNX Runtime.
    precision
        float32, float16 (half the size) or int8 (a quarter, and faster on most processors).
    audio_only
        Leave the text tower out.
    """
    from rich.console import Console

    from lapis import saved
    from lapis.hub import find, load
    from lapis.model import JointModel
    from lapis.onnx.folder import PRECISIONS
    from lapis.onnx.making import ParityError
    from lapis.onnx.making import export as make

    if precision not in PRECISIONS:
        raise ValueError(f"expected a --precision of {', '.join(PRECISIONS)}, got {precision!r}")
    console = Console(stderr=True)
    with console.status("loading") as status:
        found = find(model)
        joint = load(found.path)
        if not isinstance(joint, JointModel):
            raise ValueError(
                f"{model}: expected a joint model of Lapis, {type(joint).__name__} has no form in ONNX here"
            )
        told = saved.describe(found.path) if found.path.is_dir() and saved.is_saved(found.path) else None
        licence = told.licence if told else found.official.licence if found.official else ""
        source = told.source if told else found.official.homepage if found.official else found.path.name
        try:
            parity = make(
                joint,
                out,
                precision=precision,
                audio_only=audio_only,
                licence=licence,
                source=source,
                progress=status.update,
            )
        except ParityError as error:
            sys.stdout.write(f"{error.parity.table()}\n")
            raise
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    sys.stdout.write(f"{parity.table()}\n{out}: {size / 1e6:,.1f} MB\n")
