"""One attention over ragged rows: self, cross, causal and sliding window, and no clip ever sees another.

Three forms that give one answer. `attend_plain` takes one item at a time, written out as the formula; it is the judge.
`attend_grouped` batches items of equal length through PyTorch's kernel (any device, any precision).
`attend_varlen` runs all items in one CUDA kernel, half precision only. `attend` picks between the fast ones.
"""

import math
from collections import defaultdict

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lapis.ragged import Ragged


def visible(
    num_rows: int,
    *,
    window: int | None,
    causal: bool,
    device: torch.device | str,
    places: Int[Tensor, "*items rows"] | None = None,
) -> Bool[Tensor, "*items rows rows"] | None:
    """Which keys (columns) each query (row) of one item may see; None where it may see all.

    Args:
        num_rows: length of the item.
        window: rows seen on each side, besides the query's own; None for all.
        causal: whether only keys at or before the query are seen.
        device: where to make the mask.
        places: of the rows, ascending, where they are not all rows of an item; distances are between places.
    """
    if window is not None and places is None and window >= num_rows - 1:
        window = None
    if window is None and not (causal and num_rows > 1):
        return None
    index = torch.arange(num_rows, device=device) if places is None else places
    distance = index[..., None, :] - index[..., :, None]
    seen = torch.ones_like(distance, dtype=torch.bool)
    if window is not None:
        seen &= distance.abs() <= window
    if causal:
        seen &= distance <= 0
    return seen


def attend(
    query: Ragged,
    key: Ragged,
    value: Ragged,
    *,
    window: int | None = None,
    causal: bool = False,
    places: Int[Tensor, "rows"] | None = None,
) -> Ragged:
    """softmax(Q Kᵀ / sqrt(head_width)) V within each item (arXiv 1706.03762, equation 1).

    Args:
        query: rows of shape (rows, heads, head_width).
        key: as many items, of the same lengths (self-attention) or of others (cross-attention).
        value: rows that belong to the keys.
        window: keys seen on each side of a query; only where queries and keys have equal lengths.
        causal: see only keys at or before the query; likewise.
        places: where each row stood in its item before others were left out, ascending: a window reaches as many
            places on each side, however few of them are there. None: nothing was left out.

    Raises:
        ValueError: the items do not match, or a window or causality is asked of unequal lengths.
    """
    _check(query, key, value, positional=window is not None or causal)
    places = None if window is None else places  # what is before a row is before it without the others, too
    if places is None and _runs_varlen(query.rows):
        return attend_varlen(query, key, value, window=window, causal=causal)
    return attend_grouped(query, key, value, window=window, causal=causal, places=places)


def attend_plain(
    query: Ragged,
    key: Ragged,
    value: Ragged,
    *,
    window: int | None = None,
    causal: bool = False,
    places: Int[Tensor, "rows"] | None = None,
) -> Ragged:
    """The same, one item at a time, step by step."""
    _check(query, key, value, positional=window is not None or causal)
    answers = []
    placed = [None] * len(query) if places is None else places.split(query.lengths)
    for queries, keys, values, at in zip(query.split(), key.split(), value.split(), placed, strict=True):
        scores = torch.einsum("qhd,khd->hqk", queries, keys) / math.sqrt(queries.shape[-1])
        seen = visible(len(keys), window=window, causal=causal, device=keys.device, places=at)
        if seen is not None:
            scores = scores.masked_fill(~seen, -math.inf)
        answers.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), values))
    return Ragged.pack(answers)


def attend_grouped(
    query: Ragged,
    key: Ragged,
    value: Ragged,
    *,
    window: int | None = None,
    causal: bool = False,
    places: Int[Tensor, "rows"] | None = None,
) -> Ragged:
    """The same, with items of equal length batched through `scaled_dot_product_attention`; nothing is padded.

    Items of equal length that stand side by side are taken as they lie; others are copied together first.
    """
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for item, lengths in enumerate(zip(query.lengths, key.lengths, strict=True)):
        groups[lengths].append(item)
    answers: dict[int, Tensor] = {}
    for (_, num_keys), items in groups.items():
        stacked = [_stacked(source, items) for source in (query, key, value)]
        if places is not None and window is not None:
            # Other rows are missing from each item, so that each has a mask of its own.
            split = places.split(query.lengths)
            at = torch.stack([split[item] for item in items])
            mask = visible(num_keys, window=window, causal=causal, device=at.device, places=at)
            assert mask is not None
            attended = F.scaled_dot_product_attention(*stacked, attn_mask=mask[:, None])
        elif window is not None and num_keys > 4 * window > 0:
            attended = _banded(*stacked, window=window, causal=causal)
        else:
            mask = visible(num_keys, window=window, causal=causal, device=query.rows.device)
            if mask is None and _multiplies_faster(query.rows, num_keys):
                attended = _multiplied(*stacked)
            else:
                attended = F.scaled_dot_product_attention(*stacked, attn_mask=mask)
        attended = attended.transpose(1, 2)
        if _adjacent(items):
            answers[items[0]] = attended.flatten(0, 1)
        else:
            answers |= dict(zip(items, attended, strict=True))
    in_order = [answers[first] for first in sorted(answers)]
    return Ragged(in_order[0] if len(in_order) == 1 else torch.cat(in_order), query.lengths)


def attend_varlen(
    query: Ragged, key: Ragged, value: Ragged, *, window: int | None = None, causal: bool = False
) -> Ragged:
    """The same in one CUDA kernel over all items (`torch.nn.attention.varlen`); float16 or bfloat16 only."""
    from torch.nn.attention.varlen import varlen_attn

    reach = -1 if window is None else window
    rows = varlen_attn(
        query.rows,
        key.rows,
        value.rows,
        cu_seq_q=query.offsets,
        cu_seq_k=key.offsets,
        max_q=max(query.lengths),
        max_k=max(key.lengths),
        window_size=(reach, 0 if causal else reach),
    )
    assert isinstance(rows, Tensor)  # a tuple comes only where auxiliary values are asked for
    return Ragged(rows, query.lengths)


def _banded(
    query: Float[Tensor, "items heads rows head_width"],
    key: Float[Tensor, "items heads rows head_width"],
    value: Float[Tensor, "items heads rows head_width"],
    *,
    window: int,
    causal: bool,
) -> Float[Tensor, "items heads rows head_width"]:
    """A window over long items in memory that grows with their length, not its square.

    Queries are cut into blocks of `window` rows; a block sees its own rows and the blocks before and after it, of which
    the mask leaves the window. Rows that complete the last block are padding and stay inside this function.
    """
    items, heads, num_rows, head_width = query.shape
    blocks = -(-num_rows // window)
    missing = blocks * window - num_rows
    queries = F.pad(query, (0, 0, 0, missing)).reshape(items * heads, blocks, window, head_width)
    keys, values = (
        F.pad(rows, (0, 0, window, window + missing))
        .reshape(items * heads, -1, head_width)
        .unfold(1, 3 * window, window)
        for rows in (key, value)
    )
    of_query = torch.arange(window, device=query.device)[:, None] + window
    of_key = torch.arange(3 * window, device=query.device)[None, :]
    seen = (of_key - of_query).abs() <= window
    if causal:
        seen = seen & (of_key <= of_query)
    row_of_key = torch.arange(blocks, device=query.device)[:, None, None] * window + of_key - window
    # A padded query would see nothing and become NaN; it sees its padded keys instead, and is cut off below.
    real = (row_of_key >= 0) & ((row_of_key < num_rows) | (of_query + row_of_key[:, :, :1] >= num_rows))
    attended = F.scaled_dot_product_attention(
        queries, keys.transpose(-1, -2), values.transpose(-1, -2), attn_mask=seen & real
    )
    return attended.reshape(items, heads, blocks * window, head_width)[:, :, :num_rows]


def _runs_varlen(query: Float[Tensor, "rows heads head_width"]) -> bool:
    """Whether PyTorch's kernel for items of any lengths takes these rows; M2D-CLAP's one head of 768 is too wide."""
    half = query.dtype in (torch.float16, torch.bfloat16)
    return query.is_cuda and half and query.shape[-1] <= 256 and query.shape[-1] % 8 == 0


def _multiplies_faster(query: Tensor, num_keys: int) -> bool:
    """Whether two batched products and a softmax beat PyTorch's fused kernel, which on the processor is slow in half
    precision: 6.5 against 13 ms and more at 252 keys, equal at 1000, where the scores leave the caches."""
    return query.device.type == "cpu" and query.dtype == torch.bfloat16 and num_keys <= 512


def _multiplied(
    query: Float[Tensor, "items heads queries head_width"],
    key: Float[Tensor, "items heads keys head_width"],
    value: Float[Tensor, "items heads keys head_width"],
) -> Float[Tensor, "items heads queries head_width"]:
    scores = torch.baddbmm(
        query.new_empty(1, 1, 1),
        query.flatten(0, 1),
        key.flatten(0, 1).transpose(1, 2),
        beta=0,
        alpha=1 / math.sqrt(query.shape[-1]),
    )
    return (scores.softmax(-1) @ value.flatten(0, 1)).unflatten(0, query.shape[:2])


def _stacked(source: Ragged, items: list[int]) -> Float[Tensor, "items heads rows head_width"]:
    """Items of equal length as one tensor: a view where they stand side by side."""
    length = source.lengths[items[0]]
    if _adjacent(items):
        begin = sum(source.lengths[: items[0]])
        together = source.rows[begin : begin + len(items) * length].unflatten(0, (len(items), length))
    else:
        split = source.split()
        together = torch.stack([split[item] for item in items])
    return together.transpose(1, 2)


def _adjacent(items: list[int]) -> bool:
    return items[-1] - items[0] == len(items) - 1


def _check(query: Ragged, key: Ragged, value: Ragged, *, positional: bool) -> None:
    if len(query) != len(key) or key.lengths != value.lengths:
        raise ValueError(
            f"queries of {len(query)} items cannot attend to keys of {len(key)} items with lengths "
            f"{key.lengths} and values with lengths {value.lengths}"
        )
    if 0 in key.lengths:
        raise ValueError(f"item {key.lengths.index(0)} has no keys to attend to")
    if positional and query.lengths != key.lengths:
        raise ValueError(
            "a window or causal attention needs queries and keys of equal lengths, "
            f"got {query.lengths} and {key.lengths}"
        )
