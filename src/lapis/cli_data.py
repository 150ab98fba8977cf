"""The commands `lapis data ...`. Each imports what it needs when it runs."""

import json as json_lines
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from lapis.data.epochs import Outline
    from lapis.data.leaks.verify import Leaks
    from lapis.data.mixture import Part
    from lapis.data.prepare import Prepared
    from lapis.data.sources import SourceConfig
    from lapis.data.survey import Listed, Survey

Settings = Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True, negative=())]
Places = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())]
Flag = Annotated[bool, Parameter(negative=())]

app = App(name="data", help="List, prepare, look through and mix training data.")


@app.command(name="list")
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
    from rich.console import Console
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
        shown.add_row(*map(Text, (row["corpus"], row["domain"], hours, clips, told, there, _short(row["licence"]))))
    Console().print(shown)
    print("whole licences, how to get a corpus, and where it belongs: lapis data list --json")


def _short(text: str, *, characters: int = 30) -> str:
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


@app.command
def prepare(
    source: str,
    /,
    *,
    out: Path,
    set: Settings = (),
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
    from lapis.data.encoding import Codec
    from lapis.data.prepare import prepare as prepare_source

    config = find_source(source, set)
    how = Codec(codec, sample_rate, round(kilobits * 1000))  # type: ignore[arg-type]  (it looks at the name itself)
    with _stoppable(), _progress("preparing") as progress:
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


@app.command
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
    from lapis.data.survey import survey

    config = find_source(source, set)
    with _stoppable(), _stages() as progress:
        found = survey(config, read=read, workers=workers or os.cpu_count() or 1, progress=progress)
    if out is not None:
        _write_survey(found, out=out, title=str(config))
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
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table("what", "found", show_header=False)

    def row(name: str, told: str) -> None:
        shown.add_row(name, Text(told or "none"))

    row("clips", f"{found.clips:,}, {found.hours:,.2f} h; {found.stated:,} state their duration")
    row("seconds", _told_quantiles(found.durations))
    for name in ("domains", "spoken_languages", "caption_languages", "labels", "licences", "sources", "splits"):
        row(name.replace("_", " "), _told_counts(getattr(found, name)))
    row("captions", f"{found.captions:,}; {found.without_words:,} clips have no words at all")
    for language, quantiles in list(found.caption_characters.items())[:8]:
        row(f"characters, {language}", _told_quantiles(quantiles))
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
    Console().print(shown)


def _row_listed(row: Callable[[str, str], None], name: str, listed: "Listed") -> None:
    example = f"; the first: {listed.examples[0]}" if listed.examples else ""
    row(name, f"{listed.count:,}{example}")


def _told_quantiles(quantiles: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:,.4g}" for name, value in quantiles.items())


def _told_counts(counts: Mapping[str, int], *, shown: int = 8) -> str:
    told = ", ".join(f"{name} {count:,}" for name, count in list(counts.items())[:shown])
    return told + (f", and {len(counts) - shown:,} more" if len(counts) > shown else "")


@app.command
def mix(
    mixture: str,
    /,
    *,
    steps: int | None = None,
    clips: int | None = None,
    seconds: float | None = None,
    processes: int = 1,
    json: Flag = False,
) -> None:
    """Show the parts of a mixture with their shares and sizes, and how often each is gone through in a run.

    Parameters
    ----------
    mixture
        A recipe's name, the recipe.json of a run, or a JSON file of a mixture.
    steps
        Of the run; the recipe's unless told.
    clips
        A process takes in a batch at most; the recipe's unless told.
    seconds
        Of sound a process takes in a batch at most; the recipe's unless told.
    processes
        That train together.
    json
        Print JSON.
    """
    from dataclasses import replace

    from lapis.data.batching import Budget
    from lapis.data.epochs import outline
    from lapis.data.mixture import Mixture

    config = find_mixture(mixture)
    budget, batches, seed = Budget(), 1, 0
    if not isinstance(config, Mixture.Config):
        recipe, config = config, config.data
        budget, batches, seed = recipe.budget, recipe.training.accumulate, recipe.seed
        steps = recipe.training.steps if steps is None else steps
    if steps is None:
        raise ValueError(f"{mixture} is a mixture without a run: say of how many steps with --steps")
    budget = replace(budget, clips=clips or budget.clips, seconds=seconds or budget.seconds)
    opened = config.build(seed=seed)
    found = outline(opened, steps=steps, budget=budget, processes=processes, batches_a_step=batches)
    if json:
        print(json_lines.dumps(asdict(found), ensure_ascii=False, indent=2))
    else:
        _print_outline(found)


def _print_outline(found: "Outline") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table("share", "clips", "hours", "draws", "epochs", "source")
    for branch in found.branches:
        epochs = f"{branch.epochs:,.3g}{' balanced' if branch.balanced else ''}"
        cells = (f"{branch.share:.1%}", f"{branch.clips:,}", f"{branch.hours:,.2f}", f"{branch.draws:,}", epochs)
        shown.add_row(*cells, Text(branch.name))
    Console().print(shown)
    print(
        f"{found.clips:,} clips, {found.hours:,.2f} h; {found.steps:,} steps of {found.clips_a_step:,.1f} clips and "
        f"{found.seconds_a_step:,.1f} s of sound"
    )
    for reason, count in found.rejected.items():
        print(f"left out: {count:,} x {reason}")


@app.command
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
        A recipe or a JSON file of a mixture, or a source as for `lapis data prepare`.
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
    found = _find_leaks(training, against, set=set, sound=sound, captions=captions, workers=workers)
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


@app.command
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
    from lapis.data.leaks.exclusion import write_exclusion

    found = _find_leaks(training, against, set=set, sound=sound, captions=captions, workers=workers)
    write_exclusion(out, found.exclusion)
    _print_unreadable(found)
    print(f"{out}: {len(found.exclusion.ids):,} recordings and {len(found.exclusion.clips):,} clips")
    if found.unreadable:
        sys.exit(1)


def _find_leaks(
    training: str, against: tuple[str, ...], *, set: tuple[str, ...], sound: bool, captions: bool, workers: int | None
) -> "Leaks":
    from lapis.data.leaks.verify import find_leaks

    benchmarks = {}
    for text in against:
        # A comma before field=value only: an address may hold some.
        place, *settings = re.split(r",(?=\w+=)", text)
        benchmarks[text] = find_source(place, tuple(settings))
    with _stoppable(), _stages() as progress:
        return find_leaks(
            find_parts(training, set),
            against=benchmarks,
            sound=sound,
            captions=captions,
            workers=workers or os.cpu_count() or 1,
            progress=progress,
        )


def find_parts(place: str, settings: tuple[str, ...] = ()) -> "tuple[Part, ...]":
    """The parts of the mixture that a user means, or the one source. A name is a corpus's if choices come with it.

    Raises:
        ValueError: there is neither.
    """
    from lapis import recipe as recipes
    from lapis.data.mixture import Mixture, Part

    if place.endswith(".json") or (place in recipes.names() and not settings):
        found = find_mixture(place)
        return (found if isinstance(found, Mixture.Config) else found.data).parts
    return (Part(find_source(place, settings)),)


def _print_leaks(found: "Leaks", *, shown: int = 100) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    _print_unreadable(found)
    if found.offenders:
        table = Table()
        for column in ("training", "benchmark", "reason", "score", "what"):
            table.add_column(column, overflow="fold")  # A key is of use only whole.
        several = len({one.benchmark for one in found.offenders}) > 1
        for one in found.offenders[:shown]:
            test = f"{Path(one.benchmark).name}: {one.test_key}" if several else one.test_key
            cells = (one.key, test, one.reason, f"{one.score:.2f}", _short(one.detail, characters=60))
            table.add_row(*map(Text, cells))
        Console().print(table)
    if len(found.offenders) > shown:
        print(f"and {len(found.offenders) - shown:,} more: all are in the file of --out")
    told = "; ".join(f"{count:,} clips by {reason}" for reason, count in sorted(found.counts.items()))
    excluded = f" ({found.excluded:,} more are on black-lists)" if found.excluded else ""
    print(
        f"{found.clips:,} clips of training{excluded} against {found.benchmark_clips:,} of benchmarks: "
        f"{told or 'no leak found'}"
    )


def _print_unreadable(found: "Leaks") -> None:
    for where, reason in found.problems:
        print(reason if where in reason else f"{where}: {reason}", file=sys.stderr)
    if found.unreadable:
        print(f"{found.unreadable:,} clips cannot be read and were compared by ids and words alone", file=sys.stderr)


def find_source(place: str, settings: tuple[str, ...] = ()) -> "SourceConfig":
    """The source that a user means: a corpus by its name, or what lies at a path or an address.

    Raises:
        ValueError: there is none, or it has no such choice.
    """
    from lapis import datasets
    from lapis.data.opening import configured, source_at
    from lapis.values import nearest

    names = datasets.names()
    if place in names:
        return configured(datasets.find(place).source, settings)
    try:
        return source_at(place, settings=settings)
    except FileNotFoundError as error:
        raise ValueError(f"{error}{nearest(place, names)}") from error


def find_mixture(place: str) -> Any:
    """The recipe or the mixture that a user means: a recipe's name, or a JSON file of either.

    Raises:
        ValueError: there is none, or the file holds something else.
    """
    from lapis import recipe as recipes
    from lapis.data.mixture import Mixture
    from lapis.values import from_values

    if not place.endswith(".json"):
        return recipes.find(place)
    try:
        found = from_values(json_lines.loads(Path(place).read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{place} is no recipe or mixture: {error}") from error
    if not isinstance(found, recipes.Recipe | Mixture.Config):
        raise ValueError(f"{place}: expected a recipe or a mixture, got {type(found).__name__}")
    return found


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM ends the work as Ctrl-C does: in order, with what is finished kept."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar of clips, where there is a terminal."""
    with _stages() as tell:
        yield lambda done, total: tell(name, done, total)


@contextmanager
def _stages() -> Iterator[Callable[[str, int, int | None], None]]:
    """A bar of clips that says what is being done, where there is a terminal."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda name, done, total: bar.update(task, description=name, completed=done, total=total)
