"""`lapis index` and `lapis search`: a folder of sounds as an index, what is in it, and finding sounds in it."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from lapis.model import Embedder
    from lapis.search.filters import Filter
    from lapis.search.hits import Hit
    from lapis.search.updating import IndexReport

DEFAULT_INDEX = "lapis-index"
SHOWN_FAILURES = 50

Flag = Annotated[bool, Parameter(negative=())]


@Parameter(name="*")
@dataclass(frozen=True)
class Files:
    """Which files of an index.

    Parameters
    ----------
    below
        In this folder: a path (/mnt/sounds, ./Foley), or a name such as Foley, wherever folders of that name lie.
    tag
        With this tag; given twice, with both.
    shortest_seconds
        Not shorter.
    longest_seconds
        Not longer.
    since
        Last written on this day (UTC) or later, as 2024-01-31.
    until
        On this day or earlier.
    """

    below: str | None = None
    tag: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    shortest_seconds: float | None = None
    longest_seconds: float | None = None
    since: date | None = None
    until: date | None = None

    def where(self) -> "Filter":
        """As a search takes it."""
        from lapis.search.filters import Filter

        below = self.below or ""
        is_path = below in (".", "..") or below.startswith(("/", "./", "../", "~"))
        return Filter(
            # An index has whole paths, as they are when links to folders have been followed.
            below=str(Path(below).expanduser().resolve()) if is_path else self.below,
            shortest_seconds=self.shortest_seconds,
            longest_seconds=self.longest_seconds,
            tags=self.tag,
            since=self.since,
            until=self.until,
        )


app = App(
    name="index",
    help="Index the sounds of a folder, and see to the index. A folder that is called as a command is: ./list",
)


@app.default
def index(
    folder: Path,
    /,
    *,
    model: str,
    index: str = DEFAULT_INDEX,
    metadata: Path | None = None,
    window_seconds: float | None = None,
    hop_seconds: float | None = None,
    rebuild: bool = False,
    unreadable: Path | None = None,
    device: str = "",
) -> None:
    """Index the sounds of a folder; run again, it reads only what is new or changed.

    Files that were moved or renamed keep their vectors. Several processes may index at once.

    Parameters
    ----------
    folder
        With the sounds, and its subfolders.
    model
        Folder of a trained model.
    index
        Where the index lies or is to lie: a folder, or an address such as s3://bucket/index.
    metadata
        Table (.csv, .tsv, .jsonl, .parquet) of tags and words: columns path (relative to the table), tags, text.
    window_seconds
        Of sound a row of the index; 10 for a new index.
    hop_seconds
        From one window's start to the next; the window for a new index.
    rebuild
        Throw away what is in the index and begin anew.
    unreadable
        File for the names of all files that cannot be read, as JSON lines with the reason.
    device
        cpu or cuda; the GPU where there is one unless told.
    """
    import torch
    from rich.console import Console
    from rich.progress import Progress

    from lapis.data.storage import local_path
    from lapis.hub import load
    from lapis.search.index import Index
    from lapis.search.labels import read_labels

    folder = local_path(folder, what="FOLDER")
    unreadable = None if unreadable is None else local_path(unreadable, what="--unreadable")
    if not folder.is_dir():
        raise ValueError(f"expected a folder of sounds, and {folder} is not one")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"no CUDA device is there for --device {device}")
    labels = None if metadata is None else read_labels(metadata)
    embedder = load(model, device=device or ("cuda" if torch.cuda.is_available() else "cpu"))
    table = Index.create_or_open(
        index,
        embedder_identity=embedder.identity,
        model=str(Path(model).resolve()) if Path(model).exists() else model,
        width=embedder.width,
        window_seconds=window_seconds,
        hop_seconds=hop_seconds,
        rebuild=rebuild,
    )
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("indexing", total=None)
        report = table.update(
            folder,
            embedder=embedder,
            labels=labels,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _print_report(report, unreadable=unreadable)


def _print_report(report: "IndexReport", *, unreadable: Path | None) -> None:
    from lapis.files import atomic_write

    print(
        f"{report.added} files added, {report.changed} changed, {report.unchanged} unchanged, "
        f"{report.removed} removed, {len(report.failed)} unreadable; {report.windows} windows written"
        + (f"; {report.moved} files moved" if report.moved else "")
        + (f"; {report.relabelled} files with other tags or text" if report.relabelled else "")
    )
    for path, reason in report.failed[:SHOWN_FAILURES]:
        print(f"unreadable: {reason}" if str(path) in reason else f"unreadable: {path}: {reason}")
    more = len(report.failed) - SHOWN_FAILURES
    if more > 0:
        print(f"unreadable: {more} more" + ("" if unreadable else "; --unreadable FILE writes all"))
    if unreadable is not None:
        with atomic_write(unreadable, binary=False) as file:
            for path, reason in report.failed:
                file.write(json.dumps({"path": str(path), "reason": reason}) + "\n")


@app.command(name="list")
def list_files(*, index: str = DEFAULT_INDEX, files: Files = Files(), json: Flag = False) -> None:
    """List the files of an index.

    Parameters
    ----------
    index
        Made by `lapis index`.
    files
        Which files.
    json
        Print JSON lines, with all that is known of a file.
    """
    from json import dumps

    from lapis.search.columns import shown
    from lapis.search.index import Index

    count, seconds = 0, 0.0
    for file in sorted(Index.open(index).files(where=files.where()), key=lambda file: file.path):
        count, seconds = count + 1, seconds + file.duration_seconds
        if json:
            modified = file.modified.isoformat() if file.modified else None
            told = asdict(file) | {"path": shown(file.path), "modified": modified}
            print(dumps(told, ensure_ascii=False))
        else:
            tags = f"  [{', '.join(file.tags)}]" if file.tags else ""
            modified = f"{file.modified:%Y-%m-%d}" if file.modified else "no date   "
            print(f"{file.duration_seconds:9.1f} s  {modified}  {shown(file.path)}{tags}")
    print(f"{count} files, {seconds / 3600:.2f} hours of sound", file=sys.stderr)


@app.command
def duplicates(
    *,
    index: str = DEFAULT_INDEX,
    least_cosine: float = 0.98,
    least_share: float = 0.5,
    exact: Flag = False,
    files: Files = Files(),
    json: Flag = False,
) -> None:
    """List the files that an index has twice: of the same content, and almost alike to the model.

    Every window is compared with every other: the time grows with the square of their number.

    Parameters
    ----------
    index
        Made by `lapis index`.
    least_cosine
        From which on two windows are almost alike.
    least_share
        Of the windows of the file with fewer, how many must be almost like one of the other.
    exact
        Only those of the same content, which is quick.
    files
        Which files.
    json
        Print JSON lines.
    """
    from json import dumps

    from rich.console import Console
    from rich.progress import Progress

    from lapis.search.columns import shown
    from lapis.search.duplicates import exact_duplicates, near_duplicates
    from lapis.search.index import Index

    table, where = Index.open(index), files.where()
    found = exact_duplicates(table, where=where)
    console = Console(stderr=True)
    if not exact:
        with Progress(console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("comparing", total=None)
            found += near_duplicates(
                table,
                least_cosine=least_cosine,
                least_share=least_share,
                where=where,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    for of in found:
        if json:
            print(dumps(asdict(of) | {"first": shown(of.first), "second": shown(of.second)}, ensure_ascii=False))
        else:
            how = "same content" if of.is_same_content else f"cosine {of.cosine:.3f}, {of.share:.0%} of windows"
            print(f"{shown(of.first)}\n{shown(of.second)}\n    {how}")


@app.command
def export(out: Path, /, *, index: str = DEFAULT_INDEX, files: Files = Files()) -> None:
    """Write an index as a Parquet table, a row a window, with the vectors.

    Parameters
    ----------
    out
        The table.
    index
        Made by `lapis index`.
    files
        Which files.
    """
    from lapis.data.storage import local_path
    from lapis.search.exporting import export as write
    from lapis.search.index import Index

    out = local_path(out, what="OUT")
    print(f"{write(Index.open(index), out, where=files.where())} windows in {out}")


@app.command
def compact(
    *,
    index: str = DEFAULT_INDEX,
    approximate: Flag = False,
    engine: Literal["process", "ray"] = "process",
    workers: int | None = None,
    address: str = "local",
    map: Flag = False,
) -> None:
    """Make few files of many, as `lapis index` does when it ends; and bring a map of the vectors up to date.

    Parameters
    ----------
    index
        Made by `lapis index`.
    approximate
        Build the index for approximate search too, and measure its recall: quicker answers from many windows.
    engine
        Which builds that index. process: this one. ray: the machines of a Ray cluster, a million windows each at least;
        the two options that follow are its own.
    workers
        At most so many; one a processor of the cluster unless told.
    address
        local, for a cluster of this machine's own; auto, for one that runs here; or ray://head:10001.
    map
        Make a map of the vectors, in place of one that is there: the quickest answers, as long as the index is not
        written; then compact again. Needs the extra `map`.
    """
    from lapis.search.approximate import partitions_for
    from lapis.search.index import Index
    from lapis.search.ray_index import builder

    if engine == "ray" and not approximate:
        raise ValueError("--engine ray builds the index for approximate search: add --approximate")
    build = builder(engine, workers=workers, address=address)
    table = Index.open(index)
    if approximate:
        partitions_for(table.table)  # where there are too few windows, that is said before anything is written
    known = table.compact(approximately=approximate, build=build)
    print(f"{table.num_windows} windows" + (f"; {known}" if known else ""))
    if map or table.has_map:
        print(table.update_map(anew=map))


@app.command
def remove(paths: Annotated[list[str], Parameter(negative=())], /, *, index: str = DEFAULT_INDEX) -> None:
    """Take files, and all files of folders, out of an index; the sounds stay where they are.

    Parameters
    ----------
    paths
        Of files and folders; they need not be there any more.
    index
        Made by `lapis index`.
    """
    from lapis.search.index import Index

    print(f"{Index.open(index).remove(paths)} files removed from {index}")


def search(
    words: str = "",
    /,
    *,
    like: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
    unlike: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    unlike_sound: Annotated[tuple[Path, ...], Parameter(negative=())] = (),
    files: Files = Files(),
    index: str = DEFAULT_INDEX,
    model: str = "",
    limit: int = 10,
    anyway: Flag = False,
    exactly: Flag = False,
    json: Flag = False,
    device: str = "",
) -> None:
    """Find sounds by words in any language the model knows, by sounds, and by what they are not like.

    A model with a calibration (`lapis calibrate`) says how probable it is that the words are heard, and that nothing
    matches where they count as heard nowhere; of words alone, as it knows no other queries.

    Parameters
    ----------
    words
        What the sound is like.
    like
        A sound file to search by, in place of words or beside them.
    unlike
        What the sound is not like, in words.
    unlike_sound
        A sound file that it is not like.
    files
        Which files.
    index
        Made by `lapis index`: a folder, or an address such as s3://bucket/index.
    model
        The model's folder, where it has moved since the index was made.
    limit
        How many files to show.
    anyway
        Show what is nearest even where nothing matches.
    exactly
        Compare with every window, where the index has a quicker way too.
    json
        Print JSON lines in place of a table.
    device
        cpu or cuda; the GPU where there is one unless told.
    """
    import torch

    from lapis.hub import load
    from lapis.search.hits import nothing_matches
    from lapis.search.index import Index
    from lapis.search.query import Query

    if not (words.strip() or like):
        raise ValueError("expected words to search for, or --like with a sound file, or both")
    query = Query((words,) if words.strip() else (), like, unlike, unlike_sound)
    where = files.where()
    table = Index.open(index)
    embedder = load(model or table.model, device=device or ("cuda" if torch.cuda.is_available() else "cpu"))
    hits = table.search_query(query, embedder=embedder, limit=limit, where=where, exactly=exactly)
    if nothing_matches(hits) and not anyway:
        # Lines of JSON are for programs: what is said to people goes elsewhere then.
        print(_nothing_matches(embedder, hits[0]), file=sys.stderr if json else sys.stdout)
        return
    if not hits:
        print("the index has no such file", file=sys.stderr)
    told = [f"like {sound}" for sound in like] + [f"unlike {one}" for one in (*unlike, *unlike_sound)]
    title = ", ".join([*filter(None, [words]), *told])
    _print_hits(hits, title=title, as_json=json)


def _nothing_matches(embedder: "Embedder", nearest: "Hit") -> str:
    from lapis.calibration import Calibrated

    of = embedder.calibration if isinstance(embedder, Calibrated) else None
    assert of is not None and nearest.probability is not None
    return (
        f"nothing matches: the nearest sound has these words with a probability of {nearest.probability:.1%}, "
        f"and a text counts as heard where {of.decision.rule} (--anyway shows what is nearest)"
    )


def _print_hits(hits: "Sequence[Hit]", *, title: str, as_json: bool) -> None:
    from lapis.search.columns import shown

    if as_json:
        for hit in hits:
            print(json.dumps(asdict(hit) | {"path": shown(hit.path)}, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    # A path is told whole, on as many lines as it takes.
    file = Column("file", overflow="fold")
    probable = any(hit.probability is not None for hit in hits)
    rows = Table("score", *(["probability", "heard"] if probable else []), "seconds", file, title=Text(title))
    for hit in hits:
        meaning = [] if hit.probability is None else [f"{hit.probability:.1%}", "yes" if hit.heard else "no"]
        seconds = f"{hit.start_seconds:.1f}-{hit.end_seconds:.1f}"
        rows.add_row(f"{hit.score:.3f}", *meaning, seconds, Text(shown(hit.path)))
    Console().print(rows)
