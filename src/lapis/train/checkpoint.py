"""Checkpoints: everything a run needs to go on as if it had never stopped, in one file, written whole or not at all."""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lapis import distributed
from lapis.files import atomic_write

FORMAT = 1
KEPT = 2
"""The newest checkpoint and one before it stay on disk."""


@dataclass(frozen=True)
class Progress:
    """How far a run is: steps taken, and the number of the next draw of its data."""

    step: int = 0
    position: int = 0


class Checkpoints:
    """The checkpoints of one run, in its folder."""

    def __init__(self, folder: Path, *, recipe: dict[str, Any], indifferent: tuple[str, ...] = ()) -> None:
        """A run may go on with other values of the fields that are `indifferent`."""
        self._folder, self._recipe, self._indifferent = folder, recipe, indifferent

    def paths(self) -> list[Path]:
        """Those on disk, oldest first."""
        return sorted(self._folder.glob("checkpoint-*.pt"))

    def save(self, progress: Progress, *, learner: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write a checkpoint and remove those no longer kept."""
        if distributed.rank() == 0:
            state = {
                "format": FORMAT,
                "recipe": self._recipe,
                "step": progress.step,
                "position": progress.position,
                "learner": learner.state_dict(),
                "optimizer": optimizer.state_dict(),
                "random": torch.get_rng_state(),
                "random_cuda": torch.cuda.get_rng_state_all(),
            }
            with atomic_write(self._folder / f"checkpoint-{progress.step:08d}.pt") as file:
                torch.save(state, file)
            for path in self.paths()[:-KEPT]:
                path.unlink()
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
            raise ValueError(f"{paths[-1]} belongs to a run with another recipe; it differs in {', '.join(counted)}")
        return state

    def restore(self, *, learner: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
        """Put the newest checkpoint's state into the learner and the optimiser; a run without one begins at 0.

        Raises:
            ValueError: the file is damaged, of another format, or of a run with another recipe.
        """
        for leftover in self._folder.glob(".checkpoint-*.part"):  # of a save that was killed
            leftover.unlink()
        state = self._newest()
        if state is None:
            return Progress()
        learner.load_state_dict(state["learner"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        if len(state["random_cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["random_cuda"])
        return Progress(state["step"], state["position"])


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


def _differences(one: Any, other: Any, path: str = "") -> set[str]:
    """The fields in which two recipes, as plain values, are not equal."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = one.keys() | other.keys()
        parts = [_differences(one.get(name), other.get(name), f"{path}.{name}" if path else name) for name in names]
        return set().union(*parts)
    return set() if one == other else {path}
