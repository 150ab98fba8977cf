"""What a number of steps means for every part of a mixture: draws, and how often each clip comes round."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from lapis.data.batching import Budget, Plan, plan
from lapis.data.mixture import Mixture

PLANNED_BATCHES = 50


@dataclass(frozen=True)
class Branch:
    """A part of a mixture: its share of the draws, its size, and what comes of it over a run."""

    name: str
    weight: float
    share: float
    clips: int
    hours: float
    draws: int
    epochs: float
    """Draws for each clip; of a balanced part rare classes come oftener, and common ones more rarely."""
    balanced: bool = False


@dataclass(frozen=True)
class Outline:
    """A run's way through its mixture."""

    steps: int
    clips_a_step: float
    """Of all processes together, as the first batches are filled."""
    seconds_a_step: float
    """Of sound; a clip of unknown length counts as `clip_seconds`."""
    branches: tuple[Branch, ...]
    rejected: dict[str, int]
    """Why captions and clips are left out, and how many; of what was looked through."""

    @property
    def clips(self) -> int:
        """Of all parts."""
        return sum(branch.clips for branch in self.branches)

    @property
    def hours(self) -> float:
        """Of all parts."""
        return sum(branch.hours for branch in self.branches)


def outline(mixture: Mixture, *, steps: int, budget: Budget, processes: int = 1, batches_a_step: int = 1) -> Outline:
    """Plan some batches and reckon with their size; no sound is read.

    Args:
        mixture: opened.
        steps: of the run.
        budget: of a process.
        processes: that train together.
        batches_a_step: gradients are gathered over so many.

    Raises:
        ValueError: the number of steps, processes or batches is not above zero.
    """
    if min(steps, processes, batches_a_step) < 1:
        raise ValueError(f"expected steps, processes and batches above zero, got {steps, processes, batches_a_step}")
    planned = list(islice(_plans(mixture, budget, processes=processes), PLANNED_BATCHES))
    # The number of a draw counts those of all processes.
    clips = planned[-1].position / len(planned) * batches_a_step
    durations = [
        budget.clip_seconds if draw.sample.seconds is None else min(draw.sample.seconds, budget.clip_seconds)
        for each in planned
        for draw in each.draws
    ]
    draws = steps * clips
    branches = []
    for leaf, source, share in zip(mixture.leaves, mixture.sources, mixture.shares, strict=True):
        branches.append(
            Branch(
                name=str(leaf.source),
                weight=leaf.weight,
                share=share,
                clips=len(source),
                hours=source.total_seconds / 3600,
                draws=round(draws * share),
                epochs=draws * share / len(source),
                balanced=leaf.part.balanced_draws is not None,
            )
        )
    return Outline(
        steps=steps,
        clips_a_step=clips,
        seconds_a_step=sum(durations) / len(durations) * clips,
        branches=tuple(branches),
        rejected=dict(sorted(mixture.rejected.items())),
    )


def _plans(mixture: Mixture, budget: Budget, *, processes: int) -> Iterator[Plan]:
    return plan(mixture.draws(0), budget, world_size=processes)
