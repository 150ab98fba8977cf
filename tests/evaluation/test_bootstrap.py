"""Intervals against plain resampling, and whether they hold what they promise."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lapis.evaluation.bootstrap import alike, interval, mean_of, mean_over_groups, median_of


@given(st.integers(1, 30), st.integers(0, 10**6))
def test_statistics_of_weights_are_those_of_the_repeated_items(number, seed):
    random = np.random.default_rng(seed)
    values, groups = random.integers(0, 5, number).astype(float), random.integers(0, 3, number)
    weights = random.integers(0, 4, (5, number))
    weights[:, 0] += 1
    for drawn, mean, median, balanced in zip(
        weights,
        mean_of(values)(weights),
        median_of(values)(weights),
        mean_over_groups(values, groups=groups)(weights),
    ):
        items, of = np.repeat(values, drawn), np.repeat(groups, drawn)
        assert mean == pytest.approx(items.mean())
        assert median == np.median(items)
        assert balanced == pytest.approx(np.mean([items[of == group].mean() for group in set(of)]))


def test_an_interval_is_that_of_plain_resampling():
    random = np.random.default_rng(1)
    values = random.normal(size=200)
    low, high = interval(mean_of(values), clusters=np.arange(200))
    means = [random.choice(values, 200).mean() for _ in range(4000)]
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.02)
    assert (low, high) == interval(mean_of(values), clusters=np.arange(200))  # the draws are those of a fixed seed


def test_items_of_a_cluster_are_drawn_together():
    values = np.repeat(np.random.default_rng(2).normal(size=60), 5)
    alone = interval(mean_of(values), clusters=np.arange(300))
    together = interval(mean_of(values), clusters=np.repeat(np.arange(60), 5))
    once = interval(mean_of(values[::5]), clusters=np.arange(60))
    assert together == pytest.approx(once, abs=1e-9)
    assert together[1] - together[0] > 1.8 * (alone[1] - alone[0])


@pytest.mark.parametrize("clustered", [False, True])
def test_nineteen_in_twenty_intervals_hold_the_truth(clustered):
    random, held = np.random.default_rng(3), 0
    for _ in range(300):
        of = random.random(80) < 0.3
        values, clusters = of.astype(float), np.arange(80)
        if clustered:
            values, clusters = np.repeat(values, 4), np.repeat(clusters, 4)
        low, high = interval(mean_of(values), clusters=clusters, draws=300)
        held += low <= 0.3 <= high
    assert 0.90 <= held / 300 <= 0.98


def test_groups_by_the_ten_thousand_need_no_table():
    """One of items by groups would have 3.6 GB."""
    number = 30_000
    groups = np.random.default_rng(0).integers(0, 15_000, number)
    tracemalloc.start()
    low, high = interval(mean_over_groups(np.ones(number), groups=groups), clusters=np.arange(number), draws=30)
    assert low == high == 1 and tracemalloc.get_traced_memory()[1] < 500e6
    tracemalloc.stop()


def test_nothing_can_be_told_of_one_clip():
    assert interval(mean_of(np.ones(3)), clusters=np.zeros(3, int)) is None
    assert interval(mean_of(np.ones(0)), clusters=np.zeros(0, int)) is None


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 10**6))
def test_items_of_uneven_parts_have_the_mean_of_the_means(sizes, seed):
    parts = [np.random.default_rng(seed + number).random(size) for number, size in enumerate(sizes)]
    assert alike(parts).mean() == pytest.approx(np.mean([part.mean() for part in parts]))
