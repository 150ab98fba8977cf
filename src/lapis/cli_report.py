"""`lapis report` and `lapis compare`: what runs have measured, as pages, and against each other."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def report(runs: Annotated[list[Path], Parameter(negative=())], /, *, out: Path) -> None:
    """Write a page of runs: figures beside published ones, plots, differences, protocols and prompts.

    Parameters
    ----------
    runs
        Files that `lapis evaluate --out` wrote; the first is compared with each other one.
    out
        A .html page, which asks nothing of the network, or a .md file.
    """
    from lapis.evaluation.report import gather
    from lapis.evaluation.report_markdown import markdown
    from lapis.evaluation.report_page import page
    from lapis.evaluation.results_file import read
    from lapis.files import atomic_write

    writers = {".html": page, ".md": markdown}
    if out.suffix not in writers:
        raise ValueError(f"expected --out to end in .html or .md, got {out}")
    text = writers[out.suffix](gather([read(run) for run in runs]))
    with atomic_write(out, binary=False) as file:
        file.write(text)
    print(out)


def compare(
    first: Path,
    second: Path,
    /,
    *,
    only: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Say for each figure of two runs whether their difference is real.

    Parameters
    ----------
    first
        A file that `lapis evaluate --out` wrote.
    second
        Another one, of the same benchmarks.
    only
        Patterns of "benchmark" or "benchmark metric", such as `pocket-*` or `* R@1 *`. The correction is for the
        figures chosen, so choose before looking.
    json
        Print JSON lines in place of a table.
    """
    from dataclasses import asdict
    from json import dumps

    from lapis.evaluation.compare import compare as compare_runs
    from lapis.evaluation.compare import rows
    from lapis.evaluation.results_file import read

    found = compare_runs(read(first), second=read(second), only=only)
    if json:
        for one in found.differences:
            print(dumps(asdict(one), ensure_ascii=False))
        return
    _print_rows(rows(found))
    print(f"\n{found.sentence}")
    for reason in dict.fromkeys(found.left_out.values()):
        names = [name for name, other in found.left_out.items() if other == reason]
        print(f"not compared, as {reason}: {'; '.join(names)}")


def _print_rows(rows: "list[dict[str, str]]") -> None:
    """A benchmark's name once, above its figures: a terminal is narrow."""
    columns = [name for name in rows[0] if name not in ("benchmark", "p")]
    table = [columns, *([row[name] for name in columns] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*table)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip() for cells in table]
    print(f"  {lines[0]}")
    before = ""
    for row, line in zip(rows, lines[1:]):
        if row["benchmark"] != before:
            print(before := row["benchmark"])
        print(f"  {line}")
