"""`lapis locate`: when words sound in a recording, as lines, JSON, labels for Audacity and a picture."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from lapis.search.localise import Located

DEFAULT_INDEX = "lapis-index"
OF_INSTANTS = (
    "probabilities are of single instants, which are less sound than the stretches that lapis search tells of: there a "
    "text may be probable where no instant stands out"
)


def locate(
    file: Path,
    texts: Annotated[list[str], Parameter(negative=())],
    /,
    *,
    model: str = "",
    index: str = DEFAULT_INDEX,
    png: Path | None = None,
    labels: Path | None = None,
    json: Annotated[bool, Parameter(negative=())] = False,
    hearing: Literal["dense", "windows"] | None = None,
    window_seconds: float | None = None,
    smooth_seconds: float = 0.5,
    shortest_seconds: float = 0.0,
    threshold: float | None = None,
    device: str = "",
) -> None:
    """Say when words sound in a recording of any length, and how often.

    Where the model has a calibration (`lapis calibrate`), it decides what counts as heard, and the answer may be that
    nothing does. Without one, what stands out from the rest of the recording counts.

    Parameters
    ----------
    file
        The recording.
    texts
        What to listen for: "dog bark", or several.
    model
        A folder, a file of official weights, or a name of either; the model of the index unless told.
    index
        Whose model is asked, where none is told: a folder, or an address such as s3://bucket/index.
    png
        Draw a spectrogram with a strip of heat for each text.
    labels
        Write a file of labels for Audacity.
    json
        Print one JSON object.
    hearing
        dense, where the model gives vectors of instants, or windows; dense where it can unless told.
    window_seconds
        Of sound heard at once; 10 where it is heard densely, 1 in windows, unless told.
    smooth_seconds
        Of the running median over scores.
    shortest_seconds
        A shorter span is left out.
    threshold
        The cosine from which on a text is heard, in place of the calibration's or the recording's own.
    device
        cpu or cuda; the GPU where there is one unless told.
    """
    from json import dumps

    import torch

    from lapis.files import atomic_write
    from lapis.hub import load
    from lapis.search.frame_grid import Listening
    from lapis.search.heat import draw_locations
    from lapis.search.index import Index
    from lapis.search.localise import Rule, locate
    from lapis.search.place import Place

    if png is not None and png.suffix.lower() != ".png":
        raise ValueError(f"expected --png to end in .png, got {png}")
    listening = Listening(hearing=hearing, window_seconds=window_seconds)
    rule = Rule(smooth_seconds=smooth_seconds, threshold=threshold, shortest_seconds=shortest_seconds)
    if not model:
        if not Place(index).exists():
            raise ValueError(f"expected --model, as there is no index in {index} that tells of one")
        model = Index.open(index).model
    embedder = load(model, device=device or ("cuda" if torch.cuda.is_available() else "cpu"))
    found = locate(file, texts=texts, embedder=embedder, listening=listening, rule=rule)
    if json:
        print(dumps({"path": str(file), **found.to_dict()}, ensure_ascii=False, allow_nan=False))
    else:
        for of in found.found:
            _print(of)
        print(found.found[0].rule)
        if found.probabilities is not None:
            print(OF_INSTANTS)
    if labels is not None:
        with atomic_write(labels, binary=False) as written:
            written.write(found.labels())
    if png is not None:
        draw_locations(found, source=file, path=png, title=file.name)
    for path in (labels, png):
        if path is not None:
            print(path, file=sys.stderr if json else sys.stdout)


def _print(of: "Located") -> None:
    def meant(probability: float | None) -> str:
        return "" if probability is None else f"  probability {probability:.1%}"

    if not of.spans:
        near = of.nearest
        place = f"{near.begin_seconds:.1f}-{near.end_seconds:.1f} s"
        print(f"{of.text}: no instant stands out; nearest at {place}, score {near.score:.3f}{meant(near.probability)}")
        return
    times = "once" if of.count == 1 else f"{of.count} times"
    print(f"{of.text}: {times}, {of.heard_seconds:.1f} s in all")
    for span in of.spans:
        place = f"{span.begin_seconds:.1f}-{span.end_seconds:.1f} s"
        print(f"  {place:20} score {span.score:.3f}{meant(span.probability)}")
