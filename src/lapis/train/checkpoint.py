"""Checkpoints: everything a run needs to go on as if it had never stopped, in one file, written whole or not at all."""

import pickle
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from lapis import distributed
from lapis.files import atomic_write
from lapis.train import sharded

FORMAT = 2
KEPT = 2
"""The newest checkpoint and one before it stay on disk."""


@dataclass(frozen=True)
class Progress:
    """How far a run is: steps taken, the number of the next draw of its data, and the best score so far."""

    step: int = 0
    position: int = 0
    best: float | None = None


@runtime_checkable
class Part(Protocol):
    """Something of a run that changes from step to step."""

    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...  # noqa: D102


class Checkpoints:
    """The checkpoints of one run, in its folder."""

    def __init__(self, folder: Path, *, recipe: dict[str, Any], indifferent: tuple[str, ...] = ()) -> None:
        """A run may go on with other values of the fields that are `indifferent`."""
        self._folder, self._recipe, self._indifferent = folder, recipe, indifferent

    def paths(self) -> list[Path]:
        """Those on disk, oldest first."""
        return sorted(self._folder.glob("checkpoint-*.pt"))

    def save(self, progress: Progress, parts: Mapping[str, Part]) -> None:
        """Write a checkpoint and remove those no longer kept. What is spread over processes is written by all."""
        path = self._folder / f"checkpoint-{progress.step:08d}.pt"
        states = {name: part.state_dict() for name, part in parts.items()}
        spread = bool(sharded.spread_tensors(states))
        if spread:
            sharded.write(_shards(path), states)  # first: the checkpoint is whole when its own file is there
        if distributed.rank() == 0:
            state = {
                "format": FORMAT,
                "recipe": self._recipe,
                "progress": asdict(progress),
                "spread": spread,
                "parts": sharded.marked(states),
            }
            with atomic_write(path) as file:
                torch.save(state, file)
            for old in self.paths()[:-KEPT]:
                old.unlink()
                shutil.rmtree(_shards(old), ignore_errors=True)
        distributed.barrier()

    def check(self) -> None:
        """Read the newest checkpoint, if there is one, and change nothing.

        Raises:
            ValueError: the file is damaged, of another format, or of a run with another recipe.
        """
        self._newest()

    def _newest(self) -> dict[str, Any] | None:
        paths = self.paths()
        if not paths:
            return None
        state = _load(paths[-1])
        different = _differences(state["recipe"], self._recipe)
        if counted := sorted(path for path in different if path.split(".")[0] not in self._indifferent):
            told = ", ".join("{}: {!r}, now {!r}".format(path, *different[path]) for path in counted)
            raise ValueError(f"{paths[-1]} belongs to a run with another recipe; it differs in {told}")
        return state

    def restore(self, parts: Mapping[str, Part]) -> Progress:
        """Put the newest checkpoint's state into the parts; a run without one begins at 0.

        Raises:
            ValueError: the file is damaged, of another format, or of a run with another recipe.
        """
        distributed.barrier()
        if distributed.rank() == 0:
            for leftover in self._folder.glob(".checkpoint-*.part"):  # of a save that was killed
                leftover.unlink()
        state = self._newest()
        if state is None:
            return Progress()
        current = sharded.spread_tensors({name: part.state_dict() for name, part in parts.items()})
        mesh = next(iter(current.values())).device_mesh if current else None
        states = sharded.read(_shards(self.paths()[-1]), state["parts"], mesh=mesh)
        if mesh is not None and not state["spread"]:  # of one process, which had nothing to spread
            states = sharded.spread(states, mesh=mesh, is_spread=lambda path, tensor: _belongs(path, tensor, current))
        for name, part in parts.items():
            part.load_state_dict(states[name])
        return Progress(**state["progress"])


def _belongs(path: str, tensor: torch.Tensor, spread: Mapping[str, Any]) -> bool:
    """Whether a stored tensor is to be spread: as the weight is that it is, or as the weight whose moments it holds."""
    return path in spread or (path.startswith("optimizer/state/") and tensor.ndim > 0)


def _shards(path: Path) -> Path:
    """The folder beside a checkpoint for tensors that are spread over processes."""
    return path.with_suffix(".shards")


def _load(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{path} is not a whole checkpoint; remove it to go on from the one before: {error}"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path}: expected a checkpoint of format {FORMAT}")
    return state


def _differences(one: Any, other: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """The fields in which two recipes, as plain values, are not equal, and both values of each."""
    if isinstance(one, dict) and isinstance(other, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for name in one.keys() | other.keys():
            found |= _differences(one.get(name), other.get(name), f"{path}.{name}" if path else name)
        return found
    return {} if one == other else {path: (one, other)}
