"""A run that is interrupted and goes on has the order of one that was not, for any processes and workers."""

import hashlib
import multiprocessing
from collections import Counter
from collections.abc import Sequence
from itertools import islice

import pytest

import processes
from data.corpus import tones, write_tar
from lapis import distributed
from lapis.data.batching import Budget
from lapis.data.loader import Loader, Reading
from lapis.data.mixture import Mixture, Part
from lapis.data.sources import Tars

SIZES = {"a": 7, "b": 5, "c": 3}
WEIGHTS = {"a": 3.0, "b": 1.0, "c": 0.7}
BATCHES, CUT = 9, 4
SCANNED = (0, 1000)
"""Of a source: never looked through, and looked through at the start."""


@pytest.fixture
def folder(tmp_path):
    for name, count in SIZES.items():
        write_tar(tmp_path / f"{name}.tar", tones(count, seconds=0.1, name=name))
    return tmp_path


def _told(batch) -> tuple:
    """All of a batch that could differ, in a few bytes."""
    sound = hashlib.sha256(batch.waveforms.rows.numpy().tobytes()).hexdigest()
    numbers = tuple(draw.number for draw in batch.draws)
    keys = tuple(draw.sample.key for draw in batch.draws)
    return numbers, keys, batch.captions, batch.waveforms.lengths, sound, batch.position


def _read(folder: str, scanned: int, position: int, count: int, workers: int, threads: bool = False) -> list[tuple]:
    parts = tuple(Part(Tars(f"{folder}/{name}.tar"), weight) for name, weight in WEIGHTS.items())
    mixture = Mixture.Config(parts, scanned=scanned).build(seed=11)
    clips = 8 // distributed.world_size()
    budget = Budget(clips=clips, seconds=0.14 * clips, clip_seconds=0.13)
    loader = Loader(mixture, budget=budget, sample_rate=16_000, reading=Reading(workers=workers, threads=threads))
    return [_told(batch) for batch in islice(loader.batches(position), count)]


def _interrupted(folder: str, scanned: int) -> dict[str, list[tuple]]:
    """A run without an interruption, and runs that go on from a batch of it with other numbers of workers."""
    whole = _read(folder, scanned, 0, BATCHES, 0)
    told = {"whole": whole}
    for before, after in ((0, 2), (2, 5), (5, 0)):
        first = _read(folder, scanned, 0, CUT, before)
        told[f"{before} then {after}"] = first + _read(folder, scanned, first[-1][-1], BATCHES - CUT, after)
    first = _read(folder, scanned, 0, CUT, 2, threads=True)
    rest = _read(folder, scanned, first[-1][-1], BATCHES - CUT, 5, threads=True)
    told["2 threads then 5"] = first + rest
    return told


def _as_a_rank(folder: str) -> list[dict[str, list[tuple]]]:
    # A process that was started afresh would start its workers afresh; one of torchrun's forks them.
    multiprocessing.set_start_method("fork", force=True)
    return [_interrupted(folder, scanned) for scanned in SCANNED]


@pytest.mark.filterwarnings("ignore:This DataLoader will create 5 worker processes")
@pytest.mark.parametrize("scanned", SCANNED)
def test_order_is_the_same(folder, scanned):
    _check([_interrupted(str(folder), scanned)])


@pytest.mark.slow
def test_order_is_the_same_in_four_processes_and_they_share_nothing(folder):
    ranks = processes.run(_as_a_rank, str(folder), world_size=4, seconds=600)
    for of_one_source in zip(*ranks, strict=True):
        _check(of_one_source)


def _check(ranks: Sequence[dict[str, list[tuple]]]) -> None:
    for told in ranks:
        assert all(run == told["whole"] for run in told.values()) and len(told) == 5
    position = 0
    keys: list[str] = []
    for batches in zip(*(told["whole"] for told in ranks), strict=True):
        numbers = [number for batch in batches for number in batch[0]]
        # Together the processes have each draw once, equally many each, and all of them go on at the same place.
        assert sorted(numbers) == list(range(position, batches[0][-1]))
        assert len({len(batch[0]) for batch in batches}) == 1 and len({batch[-1] for batch in batches}) == 1
        position = batches[0][-1]
        keys += [key for _, key in sorted((n, k) for batch in batches for n, k in zip(batch[0], batch[1]))]
    # Weights are kept, and every epoch of every source, however it lies across batches, has each clip once.
    counts = Counter(key[0] for key in keys)
    for name, size in SIZES.items():
        assert abs(counts[name] - len(keys) * WEIGHTS[name] / sum(WEIGHTS.values())) <= len(SIZES)
        of_source = [key for key in keys if key[0] == name]
        for begin in range(0, len(of_source) - size + 1, size):
            assert len(set(of_source[begin : begin + size])) == size
    assert counts["a"] > 2 * SIZES["a"] and counts["c"] > SIZES["c"]
