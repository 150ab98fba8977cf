"""`lapis data list`: the corpora that can be read."""

import json as json_lines
from pathlib import Path
from typing import Any

from lapis.cli_data.shared import Flag, console, short


def list_corpora(*, json: Flag = False) -> None:
    """Show the corpora that can be read, and which of them are in the data folder.

    Parameters
    ----------
    json
        Print JSON lines.
    """
    from lapis import datasets

    rows = []
    for name in datasets.names():
        about = datasets.find(name)
        folder = _folder_of(about.source, name=name)
        rows.append(
            {
                "corpus": name,
                "title": about.name,
                "domain": about.domain,
                "hours": about.hours,
                "clips": dict(about.splits),
                "languages": list(about.languages),
                "licence": about.licence,
                "folder": str(folder),
                "there": folder.is_dir(),
                "homepage": about.homepage,
                "obtain": about.obtain,
            }
        )
    if json:
        for row in rows:
            print(json_lines.dumps(row, ensure_ascii=False))
        return
    _print_corpora(rows)


def _folder_of(source: type, *, name: str) -> Path:
    """Where a corpus is looked for unless its choices say otherwise."""
    from dataclasses import fields

    from lapis.files import data_path

    (default,) = [field.default for field in fields(source) if field.name == "folder"] or [name]
    return data_path(str(default))


def _print_corpora(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    shown = Table()
    for name in ("corpus", "domain", "hours", "clips", "languages", "there", "licence"):
        shown.add_column(name, no_wrap=True)
    for row in rows:
        counts = [count for count in row["clips"].values() if count is not None]
        languages = row["languages"]
        told = languages[0] + (f" +{len(languages) - 1}" if len(languages) > 1 else "") if languages else ""
        hours = "" if row["hours"] is None else f"{row['hours']:,.4g}"
        clips, there = f"{sum(counts):,}" if counts else "", "yes" if row["there"] else ""
        shown.add_row(*map(Text, (row["corpus"], row["domain"], hours, clips, told, there, short(row["licence"]))))
    console().print(shown)
    print("whole licences, how to get a corpus, and where it belongs: lapis data list --json")
