import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lapis.ragged import Ragged

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=8)


@given(LENGTHS)
def test_pack_and_split_are_inverse(lengths):
    items = [torch.randn(length, 2, 3) for length in lengths]
    packed = Ragged.pack(items)
    assert packed.lengths == tuple(lengths)
    for item, again in zip(items, packed.split(), strict=True):
        assert torch.equal(item, again)


@given(LENGTHS)
def test_offsets_and_row_numbers(lengths):
    packed = Ragged(torch.zeros(sum(lengths), 1), tuple(lengths))
    offsets = packed.offsets.tolist()
    assert offsets[0] == 0 and offsets[-1] == sum(lengths)
    expected = [(item, index) for item, length in enumerate(lengths) for index in range(length)]
    assert list(zip(packed.item_of_row.tolist(), packed.index_in_item.tolist(), strict=True)) == expected


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8))
def test_mean_equals_the_mean_of_each_item(lengths):
    items = [torch.randn(length, 2, 3, requires_grad=True) for length in lengths]
    means = Ragged.pack(items).mean()
    torch.testing.assert_close(means, torch.stack([item.mean(0) for item in items]))
    means.square().sum().backward()
    for item in items:
        torch.testing.assert_close(item.grad, (2 * item.mean(0) / len(item)).expand_as(item))


def test_an_item_without_rows_has_no_mean():
    with pytest.raises(ValueError, match="item 1 has no rows"):
        Ragged(torch.zeros(3, 2), (3, 0)).mean()


@pytest.mark.parametrize("lengths", [(1, 1), (4,), (5, -2)])
def test_lengths_must_add_up(lengths):
    with pytest.raises(ValueError, match="add up to the 3 rows"):
        Ragged(torch.zeros(3, 2), lengths)


def test_nothing_cannot_be_packed():
    with pytest.raises(ValueError, match="empty list"):
        Ragged.pack([])


def test_map_keeps_lengths():
    doubled = Ragged(torch.ones(3, 2), (1, 2)).map(lambda rows: rows * 2)
    assert doubled.lengths == (1, 2) and torch.equal(doubled.rows, torch.full((3, 2), 2.0))
