"""Which shard a process is: told, or by its scheduler, and never guessed."""

from pathlib import Path

import pytest

from lapis.search.sharding import Shard, local_number, parse_shard

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
SLURM = {"SLURM_PROCID": "2", "SLURM_NTASKS": "5", "SLURM_LOCALID": "2"}
KUBERNETES = {"JOB_COMPLETION_INDEX": "6"}


@pytest.mark.parametrize(
    ("text", "environment", "shard"),
    [
        ("0/8", {}, Shard(0, 8)),
        ("7/8", TORCHRUN, Shard(7, 8)),
        ("auto", TORCHRUN, Shard(3, 8)),
        ("auto/8", TORCHRUN, Shard(3, 8)),
        ("auto", SLURM, Shard(2, 5)),
        ("auto", SLURM | TORCHRUN, Shard(3, 8)),
        ("auto/9", KUBERNETES, Shard(6, 9)),
        ("auto", KUBERNETES | SLURM, Shard(2, 5)),
        ("auto", SLURM | {"SLURM_ARRAY_TASK_ID": "4"}, Shard(2, 5)),
    ],
)
def test_a_shard_is_told_or_taken_from_a_scheduler(text, environment, shard):
    assert parse_shard(text, environment=environment) == shard


@pytest.mark.parametrize(
    ("text", "environment", "message"),
    [
        ("8/8", {}, "expected a shard from 0/8 to 7/8, got 8/8"),
        ("0/0", {}, "expected a shard"),
        ("3", {}, "expected --shard k/n, auto or auto/n, as 0/8, got '3'"),
        ("-1/8", {}, "expected --shard k/n"),
        ("auto/", TORCHRUN, "expected --shard auto or auto/n"),
        ("auto", {}, "none of RANK, SLURM_PROCID, JOB_COMPLETION_INDEX"),
        ("auto", KUBERNETES, r"Kubernetes says which shard this is \(6\) and not of how many: --shard auto/n"),
        ("auto/6", KUBERNETES, "from 0/6 to 5/6, got 6/6"),
        ("auto/4", TORCHRUN, r"torchrun says that there are 8 \(WORLD_SIZE\)"),
        ("auto", {"RANK": "x", "WORLD_SIZE": "8"}, "RANK: expected a number, got 'x'"),
        ("auto/8", {"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_ARRAY_TASK_ID": "4"}, "SLURM_ARRAY_TASK_ID/n"),
    ],
)
def test_what_is_not_sure_is_refused(text, environment, message):
    with pytest.raises(ValueError, match=message):
        parse_shard(text, environment=environment)


def test_the_process_of_this_machine():
    assert [local_number(environment) for environment in (TORCHRUN, SLURM, KUBERNETES)] == [1, 2, 0]


def test_shards_of_another_number_are_not_mixed(tmp_path):
    out = tmp_path / "v.parquet"
    names = [Shard(index, 3).fragment(out) for index in range(3)]
    assert len(set(names)) == 3 and {path.parent for path in names} == {Path(f"{out}.shards")}
    names[0].parent.mkdir()
    (names[0].parent / f"{names[0].name}.parts").mkdir()
    assert Shard(1, 3).fragment(out) == names[1]
    with pytest.raises(ValueError, match="holds shards of 3, this is one of 4"):
        Shard(1, 4).fragment(out)
