"""Which clips a process embeds: shard k of n takes clips k, k + n, k + 2n and so on, and writes a file of its own.

Neighbours in a listing are often alike, in length too, so that taking turns shares the work more evenly than stretches
would. Nothing is agreed on between processes: each makes the same list for itself, and the check holds the lists equal.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

AUTOMATIC = "auto"
SCHEDULERS = (
    ("torchrun", "RANK", "WORLD_SIZE"),
    ("Slurm", "SLURM_PROCID", "SLURM_NTASKS"),
    ("Kubernetes", "JOB_COMPLETION_INDEX", None),
)
"""Each with the variables of a process's number and of how many there are; torchrun's first: it runs within others."""
LOCAL_NUMBERS = ("LOCAL_RANK", "SLURM_LOCALID")
FRAGMENT = re.compile(r"shard-(\d+)-of-(\d+)\.parquet")


@dataclass(frozen=True)
class Shard:
    """Number `index`, from 0, of `count`."""

    index: int
    count: int

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.index < self.count:
            raise ValueError(f"expected a shard from 0/{self.count} to {self.count - 1}/{self.count}, got {self}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def fragment(self, out: Path) -> Path:
        """The file of this shard of a table.

        Raises:
            ValueError: the folder of the table's shards holds those of another number of shards.
        """
        folder = fragments_folder(out)
        for path in folder.glob("shard-*"):
            found = FRAGMENT.match(path.name)
            if found and int(found[2]) != self.count:
                raise ValueError(
                    f"{folder} holds shards of {int(found[2])}, this is one of {self.count}: "
                    f"go on with as many, or delete the folder to begin anew"
                )
        return folder / f"shard-{self.index:05d}-of-{self.count:05d}.parquet"


def fragments_folder(out: Path) -> Path:
    """Where the shards of a table lie until they are merged."""
    return out.with_name(f"{out.name}.shards")


def parse_shard(text: str, *, environment: Mapping[str, str]) -> Shard:
    """The shard that a text names: `3/8`; `auto`, as a scheduler's environment says; `auto/8`, if it says only which.

    Raises:
        ValueError: it names none, or the environment does not say it, or says otherwise.
    """
    which, slash, count = text.partition("/")
    if which != AUTOMATIC:
        if not (which.isdecimal() and count.isdecimal()):
            raise ValueError(f"expected --shard k/n, auto or auto/n, as 0/8, got {text!r}")
        return Shard(int(which), int(count))
    if slash and not count.isdecimal():
        raise ValueError(f"expected --shard auto or auto/n, got {text!r}")
    stated = int(count) if slash else None
    for scheduler, index_name, count_name in SCHEDULERS:
        if index_name not in environment:
            continue
        index = _number(environment, index_name)
        told = None if count_name is None or count_name not in environment else _number(environment, count_name)
        if scheduler == "Slurm" and told in (None, 1) and "SLURM_ARRAY_TASK_ID" in environment:
            # An array may count from anything, in steps, and be run again for a few: only its owner knows the whole.
            raise ValueError("a Slurm array does not say how many shards there are: --shard $SLURM_ARRAY_TASK_ID/n")
        if told is None and stated is None:
            raise ValueError(f"{scheduler} says which shard this is ({index}) and not of how many: --shard auto/n")
        if told is not None and stated not in (None, told):
            raise ValueError(f"--shard {text}: {scheduler} says that there are {told} ({count_name})")
        return Shard(index, told or stated or 0)
    known = ", ".join(index_name for _, index_name, _ in SCHEDULERS)
    raise ValueError(f"--shard {text}: expected the environment of torchrun, srun or an indexed job, none of {known}")


def local_number(environment: Mapping[str, str]) -> int:
    """Which process of this machine this is, as the scheduler says; 0 where it does not."""
    return next((_number(environment, name) for name in LOCAL_NUMBERS if name in environment), 0)


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment[name]
    if not text.isdecimal():
        raise ValueError(f"{name}: expected a number, got {text!r}")
    return int(text)
