"""A corpus of 10^8 samples, real in all but its size: ten thousand shards that are links to one."""

import json
import os
import subprocess
import sys
from functools import cache
from itertools import islice, pairwise

import pytest

from data.corpus import tones, write_tar
from lapis.data.batching import Budget, plan
from lapis.data.captions import Captions
from lapis.data.loader import Loader, Reading
from lapis.data.mixture import Mixture, Part
from lapis.data.order import hash_numbers, shuffled
from lapis.data.shards import index_shard
from lapis.data.sources import Tars

SAMPLES = 10**8

PROGRAM = """
import json, resource, sys, time
from itertools import islice
from lapis.data.batching import Budget, plan
from lapis.data.loader import Loader, Reading
from lapis.data.mixture import Mixture, Part
from lapis.data.sources import Tars

def memory():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

told = {"imports_mb": memory()}
begin = time.perf_counter()
mixture = Mixture.Config((Part(Tars("big/*.tar"), 3.0), Part(Tars("small.tar"), 1.0))).build(seed=1)
told["open_seconds"] = time.perf_counter() - begin
told["samples"] = len(mixture.sources[0])
numbers = [n * 7_919_333 % (4 * 10**8) for n in range(20_000)]
begin = time.perf_counter()
places = [mixture._place(number) for number in numbers]
told["place_us"] = (time.perf_counter() - begin) / len(numbers) * 1e6
begin = time.perf_counter()
draws = [draw for number in numbers[:5000] for draw in islice(mixture.draws(number), 1)]
told["planned_us"] = (time.perf_counter() - begin) / len(draws) * 1e6
begin = time.perf_counter()
keys = [mixture[number].sample.key for number in numbers[:2000]]
told["sample_us"] = (time.perf_counter() - begin) / len(keys) * 1e6
told["distinct"] = len({place for part, place in places if part == 0})
told["of_big"] = sum(part == 0 for part, _ in places)
loader = Loader(mixture, budget=Budget(clips=16, clip_seconds=1.0), sample_rate=16_000, reading=Reading(workers=0))
far = 3 * 10**8 + 12_345
one = [batch.draws for batch in islice(loader.batches(far), 4)]
again = [batch.draws for batch in islice(loader.batches(one[1][0].number), 3)]
told["resumes"] = one[1:] == again
told["printed"] = str(mixture)
told["peak_mb"] = memory()
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """A folder of 10^4 shards of 10^4 samples, with their index beside them."""
    folder = tmp_path_factory.mktemp("big")
    (folder / "big").mkdir()
    sounds = list(tones(5, seconds=0.05).values())
    samples = {f"clip{number:05d}": sounds[number % 5] for number in range(SAMPLES // 10**4)}
    one = write_tar(folder / "one.tar", samples)
    index = index_shard(one)
    for number in range(10**4):
        (folder / "big" / f"{number:05d}.tar").symlink_to(one)
        (folder / "big" / f"{number:05d}.tar.index").symlink_to(index)
    write_tar(folder / "small.tar", tones(7))
    return folder


@pytest.mark.slow
def test_a_hundred_million_samples_in_little_memory(big):
    environment = os.environ | {"LAPIS_DATA": str(big), "LAPIS_CACHE": str(big / "cache")}
    answer = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    assert answer.returncode == 0, answer.stderr
    told = json.loads(answer.stdout)
    print(json.dumps(told, indent=2))
    assert told["samples"] == SAMPLES and "100,000,000 clips" in told["printed"]
    assert told["peak_mb"] < 1000 and told["peak_mb"] - told["imports_mb"] < 200
    assert told["resumes"] and told["of_big"] == 15_000 and told["distinct"] > 14_990


def test_a_place_of_a_shuffle_of_a_hundred_million_is_the_plain_one():
    """The same as the Feistel network written out, so that a run begun with that goes on with this."""

    @cache
    def plain(place, size, seed):
        half_bits = max(1, (size - 1).bit_length() + 1 >> 1)
        mask, key = (1 << half_bits) - 1, hash_numbers(*seed)
        while True:
            left, right = place >> half_bits, place & mask
            for turn in range(4):
                left, right = right, left ^ (hash_numbers(key, turn, right) & mask)
            place = left << half_bits | right
            if place < size:
                return place

    for size in (1, 2, 3, 1000, SAMPLES):
        for place in range(0, size, max(1, size // 200)):
            assert shuffled(place, size, seed=(5, 2, 1)) == plain(place, size, (5, 2, 1))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    monkeypatch.setenv("LAPIS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def _batches(folder, count, *, workers=0, **options):
    mixture = Mixture.Config((Part(Tars("a.tar")),), **options).build(seed=3)
    budget = Budget(clips=5, seconds=60.0, clip_seconds=2.0)
    loader = Loader(mixture, budget=budget, sample_rate=16_000, reading=Reading(workers=workers))
    return mixture, list(islice(loader.batches(0), count))


def _with_gaps(folder):
    samples = tones(10)
    for number in (2, 3, 7):
        samples[f"clip{number:03d}"][1]["captions"] = {"eng_Latn": ["", "x" * 2000]}
    write_tar(folder / "a.tar", samples)


@pytest.mark.parametrize("workers", [0, 2])
def test_unusable_captions_of_a_source_that_was_not_looked_through(folder, workers):
    _with_gaps(folder)
    mixture, batches = _batches(folder, 4, scanned=0, workers=workers)
    assert len(mixture.sources[0]) == 10 and batches[0].position == 5
    for epoch in (batches[:2], batches[2:]):
        dropped = [drop for batch in epoch for drop in batch.dropped]
        assert sorted(drop.name for drop in dropped) == [f"sample {place} of part 0" for place in (2, 3, 7)]
        assert all("without a usable caption" in drop.reason and "a.tar:clip00" in drop.reason for drop in dropped)
        assert sorted(draw.sample.key[-1] for batch in epoch for draw in batch.draws) == list("0145689")
    assert mixture.rejected == {
        "empty caption": 6,
        "caption longer than 1000 characters": 6,
        "sample without a usable caption": 6,
    }
    assert "left out: 6 x empty caption" in str(mixture)


def test_looked_through_or_not_a_whole_source_gives_the_same(folder):
    write_tar(folder / "a.tar", tones(10))
    _, seen = _batches(folder, 6)
    mixture, unseen = _batches(folder, 6, scanned=0)
    assert [batch.draws for batch in seen] == [batch.draws for batch in unseen]
    assert [batch.captions for batch in seen] == [batch.captions for batch in unseen]
    assert [mixture[number] for number in range(30)] == [draw for batch in unseen for draw in batch.draws]


def test_looking_through_leaves_out_and_counts_once(folder):
    _with_gaps(folder)
    mixture, batches = _batches(folder, 6)
    assert len(mixture.sources[0]) == 7 and not any(batch.dropped for batch in batches)
    assert mixture.rejected["sample without a usable caption"] == 3 == mixture.rejected["empty caption"]
    with pytest.raises(ValueError, match="no sample with a usable caption"):
        Mixture.Config((Part(Tars("a.tar")),), captions=Captions({"fra_Latn": 1.0})).build(seed=0)


def test_planning_reads_no_shard(folder):
    """Durations come from the index: batches can be planned while the shards themselves are not there."""
    write_tar(folder / "a.tar", tones(10))
    mixture = Mixture.Config((Part(Tars("a.tar")),), scanned=0).build(seed=3)
    (folder / "a.tar").unlink()
    plans = list(islice(plan(mixture.draws(0), Budget(clips=4)), 10))
    assert all(one.position < other.position for one, other in pairwise(plans))
    assert all(draw.sample.seconds for one in plans for draw in one.draws)


def test_slices_and_ends(folder):
    write_tar(folder / "a.tar", tones(10))
    samples = Tars("a.tar", domain="music").build()
    assert [sample.key for sample in samples[1:4]] == ["clip003", "clip005", "clip007"]
    assert samples[-1].key == "clip009" and len(samples) == 5 and [*samples] == samples[:]
    with pytest.raises(IndexError):
        _ = samples[5]
    assert len(Tars("a.tar", domain="speech").build()) == 0
