"""Where the numbers of a run are shown beside its own log: TensorBoard always, Weights & Biases or Trackio if asked.

What is sent where is each service's own affair, and its own variables decide it: `WANDB_MODE=offline` leaves all on
this machine, in the run's folder, for `wandb sync` later; Trackio keeps all on this machine unless `TRACKIO_SPACE_ID`
is set. No tracker has a part in what is learned, so a run may go on with another one.
"""

import importlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from lapis.files import atomic_write
from lapis.values import check_choice

Track = Literal["wandb", "trackio"]
PROJECT = "lapis"
ID_NAME = "tracked-as.txt"
"""The file in a run's folder with the name under which services know it: one that is resumed is the same run there."""


@runtime_checkable
class Tracker(Protocol):
    """Shows numbers of steps."""

    def log(self, numbers: Mapping[str, float], *, step: int) -> None: ...  # noqa: D102

    def close(self) -> None: ...  # noqa: D102


def check(track: str) -> None:
    """See that a service is known and its package installed; "" is none.

    Raises:
        ValueError: it is not.
    """
    if track:
        check_choice(track, Track, name="track")
        _package(track)


def open_tracker(track: str, *, folder: Path, name: str, step: int, recipe: Mapping[str, Any]) -> Tracker:
    """The tracker of a service, for a run that goes on from `step`.

    Args:
        track: one of `Track`.
        folder: of the run.
        name: of the recipe; the service sees it with the run's own number.
        step: the last step of the run before; 0 begins a new run there.
        recipe: as plain values, shown beside the numbers.

    Raises:
        ValueError: the service is unknown or its package is not installed.
    """
    check(track)
    number = _number(folder / ID_NAME, new=step == 0)
    return (_Wandb if track == "wandb" else _Trackio)(folder, name=name, number=number, recipe=recipe)


class TensorBoard:
    """Event files below the run's folder; steps that will be taken again are struck out."""

    def __init__(self, folder: Path, *, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def log(self, numbers: Mapping[str, float], *, step: int) -> None:
        """A point of each curve."""
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class _Wandb:
    """Weights & Biases. Where a run goes on before the last step that it has there, that step's first numbers stay."""

    def __init__(self, folder: Path, *, name: str, number: str, recipe: Mapping[str, Any]) -> None:
        self._run = _package("wandb").init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=number,
            name=f"{name}-{number}",
            dir=str(folder.resolve()),
            config=dict(recipe),
            resume="allow",
        )

    def log(self, numbers: Mapping[str, float], *, step: int) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    """Trackio, whose numbers lie in its own folder. Steps that are taken again have two points, and these are equal."""

    def __init__(self, folder: Path, *, name: str, number: str, recipe: Mapping[str, Any]) -> None:
        self._run = _package("trackio").init(
            project=PROJECT, name=f"{name}-{number}", config=dict(recipe), resume="allow", embed=False
        )

    def log(self, numbers: Mapping[str, float], *, step: int) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        self._run.finish()


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"tracking with {name} needs an extra: pip install 'lapis-audio[{name}]'") from error


def _number(path: Path, *, new: bool) -> str:
    """What tells this run from others of its recipe."""
    if not new and path.exists():
        return path.read_text(encoding="utf-8").strip()
    number = secrets.token_hex(4)
    with atomic_write(path, binary=False) as file:
        file.write(number + "\n")
    return number
