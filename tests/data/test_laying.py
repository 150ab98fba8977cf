"""Sounds laid one after another, whether they were put in their place or come from elsewhere."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from lapis.data import laying
from lapis.data.laying import Laid
from lapis.ragged import Ragged


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    in_place=st.lists(st.booleans(), min_size=12, max_size=12),
    samples=st.integers(0, 200),
)
def test_they_come_out_as_if_joined(lengths, in_place, samples):
    laid = Laid(samples=samples)
    sounds = [np.arange(length, dtype=np.float32) + 100 * number for number, length in enumerate(lengths)]
    for sound, put in zip(sounds, in_place, strict=False):
        if put and len(laid.room) >= len(sound):
            laid.room[: len(sound)] = sound
            laid.add(laid.room[: len(sound)])
        else:
            laid.add(sound)
    expected = Ragged.pack([torch.from_numpy(sound) for sound in sounds])
    found = laid.ragged()
    assert found.lengths == expected.lengths and torch.equal(found.rows, expected.rows)


def test_a_sound_that_lies_elsewhere_in_the_room_is_moved():
    laid = Laid(samples=10)
    laid.room[3:5] = 1, 2
    laid.add(laid.room[3:5])
    assert laid.ragged().rows.tolist() == [1, 2]


def test_a_promise_without_end_takes_no_memory(monkeypatch):
    monkeypatch.setattr(laying, "FIRST_SAMPLES", 4)
    laid = Laid(samples=10**15)
    assert len(laid.room) == 4
    laid.add(np.ones(9, np.float32))
    assert laid.ragged().lengths == (9,)
