"""`lapis caption`: what is heard in sounds, in words."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from lapis.captioner import Described


def caption(
    model: str,
    sources: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    beam: int = 3,
    max_seconds: float = 120.0,
    every: float | None = None,
    threads: int | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    device: str = "",
    dtype: str = "",
) -> None:
    """Say in words what is heard in sounds, a line each, in their order.

    A sound that has no caption is named on standard error with the reason; the exit status is 1 if there was one.

    Parameters
    ----------
    model
        Folder of a run whose recipe learned captions, such as slap.
    sources
        Sound files, folders of sounds, tables with a column `audio` (.csv, .tsv, .jsonl, .parquet), and .tar shards.
    beam
        How many unfinished captions are followed.
    max_seconds
        A longer sound is not described, but with --every.
    every
        A caption for each so many seconds of a sound, of any duration, in place of one for the whole.
    threads
        That read sound ahead of the model; one a processor, eight at most, unless told.
    json
        Print JSON lines, those of sounds without a caption among them.
    device
        cpu or cuda; the GPU where there is one unless told.
    dtype
        Of the weights: float32, bfloat16 or float16; as they were saved unless told.
    """
    import torch

    from lapis.captioner import caption_files
    from lapis.hub import load_captioner

    captioner = load_captioner(
        model, device=device or ("cuda" if torch.cuda.is_available() else "cpu"), dtype=dtype or None
    )
    found = caption_files(
        sources, captioner=captioner, beam=beam, max_seconds=max_seconds, every_seconds=every, threads=threads
    )
    if not _tell(found, as_json=json):
        sys.exit(1)


def _tell(found: "Iterator[Described]", *, as_json: bool) -> bool:
    """Print the sounds as they come; gives whether all have a caption."""
    from lapis.data.keys import in_utf8

    described = failed = 0
    for one in found:
        described, failed = described + (one.caption is not None), failed + (one.caption is None)
        if as_json:
            # Bytes of a file's name that are no text stay what JSON calls them.
            print(in_utf8(dumps(asdict(one), ensure_ascii=False)), flush=True)
        elif one.caption is not None:
            place = one.path
            if one.begin_seconds is not None:
                place += f" {one.begin_seconds:.1f}-{one.begin_seconds + (one.seconds or 0.0):.1f} s"
            # A decoder of bytes that has learned little may say a line's end, or what moves a terminal's cursor.
            print(f"{in_utf8(place)}: {''.join(c if c.isprintable() else '�' for c in one.caption)}", flush=True)
        else:
            print(f"without a caption: {in_utf8(_reason(one))}", file=sys.stderr)
    if not described and not failed:
        print("there is no sound in these sources", file=sys.stderr)
    elif failed:
        print(f"{described} captions, {failed} sounds without one", file=sys.stderr)
    return not failed


def _reason(one: "Described") -> str:
    # What reading says of a long sound is meant for vectors.
    error = (one.error or "").replace("are embedded whole: raise --max-seconds", "are described at once: use --every")
    return error if one.path in error else f"{one.path}: {error}"
