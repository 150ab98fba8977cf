"""Sounds laid one after another, whether they were put in their place or come from elsewhere."""

import gc
import pickle

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from lapis.data import laying
from lapis.data.laying import Arrays, Laid
from lapis.ragged import Ragged


@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12),
    in_place=st.lists(st.booleans(), min_size=12, max_size=12),
    samples=st.integers(0, 200),
)
def test_they_come_out_as_if_joined(lengths, in_place, samples):
    laid = Laid(Arrays(), samples=samples)
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
    laid = Laid(Arrays(), samples=10)
    laid.room[3:5] = 1, 2
    laid.add(laid.room[3:5])
    assert laid.ragged().rows.tolist() == [1, 2]


def test_a_promise_without_end_takes_no_memory(monkeypatch):
    monkeypatch.setattr(laying, "FIRST_SAMPLES", 4)
    laid = Laid(Arrays(), samples=10**15)
    assert len(laid.room) == 4
    laid.add(np.ones(9, np.float32))
    assert laid.ragged().lengths == (9,)


def test_an_array_is_used_again_only_when_no_part_of_its_batch_is_left():
    arrays = Arrays()

    def batch(value: float):
        laid = Laid(arrays, samples=1000)
        laid.add(np.full(10, value, np.float32))
        return laid.ragged()

    first = batch(1.0)
    address, clip, seen = first.rows.data_ptr(), first.split()[0][2:4], first.rows[:3].numpy()
    del first
    gc.collect()
    assert batch(2.0).rows.data_ptr() != address and clip.tolist() == [1, 1]
    del clip
    gc.collect()
    assert batch(3.0).rows.data_ptr() != address and seen.tolist() == [1, 1, 1]
    del seen
    gc.collect()
    assert batch(4.0).rows.data_ptr() == address


def test_a_free_array_that_is_too_small_is_not_used():
    arrays = Arrays()
    Laid(arrays, samples=4).ragged()
    gc.collect()
    assert len(arrays.take(9)) == 9


def test_another_process_has_arrays_of_its_own():
    arrays = Arrays()
    Laid(arrays, samples=4).ragged()
    assert len(pickle.loads(pickle.dumps(arrays)).take(0)) == 0
