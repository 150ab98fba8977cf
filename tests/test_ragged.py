import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lapis.ragged import Ragged

LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=8)


def _numbered(lengths) -> Ragged:
    return Ragged(torch.arange(float(sum(lengths)))[:, None], tuple(lengths))


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


@given(lengths=LENGTHS, most=st.integers(1, 7))
def test_cut_keeps_the_rows_and_no_piece_is_longer(lengths, most):
    ragged = _numbered(lengths)
    pieces = ragged.cut(most)
    assert pieces.rows is ragged.rows and max(pieces.lengths) <= most
    assert len(pieces) == sum(max(1, -(-length // most)) for length in lengths)


@given(lengths=LENGTHS, most=st.integers(1, 12))
def test_groups_are_the_items_in_their_order(lengths, most):
    ragged = _numbered(lengths)
    groups = list(ragged.groups(most))
    assert [item.tolist() for group in groups for item in group.split()] == [item.tolist() for item in ragged.split()]
    assert all(len(group) == 1 or len(group.rows) <= most for group in groups)


@given(lengths=LENGTHS)
def test_prepend_and_without_first_are_inverse(lengths):
    ragged = _numbered(lengths)
    with_row = ragged.prepend(torch.tensor([-1.0]))
    assert all(item[0] == -1 for item in with_row.split())
    again = with_row.without_first()
    assert again.lengths == ragged.lengths and torch.equal(again.rows, ragged.rows)


@given(lengths=LENGTHS, least=st.integers(0, 6))
def test_first_and_at_least(lengths, least):
    ragged = _numbered(lengths)
    completed = ragged.at_least(least)
    assert completed.lengths == tuple(max(length, least) for length in lengths)
    assert torch.equal(completed.first(lengths).rows, ragged.rows)
    assert completed.rows.sum() == ragged.rows.sum()


@given(lengths=LENGTHS, seed=st.integers(0, 9))
def test_take_orders_items(lengths, seed):
    ragged = _numbered(lengths)
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed)).tolist()
    items = ragged.split()
    taken = ragged.take(order).split()
    assert [item.tolist() for item in taken] == [items[number].tolist() for number in order]


def test_a_mean_in_half_precision_counts_every_row():
    """A running sum in bfloat16 would stand still at 256."""
    rows = torch.ones(1000, 2, dtype=torch.bfloat16)
    assert torch.equal(Ragged(rows, (1000,)).mean(), torch.ones(1, 2, dtype=torch.bfloat16))
