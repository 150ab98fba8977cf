"""`lapis classify`: how well names fit sounds, as lines, JSON or a table."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from lapis.model import Embedder
    from lapis.search.classify import Classes, Classified

COLUMNS = ("path", "begin_seconds", "end_seconds", "rank", "label", "score", "probability", "percentile", "heard")
"""Of the table, and `error` behind them."""


def classify(
    sources: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    model: str,
    labels: str = "",
    labels_file: Path | None = None,
    class_list: str = "",
    template: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    style: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    language: str = "eng_Latn",
    every: float | None = None,
    top: int = 5,
    json: Annotated[bool, Parameter(negative=())] = False,
    csv: Path | None = None,
    device: str = "",
    dtype: str = "",
) -> None:
    """Say which of some names fit sounds best, in their order, as they are heard.

    A model with a calibration (`lapis calibrate`) says how probable each name is, and that nothing matches where none
    counts as heard. Without one there is always a best name, whatever sounds. A sound that cannot be read is named on
    standard error with the reason; the exit status is 1 if there was one.

    Parameters
    ----------
    sources
        Sound files of any duration, folders of sounds, tables with a column `audio` (.csv, .tsv, .jsonl, .parquet),
        listings (.txt) and .tar shards.
    model
        A folder, a file of official weights, or a name of either, as `lapis.load` takes it.
    labels
        The names, with commas: dog,cat,rain.
    labels_file
        With a name a line.
    class_list
        The classes of a data set: esc50, urbansound8k and others.
    template
        A sentence with {} for the name, "the sound of {}"; of several the mean vector counts. The name alone unless
        told.
    style
        In place of templates: sentences of the benchmarks, as `lapis evaluate` asks: glap, evar, wavcaps, and lapis of
        --class-list, which is what that takes unless told.
    language
        Of the sentences of --class-list, as a FLORES-200 code.
    every
        A row for each so many seconds of a sound, in place of one for the whole.
    top
        How many names are told.
    json
        Print JSON lines, those of unreadable sounds among them.
    csv
        Write a table, a row a name.
    device
        cpu or cuda; the GPU where there is one unless told.
    dtype
        Of the weights: float32, bfloat16 or float16; as they were saved unless told.
    """
    if top < 1 or not (every is None or every > 0):
        raise ValueError(f"expected --top and --every above zero, got {top} and {every}")
    if absent := [source for source in sources if not source.exists()]:  # before the first is heard
        raise ValueError(f"{absent[0]}: expected a sound file, a folder, a table or a tar, but there is none")
    sentences = _sentences(
        _given(labels, labels_file), class_list=class_list, templates=template, styles=style, language=language
    )

    import torch

    from lapis.hub import load
    from lapis.search.classify import classify_clips
    from lapis.search.clips import find_clips

    embedder = load(model, device=device or ("cuda" if torch.cuda.is_available() else "cpu"), dtype=dtype or None)
    classes = _classes(embedder, sentences)
    if classes.calibration is None:
        print(
            "the model has no calibration: scores are cosines alone, which say what is nearest and not whether it is "
            "there",
            file=sys.stderr,
        )
    found = classify_clips(find_clips(sources), classes=classes, embedder=embedder, every_seconds=every, top=top)
    if not _tell(found, as_json=json, csv=csv):
        sys.exit(1)


def _given(labels: str, file: Path | None) -> tuple[str, ...]:
    """The names that were told; none where they are those of a list."""
    if labels and file is not None:
        raise ValueError("expected --labels or --labels-file, one of the two")
    if file is None:
        names, where = labels.split(",") if labels else [], "--labels"
    else:
        names, where = [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()], str(file)
        if not names:
            raise ValueError(f"{file}: expected a name a line, there is none")
    names = [name.strip() for name in names]
    if not all(names):
        raise ValueError(f"{where}: expected names with commas between them, got an empty one")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{where}: {twice!r} stands there twice")
    return tuple(names)


def _sentences(
    names: tuple[str, ...], *, class_list: str, templates: tuple[str, ...], styles: tuple[str, ...], language: str
) -> Mapping[str, tuple[str, ...]]:
    """Of each name the sentences that ask for it."""
    if bool(names) == bool(class_list):
        raise ValueError("expected --labels, --labels-file or --class-list, one of them")
    if templates and (styles or class_list):
        raise ValueError("expected --template with --labels or --labels-file, and without --style")
    if styles or class_list:
        from lapis.evaluation.labels import OURS, prompts

        if class_list:
            return prompts(class_list, language=language, styles=styles or (OURS,))
        # The data set with sentences for any label: it has no table of its own.
        return prompts("fsd50k", language=language, styles=styles, labels=names)
    for template in templates:
        if "{}" not in template:
            raise ValueError(f"--template {template!r}: expected {{}} in it, where the name goes")
    return {name: tuple(template.replace("{}", name) for template in templates or ("{}",)) for name in names}


def _classes(embedder: "Embedder", sentences: Mapping[str, tuple[str, ...]]) -> "Classes":
    from lapis.calibration import Calibrated
    from lapis.evaluation.zeroshot import class_vectors
    from lapis.search.classify import Classes

    vectors = class_vectors(embedder, prompts=sentences)
    return Classes(tuple(sentences), vectors, embedder.calibration if isinstance(embedder, Calibrated) else None)


def _tell(found: "Iterator[Classified]", *, as_json: bool, csv: Path | None) -> bool:
    """Print rows as they come; gives whether all sounds could be read."""
    import csv as tables
    from json import dumps

    from rich.console import Console
    from rich.progress import Progress, TextColumn

    from lapis.files import atomic_write

    console = Console(stderr=True)
    sounds = failed = 0
    with ExitStack() as stack:
        table: Any = None
        if csv is not None:
            file: IO[str] = stack.enter_context(atomic_write(csv, binary=False))
            table = tables.writer(file, lineterminator="\n")
            table.writerow([*COLUMNS, "error"])
        # A bar would stand between the lines where both go to one terminal.
        hidden = not console.is_terminal or (sys.stdout.isatty() and csv is None)
        bar = stack.enter_context(Progress(TextColumn("{task.description}"), console=console, disable=hidden))
        task = bar.add_task("0 sounds")
        last: "Classified | None" = None
        for one in found:
            # Windows of a sound follow each other, and last the reason if it could not be read to its end.
            goes_on = last is not None and last.path == one.path and last.error is None and one.begin_seconds != 0.0
            sounds, failed, last = sounds + (not goes_on), failed + (one.error is not None), one
            bar.update(task, description=f"{sounds} sounds, {failed} unreadable")
            if table is not None:
                table.writerows(_rows(one))
            if as_json:
                # Bytes of a file's name that are no text stay what JSON calls them.
                print(dumps(asdict(one), ensure_ascii=False).encode(errors="backslashreplace").decode(), flush=True)
            elif one.error is None and csv is None:
                print(_line(one), flush=True)
            if one.error is not None and not as_json:
                told = one.error if one.path in one.error else f"{one.path}: {one.error}"
                print(f"unreadable: {told}", file=sys.stderr)
    nothing = "" if sounds else "; there is no sound in these sources"
    print(f"{sounds - failed} sounds classified, {failed} unreadable{nothing}", file=sys.stderr)
    if csv is not None:
        print(csv, file=sys.stderr if as_json else sys.stdout)
    return not failed


def _line(one: "Classified") -> str:
    """One row for people."""
    assert one.begin_seconds is not None and one.end_seconds is not None
    names = ", ".join(
        f"{of.label} {of.score:.3f}" if of.probability is None else f"{of.label} {of.probability:.1%} ({of.score:.3f})"
        for of in one.named
    )
    place = f"{one.path} {one.begin_seconds:.1f}-{one.end_seconds:.1f} s"
    return f"{place}: {'nothing matches; nearest ' if one.nothing_matches else ''}{names}"


def _rows(one: "Classified") -> list[list[object]]:
    path = one.path.encode(errors="backslashreplace").decode()
    if one.error is not None:
        return [[path, *[""] * (len(COLUMNS) - 1), one.error.encode(errors="backslashreplace").decode()]]

    def cell(value: object) -> object:
        return "" if value is None else value

    return [
        [path, one.begin_seconds, one.end_seconds, rank, of.label, of.score]
        + [cell(value) for value in (of.probability, of.percentile, of.heard)]
        + [""]
        for rank, of in enumerate(one.named, start=1)
    ]
