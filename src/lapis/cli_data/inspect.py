"""`lapis data inspect`: what is in a source."""

import json as json_lines
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lapis.cli_data.shared import Flag, Settings, console, find_source, stages, stoppable

if TYPE_CHECKING:
    from lapis.data.surveyed import Listed, Survey


def inspect(
    source: str,
    /,
    *,
    set: Settings = (),
    out: Path | None = None,
    read: int = 10_000,
    workers: int | None = None,
    json: Flag = False,
) -> None:
    """Say what is in a source: hours, durations, languages, classes, words, and what is wrong with it.

    Words and stated durations are looked at in all clips; sound is read of some, drawn at random.
    The exit status is 1 if clips cannot be read.

    Parameters
    ----------
    source
        As for `lapis data prepare`.
    set
        Choices of the source, as field=value.
    out
        Folder for inspect.json and inspect.png.
    read
        Of how many clips the sound is read; 0 for none.
    workers
        Processes that read; one a processor unless told.
    json
        Print everything as JSON.
    """
    from lapis.data.storage import local_path
    from lapis.data.survey import survey

    out = None if out is None else local_path(out, what="--out")
    config = find_source(source, set)
    with stoppable(), stages() as progress:
        found = survey(config, read=read, workers=workers or os.cpu_count() or 1, progress=progress)
    if out is not None:
        _write_survey(found, out=out, title=source)
    if json:
        print(json_lines.dumps(found.to_dict(), ensure_ascii=False, indent=2))
    else:
        _print_survey(found)
    if found.unreadable.count or (found.sound and found.sound.unreadable.count):
        sys.exit(1)


def _write_survey(found: "Survey", *, out: Path, title: str) -> None:
    from lapis.data.survey_picture import draw_survey
    from lapis.files import atomic_write

    with atomic_write(out / "inspect.json", binary=False) as file:
        json_lines.dump(found.to_dict(), file, ensure_ascii=False, indent=2)
    draw_survey(found, path=out / "inspect.png", title=title)


def _print_survey(found: "Survey") -> None:
    from rich.table import Table
    from rich.text import Text

    shown = Table(show_header=False)
    shown.add_column()
    shown.add_column(overflow="fold")  # The name of a file is of use only whole.

    def row(name: str, told: str) -> None:
        shown.add_row(name, Text(told or "none"))

    row("clips", f"{found.clips:,}, {found.hours:,.2f} h; {found.stated:,} state their duration")
    row("seconds", _told_quantiles(found.durations))
    for name in ("domains", "spoken_languages", "caption_languages", "labels", "licences", "sources", "splits"):
        row(name.replace("_", " "), _told_counts(getattr(found, name)))
    row("captions", f"{found.captions:,}; {found.without_words:,} clips have no words at all")
    for language in list(found.caption_languages)[:8]:
        row(f"characters, {language}", _told_quantiles(found.caption_characters[language]))
    row("equal keys", f"{found.equal_keys:,}")
    row("captions of an earlier clip", f"{found.equal_captions:,}")
    row("most repeated", _told_counts({text[:40]: count for text, count in found.repeated_captions.items()}))
    _row_listed(row, "cannot be had", found.unreadable)
    if found.sound is not None:
        row("sound read", f"{found.sound.read:,} clips, {found.sound.seconds / 3600:,.2f} h")
        row("decibels (RMS)", _told_quantiles(found.sound.levels))
        row("formats", _told_counts(found.sound.formats))
        names = ("unreadable", "broken_off", "silent", "quiet", "clipped", "other_duration", "equal_bytes")
        for name in names:
            _row_listed(row, name.replace("_", " "), getattr(found.sound, name))
    console().print(shown)


def _row_listed(row: Callable[[str, str], None], name: str, listed: "Listed") -> None:
    example = f"; the first: {listed.examples[0]}" if listed.examples else ""
    row(name, f"{listed.count:,}{example}")


def _told_quantiles(quantiles: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:,.4g}" for name, value in quantiles.items())


def _told_counts(counts: Mapping[str, int], *, shown: int = 8) -> str:
    told = ", ".join(f"{name} {count:,}" for name, count in list(counts.items())[:shown])
    return told + (f", and {len(counts) - shown:,} more" if len(counts) > shown else "")
