"""Mixup: pairs and shares follow from the numbers of the draws alone, and sounds of any lengths lie over each other."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import processes
from lapis import distributed
from lapis.data.mixing import overlaid, pairs
from lapis.ragged import Ragged

NUMBERS = (31, 4, 15, 92, 65)
LENGTHS = (100, 40, 1, 250, 60)


@given(numbers=st.lists(st.integers(0, 2**50), min_size=1, max_size=40, unique=True), seed=st.integers(0, 100))
def test_everybody_is_a_partner_once_and_nobody_his_own(numbers, seed):
    found = pairs(numbers, alpha=0.5, seed=seed)
    assert sorted(found.partners) == list(range(len(numbers)))
    assert len(numbers) == 1 or all(partner != clip for clip, partner in enumerate(found.partners))
    assert all(0 <= share <= 1 for share in found.shares)


@given(order=st.permutations(range(6)))
def test_the_order_of_clips_decides_nothing(order):
    numbers = [7, 70, 3, 12, 55, 8]
    straight, turned = pairs(numbers, alpha=0.5, seed=1), pairs([numbers[i] for i in order], alpha=0.5, seed=1)
    for place, clip in enumerate(order):
        assert order[turned.partners[place]] == straight.partners[clip]
        assert turned.shares[place] == straight.shares[clip]


def test_shares_are_drawn_from_beta():
    shares = np.array(pairs(range(4000), alpha=0.5, seed=0).shares)
    assert abs(shares.mean() - 0.5) < 0.02
    assert abs(shares.var() - 1 / 8) < 0.01  # of Beta(a, a): 1 / (4 (2 a + 1))
    assert shares.tolist() != list(pairs(range(4000), alpha=0.5, seed=1).shares)


def test_partners_differ_from_step_to_step():
    shifts = {pairs(range(first, first + 64), alpha=0.5, seed=0).partners[0] for first in range(0, 6400, 64)}
    assert len(shifts) > 30


def _sounds() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(length, generator=generator) for length in LENGTHS]


def test_a_clip_keeps_its_length_and_silence_follows_a_shorter_partner():
    sounds, of = _sounds(), pairs(NUMBERS, alpha=0.5, seed=3)
    mixed = overlaid(Ragged.pack(sounds), of)
    assert mixed.lengths == LENGTHS
    for own, clip, partner, share in zip(sounds, mixed.split(), of.partners, of.shares, strict=True):
        expected = [
            share * float(own[i]) + (1 - share) * (float(sounds[partner][i]) if i < len(sounds[partner]) else 0.0)
            for i in range(len(own))
        ]
        torch.testing.assert_close(clip, torch.tensor(expected))


def test_classes_are_mixed_as_the_sound_is():
    of = pairs(NUMBERS, alpha=0.5, seed=3)
    mixed = of.mixed(torch.eye(5))
    for clip, (partner, share) in enumerate(zip(of.partners, of.shares, strict=True)):
        assert mixed[clip, clip].item() == pytest.approx(share)
        assert mixed[clip, partner].item() == pytest.approx(1 - share, abs=1e-6)
    torch.testing.assert_close(mixed.sum(1), torch.ones(5))


def _share_of_a_process(counts: tuple[int, ...]) -> list[np.ndarray]:
    first = sum(counts[: distributed.rank()])
    own = _sounds()[first : first + counts[distributed.rank()]]
    return [clip.numpy() for clip in overlaid(Ragged.pack(own), pairs(NUMBERS, alpha=0.5, seed=3)).split()]


def test_partners_are_found_in_other_processes():
    expected = overlaid(Ragged.pack(_sounds()), pairs(NUMBERS, alpha=0.5, seed=3)).split()
    answers = processes.run(_share_of_a_process, (2, 3), world_size=2)
    for found, wanted in zip([clip for answer in answers for clip in answer], expected, strict=True):
        np.testing.assert_array_equal(found, wanted.numpy())
