"""`lapis index import`: what `lapis embed` has written becomes an index, to be searched and served."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from lapis.search.importing import ImportReport

DEFAULT_INDEX = "lapis-index"

Flag = Annotated[bool, Parameter(negative=())]


def import_(
    table: Path,
    /,
    *,
    index: str = DEFAULT_INDEX,
    root: Path | None = None,
    model: str = "",
    window_seconds: float | None = None,
    hop_seconds: float | None = None,
    rebuild: Flag = False,
    approximate: Flag = False,
    engine: Literal["process", "ray"] = "process",
    workers: int | None = None,
    address: str = "local",
) -> None:
    """Put the vectors of a table that `lapis embed` has written into an index; stopped and run again, it goes on.

    Each file is one window, from its beginning to its end. Nobody else may write the index meanwhile.

    Parameters
    ----------
    table
        NAME.parquet, or the folder of its shards, NAME.parquet.shards, which are checked first.
    index
        Where the index lies or is to lie: a folder, or an address such as s3://bucket/index.
    root
        What relative paths in the table are relative to. Unless told, this folder, and files that are not there are
        left out.
    model
        Where the model lies, for `lapis search` and `lapis serve`, noted in a new index; as the table says unless told.
    window_seconds
        Of sound a row of files that `lapis index` adds later, in a new index; 10 unless told.
    hop_seconds
        From one such window's start to the next; the window unless told.
    rebuild
        Throw away what is in the index and begin anew, once all rows of the table have been looked at.
    approximate
        Build the index for approximate search at the end, and measure its recall.
    engine
        Which builds it. process: this one. ray: the machines of a Ray cluster; the options that follow are its own.
    workers
        At most so many; one a processor of the cluster unless told.
    address
        local, for a cluster of this machine's own; auto, for one that runs here; or ray://head:10001.
    """
    from rich.console import Console
    from rich.progress import Progress

    from lapis.data.storage import local_path
    from lapis.search.approximate import FEWEST_TRAINABLE, check_trainable
    from lapis.search.embedded import Embedded
    from lapis.search.ending import exit_on_terminate
    from lapis.search.importing import import_table
    from lapis.search.index import Index
    from lapis.search.ray_index import builder, check_buildable, find_lance_ray

    if engine == "ray" and not approximate:
        raise ValueError("--engine ray builds the index for approximate search: add --approximate")
    build = builder(engine, workers=workers, address=address)
    embedded = Embedded.open(local_path(table, what="TABLE"))
    if approximate:  # what can be known is said before hours of work
        check_trainable(embedded.num_rows if rebuild else max(embedded.num_rows, FEWEST_TRAINABLE))
        if engine == "ray":
            check_buildable(embedded.width, workers=workers)
            find_lance_ray()
    if rebuild:
        for _ in embedded.batches():  # a damaged row is met before the old index is gone
            pass
    place = model or embedded.model
    opened = Index.create_or_open(
        index,
        embedder_identity=embedded.identity,
        model=str(Path(place).resolve()) if place and Path(place).exists() else place,
        width=embedded.width,
        window_seconds=window_seconds,
        hop_seconds=hop_seconds,
        rebuild=rebuild,
    )
    console = Console(stderr=True)
    with exit_on_terminate(), Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("importing", total=None)
        report = import_table(
            opened,
            embedded,
            root=None if root is None else local_path(root, what="--root"),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    _print_report(report)
    if approximate:
        print(opened.compact(approximately=True, build=build))


def _print_report(report: "ImportReport") -> None:
    for path, reason in report.failures:
        print(f"without a vector: {reason}" if path in reason else f"without a vector: {path}: {reason}")
    if report.failed > len(report.failures):
        print(f"without a vector: {report.failed - len(report.failures)} more, see the table's column `error`")
    for path in report.absences:
        print(f"left out: {path}: there is no such file in {Path.cwd()}: say with --root where relative paths begin")
    if report.absent > len(report.absences):
        print(f"left out: {report.absent - len(report.absences)} more relative paths")
    print(
        f"{report.added} files added, {report.replaced} replaced"
        + (f", {report.resumed} were there from before" if report.resumed else "")
        + f"; of the table's rows, {report.failed} have no vector"
        + (f" and {report.absent} were left out" if report.absent else "")
    )
