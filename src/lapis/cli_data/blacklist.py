"""`lapis data blacklist`: what must not be trained on, written to a file."""

import sys
from pathlib import Path

from lapis.cli_data.shared import Places, Settings
from lapis.cli_data.verify import find_leaks_of, print_unreadable


def blacklist(
    training: str,
    /,
    *,
    against: Places,
    out: Path,
    set: Settings = (),
    sound: bool = True,
    captions: bool = True,
    workers: int | None = None,
) -> None:
    """Write what must not be trained on: all recordings of benchmarks, and the clips of training that `verify` finds.

    A part of a mixture leaves it out with exclude=FILE. The exit status is 1 if clips cannot be read.

    Parameters
    ----------
    training
        As for `lapis data verify`.
    against
        Benchmarks, as for `lapis data verify`.
    out
        JSON file, in the form of WavCaps' black-lists.
    set
        Choices of the source of training, as field=value.
    sound
        Compare sound too.
    captions
        Look for equal captions too.
    workers
        Processes that read; one a processor unless told.
    """
    from lapis.data.keys import in_utf8
    from lapis.data.leaks.exclusion import write_exclusion
    from lapis.data.storage import local_path

    out = local_path(out, what="--out")
    found = find_leaks_of(training, against, set=set, sound=sound, captions=captions, workers=workers)
    write_exclusion(out, found.exclusion)
    print_unreadable(found)
    print(f"{in_utf8(str(out))}: {len(found.exclusion.ids):,} recordings and {len(found.exclusion.clips):,} clips")
    if found.unreadable:
        sys.exit(1)
