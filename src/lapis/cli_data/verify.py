"""`lapis data verify`: clips of training that a benchmark must not be measured with."""

import json as json_lines
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lapis.cli_data.shared import (
    Flag,
    Places,
    Settings,
    console,
    find_mixture,
    find_source,
    short,
    split_choices,
    stages,
    stoppable,
)

if TYPE_CHECKING:
    from lapis.data.leaks.verify import Leaks
    from lapis.data.mixture import Part


def verify(
    training: str,
    /,
    *,
    against: Places,
    set: Settings = (),
    sound: bool = True,
    captions: bool = True,
    workers: int | None = None,
    out: Path | None = None,
    json: Flag = False,
) -> None:
    """Find clips of training that a benchmark must not be measured with: shared recordings, equal or nearly equal
    sound, equal captions.

    The exit status is 1 if there are any, or if clips cannot be read.

    Parameters
    ----------
    training
        A recipe, its choices behind commas (glap,form=pool), a JSON file of a mixture, or a source as for `lapis data
        prepare`.
    against
        Benchmarks: sources, each with its choices behind commas: audiocaps,split=test.
    set
        Choices of the source of training, as field=value.
    sound
        Compare sound too, for which all of it is read, once; --no-sound compares recordings and captions alone.
    captions
        Look for equal captions too; a caption of several clips of a benchmark is a class's and does not count.
    workers
        Processes that read; one a processor unless told.
    out
        JSON file for all that was found.
    json
        Print that JSON.
    """
    from lapis.data.storage import local_path

    out = None if out is None else local_path(out, what="--out")
    found = find_leaks_of(training, against, set=set, sound=sound, captions=captions, workers=workers)
    told = {name: value for name, value in asdict(found).items() if name != "exclusion"} | {"counts": found.counts}
    if out is not None:
        from lapis.files import atomic_write

        with atomic_write(out, binary=False) as file:
            json_lines.dump(told, file, ensure_ascii=False, indent=1)
    if json:
        print(json_lines.dumps(told, ensure_ascii=False, indent=1))
    else:
        _print_leaks(found)
    if found.offenders or found.unreadable:
        sys.exit(1)


def find_leaks_of(
    training: str, against: tuple[str, ...], *, set: tuple[str, ...], sound: bool, captions: bool, workers: int | None
) -> "Leaks":
    """What the commands `verify` and `blacklist` are about, found with progress shown."""
    from lapis.data.leaks.verify import find_leaks

    benchmarks = {text: find_source(*split_choices(text)) for text in against}
    with stoppable(), stages() as progress:
        return find_leaks(
            find_parts(training, set),
            against=benchmarks,
            sound=sound,
            captions=captions,
            workers=workers or os.cpu_count() or 1,
            progress=progress,
        )


def find_parts(place: str, settings: tuple[str, ...] = ()) -> "tuple[Part, ...]":
    """The parts of the mixture that a user means, or the one source; a name is a corpus's if settings come with it.

    Raises:
        ValueError: there is neither, or there are settings for a file that has its own.
    """
    from lapis import recipe as recipes
    from lapis.data.mixture import Mixture, Part

    if place.endswith(".json") and settings:
        raise ValueError(f"{place} holds all there is to say: expected no --set with it, got {', '.join(settings)}")
    if place.endswith(".json") or (split_choices(place)[0] in recipes.names() and not settings):
        found = find_mixture(place)
        config = found if isinstance(found, Mixture.Config) else found.data
        return tuple(leaf.part for leaf in config.leaves())
    return (Part(find_source(place, settings)),)


def _print_leaks(found: "Leaks", *, shown: int = 100) -> None:
    from rich.table import Table
    from rich.text import Text

    print_unreadable(found)
    if found.offenders:
        table = Table()
        for column in ("training", "benchmark", "reason", "score", "what"):
            table.add_column(column, overflow="fold")  # A key is of use only whole.
        several = len({one.benchmark for one in found.offenders}) > 1
        for one in found.offenders[:shown]:
            test = f"{Path(one.benchmark).name}: {one.test_key}" if several else one.test_key
            cells = (one.key, test, one.reason, f"{one.score:.2f}", short(one.detail, characters=60))
            table.add_row(*map(Text, cells))
        console().print(table)
    if len(found.offenders) > shown:
        print(f"and {len(found.offenders) - shown:,} more: all are in the file of --out")
    told = "; ".join(f"{count:,} clips by {reason}" for reason, count in sorted(found.counts.items()))
    excluded = f" ({found.excluded:,} more are on black-lists)" if found.excluded else ""
    print(
        f"{found.clips:,} clips of training{excluded} against {found.benchmark_clips:,} of benchmarks: "
        f"{told or 'no leak found'}"
    )


def print_unreadable(found: "Leaks") -> None:
    """Clips whose sound was not compared, on standard error."""
    for where, reason in found.problems:
        print(reason if where in reason else f"{where}: {reason}", file=sys.stderr)
    if found.unreadable:
        print(f"{found.unreadable:,} clips cannot be read and were compared by ids and words alone", file=sys.stderr)
