"""In which order: whose turn it is among several, and where a thing goes in a shuffle that nobody writes down."""

from collections.abc import Sequence
from functools import lru_cache

ROUND = 1000
"""Draws in a round: weights are kept to a thousandth."""


def turns(weights: Sequence[float]) -> list[int]:
    """Whose turn it is in a round: at each place the part that lags furthest behind its share."""
    total = sum(weights)
    given = [0] * len(weights)
    order = []
    for place in range(1, ROUND + 1):
        lag = [weight / total * place - have for weight, have in zip(weights, given, strict=True)]
        part = lag.index(max(lag))
        given[part] += 1
        order.append(part)
    if 0 in given:
        raise ValueError(f"weight {weights[given.index(0)]} of {list(weights)} is less than one draw in {ROUND}")
    return order


def shuffled(place: int, size: int, *, seed: tuple[int, ...]) -> int:
    """Where `place` goes in a random order of `size` things, without making the order.

    A Feistel network over the next power of four permutes its numbers; those beyond `size` are sent through again
    (cycle walking), which permutes the rest. (Luby and Rackoff 1988; Black and Rogaway 2002.)
    """
    half_bits = max(1, (size - 1).bit_length() + 1 >> 1)
    mask = (1 << half_bits) - 1
    keys = _turn_keys(seed)
    while True:
        left, right = place >> half_bits, place & mask
        for key in keys:
            left, right = right, left ^ (_mixed(key, right) & mask)
        place = left << half_bits | right
        if place < size:
            return place


@lru_cache(maxsize=1024)
def _turn_keys(seed: tuple[int, ...]) -> tuple[int, ...]:
    """The state of the hash of each of the four turns, before the number that the turn is about is mixed in."""
    return tuple(hash_numbers(hash_numbers(*seed), turn) for turn in range(4))


def hash_numbers(*numbers: int) -> int:
    """A 64-bit mix of numbers (the finaliser of SplitMix64, chained)."""
    state = 0
    for number in numbers:
        state = _mixed(state, number)
    return state


def _mixed(state: int, number: int) -> int:
    state = (state + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return state ^ state >> 31
