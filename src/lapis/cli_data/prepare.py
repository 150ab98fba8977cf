"""`lapis data prepare`: a source into shards."""

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lapis.cli_data.shared import Flag, Places, Settings, find_source, progress_of, stoppable

if TYPE_CHECKING:
    from lapis.data.prepare import Prepared


def prepare(
    source: str,
    /,
    *,
    out: Path,
    set: Settings = (),
    captions: Places = (),
    name: str = "",
    codec: str = "opus",
    sample_rate: int = 16_000,
    kilobits: float = 32.0,
    shard_clips: int = 1000,
    workers: int | None = None,
    retry: Flag = False,
    restart: Flag = False,
) -> None:
    """Write a source into WebDataset shards with an index; stopped and run again, it goes on where it was.

    The exit status is 1 if clips had to be left out; problems.jsonl says which, and why.

    Parameters
    ----------
    source
        A corpus that `lapis data list` shows, a table (.csv, .jsonl, .parquet), .tar shards (a glob, a folder, an
        address), a folder that `datasets` saved, or a folder of sounds.
    out
        Folder of the shards.
    set
        Choices of the source, as field=value: split=train, caption=text, language=deu_Latn.
    captions
        Tables that `lapis data translate` or `lapis data rewrite` has written: files, or their folders.
    name
        How the shards begin; the folder's name unless told.
    codec
        opus or flac.
    sample_rate
        In hertz; sounds are brought to it, and to one channel.
    kilobits
        A second, of Opus.
    shard_clips
        Clips a shard.
    workers
        Processes; one a processor unless told.
    retry
        Try again clips that could not be read, though their files have not changed.
    restart
        Throw away the shards of another job in this folder.
    """
    from lapis.data.captioned import Captioned
    from lapis.data.encoding import Codec
    from lapis.data.prepare import prepare as prepare_source

    config = find_source(source, set)
    if captions:
        config = Captioned(config, tuple(str(Path(table).absolute()) for table in captions))
    if not math.isfinite(kilobits):
        raise ValueError(f"--kilobits: expected a number, got {kilobits}")
    how = Codec(codec, sample_rate, round(kilobits * 1000))  # type: ignore[arg-type]  (it looks at the name itself)
    with stoppable(), progress_of("preparing") as progress:
        report = prepare_source(
            config,
            out=out,
            name=name,
            codec=how,
            shard_clips=shard_clips,
            workers=workers,
            retry=retry,
            restart=restart,
            progress=progress,
        )
    _print_prepared(report)
    if report.left_out:
        sys.exit(1)


def _print_prepared(report: "Prepared") -> None:
    for where, reason in report.problems:
        print(reason if where in reason else f"{where}: {reason}", file=sys.stderr)
    if report.left_out + report.warnings > len(report.problems):
        print(f"and more, all in {report.out / 'problems.jsonl'}", file=sys.stderr)
    written = f"{report.clips:,} clips, {report.seconds / 3600:,.2f} h, {report.num_bytes / 1e6:,.1f} MB"
    kept = f"{report.kept:,} were there from before" if report.kept else "all of them new"
    amiss = f"{report.left_out:,} clips left out, {report.warnings:,} shorter than their files promise"
    print(f"{written} in {report.shards:,} shards in {report.out}, {kept}; {amiss}")
