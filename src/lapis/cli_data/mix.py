"""`lapis data mix`: the parts of a mixture, and how often a run goes through each."""

import json as json_lines
from dataclasses import asdict
from typing import TYPE_CHECKING

from lapis.cli_data.shared import Flag, console, find_mixture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lapis.data.epochs import Branch, Outline
    from lapis.data.mixture import Mixture


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
        A recipe, its choices behind commas (glap,form=pool); the recipe.json of a run; or a JSON file of a mixture.
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
    budget = replace(
        budget,
        clips=budget.clips if clips is None else clips,
        seconds=budget.seconds if seconds is None else seconds,
    )
    opened = config.build(seed=seed)
    found = outline(opened, steps=steps, budget=budget, processes=processes, batches_a_step=batches)
    if json:
        print(json_lines.dumps(asdict(found), ensure_ascii=False, indent=2))
    else:
        _print_outline(found, config)


def _print_outline(found: "Outline", config: "Mixture.Config") -> None:
    from rich.table import Table
    from rich.text import Text

    shown = Table("share", "clips", "hours", "draws", "epochs", "source")
    for depth, name, below in _tree(config, iter(found.branches)):
        draws, clips = sum(branch.draws for branch in below), sum(branch.clips for branch in below)
        balanced = " balanced" if any(branch.balanced for branch in below) else ""
        share, hours = sum(branch.share for branch in below), sum(branch.hours for branch in below)
        cells = (f"{share:.1%}", f"{clips:,}", f"{hours:,.2f}", f"{draws:,}", f"{draws / clips:,.3g}{balanced}")
        shown.add_row(*cells, Text(f"{'  ' * depth}{name}"))
    console().print(shown)
    print(
        f"{found.clips:,} clips, {found.hours:,.2f} h; {found.steps:,} steps of {found.clips_a_step:,.1f} clips and "
        f"{found.seconds_a_step:,.1f} s of sound"
    )
    for reason, count in found.rejected.items():
        print(f"left out: {count:,} x {reason}")


def _tree(
    config: "Mixture.Config", branches: "Iterator[Branch]", depth: int = 0
) -> "Iterator[tuple[int, str, list[Branch]]]":
    """A row a part from left to right, with the sources that are below it."""
    from lapis.data.mixture import Mixture

    for part in config.parts:
        if isinstance(part.source, Mixture.Config):
            rows = list(_tree(part.source, branches, depth + 1))
            below = [branch for at, _, of in rows if at == depth + 1 for branch in of]
            yield depth, f"mixture of {len(part.source.parts)}, weight {part.weight:g}", below
            yield from rows
        else:
            branch = next(branches)
            yield depth, branch.name, [branch]
