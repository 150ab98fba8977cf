"""The fast attention forms equal the plain one in values and gradients; nothing is seen across items."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lapis.layers.attention import attend, attend_grouped, attend_plain, attend_varlen, visible
from lapis.ragged import Ragged


def _rows(lengths, *, heads=2, head_width=8, seed=0, device="cpu", dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(sum(lengths), heads, head_width, generator=generator).to(device, dtype)
    return Ragged(rows.requires_grad_(), tuple(lengths))


def _compare(form, lengths, key_lengths=None, *, device="cpu", dtype=torch.float32, tolerance=1e-5, **how):
    key_lengths = key_lengths or lengths
    answers = []
    for function in (attend_plain, form):
        kind = torch.float32 if function is attend_plain else dtype
        parts = [
            _rows(part, seed=seed, device=device, dtype=kind)
            for seed, part in enumerate((lengths, key_lengths, key_lengths))
        ]
        rows = function(*parts, **how).rows
        (rows.float() * torch.linspace(-1, 1, rows.numel(), device=device).reshape(rows.shape)).sum().backward()
        answers.append([rows.detach().float(), *(part.rows.grad.float() for part in parts)])
    for plain, fast in zip(*answers, strict=True):
        scale = plain.abs().max().clamp(min=0.1)  # inputs are of order one
        assert (plain - fast).abs().max() / scale <= tolerance


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    window=st.none() | st.integers(0, 12),
    causal=st.booleans(),
)
@settings(max_examples=60)
def test_grouped_equals_plain(lengths, window, causal):
    _compare(attend_grouped, lengths, window=window, causal=causal)


@given(
    places=st.lists(st.sets(st.integers(0, 40), min_size=1).map(sorted), min_size=1, max_size=5),
    window=st.none() | st.integers(0, 12),
    causal=st.booleans(),
)
@settings(max_examples=40)
def test_grouped_equals_plain_where_rows_were_left_out(places, window, causal):
    """And both equal all rows, of which the others are kept out of sight."""
    at = torch.tensor([place for item in places for place in item])
    lengths = [len(item) for item in places]
    _compare(attend_grouped, lengths, window=window, causal=causal, places=at)
    query = _rows([41])
    some = Ragged(query.rows[places[0]], (lengths[0],))
    mask = visible(41, window=window, causal=causal, device="cpu")
    mask = torch.ones(41, 41, dtype=torch.bool) if mask is None else mask
    heads = query.rows.transpose(0, 1)
    whole = torch.nn.functional.scaled_dot_product_attention(
        heads[:, places[0]], heads[:, places[0]], heads[:, places[0]], attn_mask=mask[places[0]][:, places[0]]
    )
    answer = attend(some, some, some, window=window, causal=causal, places=at[: lengths[0]])
    torch.testing.assert_close(answer.rows, whole.transpose(0, 1))


@given(pairs=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 30)), min_size=1, max_size=6))
@settings(max_examples=30)
def test_cross_attention_grouped_equals_plain(pairs):
    queries, keys = zip(*pairs, strict=True)
    _compare(attend_grouped, list(queries), list(keys))


@pytest.mark.parametrize("lengths", [(5, 300, 1, 77), (252, 252, 252), (9, 9, 513)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_grouped_equals_plain_in_half_precision(lengths, dtype):
    _compare(attend_grouped, list(lengths), dtype=dtype, tolerance=3e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("window", [None, 0, 7, 48])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_varlen_equals_plain_on_a_gpu(window, causal, dtype):
    _compare(attend_varlen, [5, 300, 1, 77], device="cuda", dtype=dtype, tolerance=3e-2, window=window, causal=causal)


@pytest.mark.parametrize("window", [None, 3, 20])
def test_a_changed_item_leaves_the_others_bit_identical(window):
    lengths = (5, 100, 7, 100)
    query = _rows(lengths)
    changed = query.rows.detach().clone()
    changed[5:105] += 1
    before = attend(query, query, query, window=window).split()
    other = Ragged(changed, lengths)
    after = attend(other, other, other, window=window).split()
    for item in (0, 2, 3):
        assert torch.equal(before[item], after[item])
    assert not torch.equal(before[1], after[1])


@pytest.mark.parametrize("num_rows", [9, 40])
def test_a_window_reaches_exactly_so_far(num_rows):
    """Gradients tell which keys a query saw."""
    window, middle = 4, num_rows // 2
    query, key, value = (_rows((num_rows,), seed=seed) for seed in range(3))
    attend(query, key, value, window=window).rows[middle].sum().backward()
    seen = value.rows.grad.abs().sum((1, 2)).nonzero().flatten().tolist()
    assert seen == list(range(middle - window, middle + window + 1))


@pytest.mark.parametrize("form", [attend_plain, attend_grouped])
@pytest.mark.parametrize("window", [None, 48])
def test_an_item_gets_in_a_batch_what_it_gets_alone_from_the_shortest_to_two_minutes(form, window):
    """0.05 s and 120 s at SLAP's 25 tokens a second, one column of four at the least."""
    lengths = (4, 3004, 28, 4, 834)
    rows = _rows(lengths).rows.detach()
    together = form(*[Ragged(rows, lengths)] * 3, window=window)
    for item, expected in zip(Ragged(rows, lengths).split(), together.split(), strict=True):
        alone = form(*[Ragged.pack([item])] * 3, window=window)
        assert (alone.rows - expected).abs().max() <= 1e-5


def test_mask_is_left_out_where_all_is_seen():
    assert visible(5, window=4, causal=False, device="cpu") is None
    assert visible(5, window=3, causal=False, device="cpu") is not None
    assert visible(1, window=0, causal=True, device="cpu") is None


def test_mismatched_items_are_refused():
    with pytest.raises(ValueError, match="2 items cannot attend to keys of 1"):
        attend(_rows((1, 2)), _rows((3,)), _rows((3,)))
    with pytest.raises(ValueError, match="item 1 has no keys"):
        attend(_rows((1, 2)), _rows((3, 0)), _rows((3, 0)))
    with pytest.raises(ValueError, match="equal lengths"):
        attend(_rows((1, 2)), _rows((3, 2)), _rows((3, 2)), causal=True)


def test_memory_of_a_window_grows_with_length_not_its_square():
    """An hour of tokens in one item: a full mask alone would be 8 GB."""
    lengths = (90_000,)
    rows = torch.randn(90_000, 1, 4)
    item = Ragged(rows, lengths)
    assert attend(item, item, item, window=48).rows.isfinite().all()
