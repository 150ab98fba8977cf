"""What the commands `lapis data ...` share: what a user names is found, and work is shown and can be stopped."""

import json as json_lines
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from rich.console import Console

    from lapis.data.sources import SourceConfig

Settings = Annotated[tuple[str, ...], Parameter(name="--set", consume_multiple=True, negative=())]
Places = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())]
Flag = Annotated[bool, Parameter(negative=())]
WIDTH = 200


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


def split_choices(text: str) -> tuple[str, tuple[str, ...]]:
    """What a user names, and its choices behind commas: `audiocaps,split=test`."""
    # A comma before field=value only: an address may hold some.
    place, *choices = re.split(r",(?=\w+=)", text)
    return place, tuple(choices)


def find_mixture(text: str) -> Any:
    """The recipe or the mixture that a user means: a recipe's name with its choices, or a JSON file of either.

    Raises:
        ValueError: there is none, or the file holds something else.
    """
    from lapis import recipe as recipes
    from lapis.data.mixture import Mixture
    from lapis.values import from_values

    place, choices = split_choices(text)
    if not place.endswith(".json"):
        return recipes.find(place, **dict(choice.split("=", 1) for choice in choices))
    if choices:
        raise ValueError(f"{place} holds all there is to say: expected no choices behind it, got {', '.join(choices)}")
    try:
        found = from_values(json_lines.loads(Path(place).read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"{place} is no recipe or mixture: {error}") from error
    if not isinstance(found, recipes.Recipe | Mixture.Config):
        raise ValueError(f"{place}: expected a recipe or a mixture, got {type(found).__name__}")
    return found


def console() -> "Console":
    """Where tables are printed; in a file or a pipe they are wide, since nobody is there to fold lines back."""
    from rich.console import Console

    terminal = Console()
    return terminal if terminal.is_terminal or "COLUMNS" in os.environ else Console(width=WIDTH)


def short(text: str, *, characters: int = 30) -> str:
    """The text, cut off with a mark where it is longer."""
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM ends the work as Ctrl-C does: in order, with what is finished kept."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def progress_of(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar of clips, where there is a terminal."""
    with stages() as tell:
        yield lambda done, total: tell(name, done, total)


@contextmanager
def stages() -> Iterator[Callable[[str, int, int | None], None]]:
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
