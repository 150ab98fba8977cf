"""`layers.transformer`, `layers.pooling` and `layers.projection` inside a graph, over items completed to one length."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lapis.layers.pooling import AttentionPooling, SemanticPooling
from lapis.layers.positions import Rotary
from lapis.layers.projection import Linear, Perceptron
from lapis.layers.transformer import Attention, Block, Gelu, Relu, SwiGLU, Transformer
from lapis.onnx.graph import Edge, Graph
from lapis.onnx.sound import Rows

UNSEEN = {np.float32: -1e9, np.float16: -6e4}
"""Added to the score of a key that is not to be seen: its share is exactly 0, and a row that sees none is no NaN."""


@dataclass(frozen=True)
class Turn:
    """Cosines and sines by which pairs of a head turn, each (rows, half of a head's width)."""

    cosine: Edge
    sine: Edge


def linear(graph: Graph, rows: Edge, module: nn.Linear) -> Edge:
    """A linear layer."""
    product = graph("MatMul", rows, graph.weight(module.weight.T))
    return product if module.bias is None else graph("Add", product, graph.weight(module.bias))


def norm(graph: Graph, rows: Edge, module: nn.Module) -> Edge:
    """Layer or root-mean-square normalisation, its statistics in float32.

    Raises:
        ValueError: it is another one.
    """
    if isinstance(module, nn.Identity):
        return rows
    if isinstance(module, nn.LayerNorm):
        bias = [] if module.bias is None else [graph.weight(module.bias)]
        return graph("LayerNormalization", rows, graph.weight(module.weight), *bias, axis=-1, epsilon=module.eps)
    if not isinstance(module, nn.RMSNorm) or module.eps is None:
        raise ValueError(f"expected layer or root-mean-square normalisation, got {type(module).__name__}")
    exact = graph.cast(rows, np.float32)
    power = graph("ReduceMean", graph("Mul", exact, exact), graph.integers(-1), keepdims=1)
    deviation = graph("Sqrt", graph("Add", power, graph.constant(np.float32(module.eps), np.float32)))
    return graph("Mul", graph.cast(graph("Div", exact, deviation)), graph.weight(module.weight))


def feedforward(graph: Graph, rows: Edge, module: nn.Module) -> Edge:
    """One of the transformer's three.

    Raises:
        ValueError: it is another one.
    """
    if isinstance(module, Gelu):
        return linear(graph, graph("Gelu", linear(graph, rows, module.up)), module.down)
    if isinstance(module, Relu):
        return linear(graph, graph("Relu", linear(graph, rows, module.up)), module.down)
    if isinstance(module, SwiGLU):
        gate = linear(graph, rows, module.gate)
        gate = graph("Mul", gate, graph("Sigmoid", gate))
        return linear(graph, graph("Mul", gate, linear(graph, rows, module.up)), module.down)
    raise ValueError(f"expected a feed-forward of GELU, ReLU or SwiGLU, got {type(module).__name__}")


def turn(graph: Graph, rotary: Rotary, *, columns: Edge, bands: int) -> Turn:
    """By how much (column, band) patches turn; `columns` is a list of one number. Angles are float32."""
    frequencies = rotary.base ** -(torch.arange(rotary.pairs, dtype=torch.float32) / rotary.pairs)
    column = graph("Cast", graph.count(columns), to=graph.onnx.TensorProto.FLOAT)
    of_column = graph("Mul", graph.unsqueezed(column, 1), graph.weight(frequencies, np.float32))
    of_band = torch.arange(bands)[:, None].float() * frequencies
    shape = graph("Concat", columns, graph.integers(bands, rotary.pairs), axis=0)
    axes = (graph.unsqueezed(of_column, 1), graph.unsqueezed(graph.weight(of_band, np.float32), 0))
    angles = graph("Concat", *(graph("Expand", each, shape) for each in axes), axis=2)
    angles = graph.shaped(angles, -1, 2 * rotary.pairs)
    return Turn(graph.cast(graph("Cos", angles)), graph.cast(graph("Sin", angles)))


def transformer(graph: Graph, rows: Rows, module: Transformer, *, turned: Turn | None = None) -> Edge:
    """All blocks and the final norm: (items, rows, width).

    Raises:
        ValueError: it is causal, or has a memory.
    """
    if module.config.causal or module.config.memory_width is not None:
        raise ValueError("a transformer that is causal or has a memory has no form in ONNX yet")
    blocks = [block for block in module.blocks if isinstance(block, Block)]
    reaches = {block.window for block in blocks}
    unseen = {reach: _unseen(graph, rows.real, reach) for reach in sorted(reaches, key=str)}
    values = rows.values
    for block in blocks:
        normed = norm(graph, values, block.attention_norm)
        attended = _self_attention(
            graph, normed, block.attention, turned=turned, reach=block.window, unseen=unseen[block.window]
        )
        values = graph("Add", values, attended)
        fed = feedforward(graph, norm(graph, values, block.feedforward_norm), block.feedforward)
        values = graph("Add", values, fed)
    return norm(graph, values, module.norm)


def _self_attention(
    graph: Graph, rows: Edge, module: Attention, *, turned: Turn | None, reach: int | None, unseen: Edge
) -> Edge:
    query, key, value = (
        _by_head(graph, linear(graph, rows, layer), module.heads) for layer in (module.query, module.key, module.value)
    )
    query, key = norm(graph, query, module.query_norm), norm(graph, key, module.key_norm)
    if turned is not None:
        query, key = _turned(graph, query, turned), _turned(graph, key, turned)
    scaled = graph("Mul", query, graph.constant(np.float32(1 / np.sqrt(module.query.out_features / module.heads))))
    if reach is None:
        attended = _attended(graph, scaled, key, value, unseen=unseen)
    else:
        width = module.query.out_features // module.heads
        attended = _banded(graph, scaled, key, value, reach=reach, width=width, unseen=unseen)
    joined = graph("Reshape", graph("Transpose", attended, perm=[0, 2, 1, 3]), graph.integers(0, 0, -1))
    return linear(graph, joined, module.out)


def _by_head(graph: Graph, rows: Edge, heads: int) -> Edge:
    """(items, heads, rows, head width) of (items, rows, width)."""
    return graph("Transpose", graph("Reshape", rows, graph.integers(0, 0, heads, -1)), perm=[0, 2, 1, 3])


def _turned(graph: Graph, heads: Edge, by: Turn) -> Edge:
    first, second = graph.several("Split", heads, answers=2, axis=-1, num_outputs=2)
    real = graph("Sub", graph("Mul", first, by.cosine), graph("Mul", second, by.sine))
    imaginary = graph("Add", graph("Mul", first, by.sine), graph("Mul", second, by.cosine))
    return graph("Concat", real, imaginary, axis=-1)


def _attended(graph: Graph, query: Edge, key: Edge, value: Edge, *, unseen: Edge) -> Edge:
    axes = [0, 1, 3, 2]
    scores = graph("Add", graph("MatMul", query, graph("Transpose", key, perm=axes)), unseen)
    return graph("MatMul", graph("Softmax", scores, axis=-1), value)


def _banded(graph: Graph, query: Edge, key: Edge, value: Edge, *, reach: int, width: int, unseen: Edge) -> Edge:
    """As `attention._banded`: blocks of as many rows as the window reaches see themselves and their two neighbours."""
    block = max(reach, 1)
    length = graph.size(query, 2)
    missing = _missing(graph, length, block)
    queries = _in_blocks(graph, _completed(graph, query, 0, missing), block, width)
    after = graph("Add", missing, graph.integers(block))
    keys, values = (
        _neighbours(graph, _in_blocks(graph, _completed(graph, each, block, after), block, width), axis=2)
        for each in (key, value)
    )
    scores = graph("Add", graph("MatMul", queries, graph("Transpose", keys, perm=[0, 1, 2, 4, 3])), unseen)
    attended = graph("MatMul", graph("Softmax", scores, axis=-1), values)
    return graph.slice(graph("Reshape", attended, graph.integers(0, 0, -1, width)), 0, length, axis=2)


def _unseen(graph: Graph, real: Edge, reach: int | None) -> Edge:
    """What is added to the scores of (items, heads, queries, keys), or of (items, heads, blocks, queries, keys)."""
    nothing, never = graph.constant(graph.kind(0)), graph.constant(graph.kind(UNSEEN[graph.kind]))
    if reach is None:
        return graph("Where", graph.unsqueezed(real, 1, 2), nothing, never)
    block = max(reach, 1)
    there = graph("Cast", real, to=graph.onnx.TensorProto.INT64)
    after = graph("Add", _missing(graph, graph.size(there, 1), block), graph.integers(block))
    pads = graph("Concat", graph.integers(0, block, 0), after, axis=0)
    there = graph("Reshape", graph("Pad", there, pads), graph.integers(0, -1, block))
    there = graph("Equal", _neighbours(graph, there, axis=1), graph.integers(1))
    distance = np.arange(3 * block) - block - np.arange(block)[:, None]
    near = graph.constant(np.abs(distance) <= reach, np.bool_)
    return graph("Where", graph("And", graph.unsqueezed(there, 1, 3), near), nothing, never)


def _missing(graph: Graph, length: Edge, block: int) -> Edge:
    """Rows that complete the last block."""
    blocks = graph.rounded_up(length, graph.integers(block))
    return graph("Sub", graph("Mul", blocks, graph.integers(block)), length)


def _completed(graph: Graph, heads: Edge, before: int, after: Edge) -> Edge:
    """(items, heads, rows, head width) with rows of zeros before and behind."""
    pads = graph("Concat", graph.integers(0, 0, before, 0, 0, 0), after, graph.integers(0), axis=0)
    return graph("Pad", heads, pads)


def _in_blocks(graph: Graph, heads: Edge, block: int, width: int) -> Edge:
    return graph("Reshape", heads, graph.integers(0, 0, -1, block, width))


def _neighbours(graph: Graph, blocks: Edge, *, axis: int) -> Edge:
    """Each block but the first and the last, between its neighbours."""
    end = np.iinfo(np.int64).max
    parts = [graph.slice(blocks, begin, stop, axis=axis) for begin, stop in ((0, -2), (1, -1), (2, end))]
    return graph("Concat", *parts, axis=axis + 1)


def mean(graph: Graph, rows: Rows) -> Edge:
    """The mean of the rows that are there, in float32: (items, width)."""
    real = graph.unsqueezed(rows.real, 2)
    counted = graph("Where", real, graph.cast(rows.values, np.float32), graph.constant(np.float32(0), np.float32))
    number = graph("ReduceSum", graph.cast(real, np.float32), graph.integers(1), keepdims=0)
    return graph.cast(graph("Div", graph("ReduceSum", counted, graph.integers(1), keepdims=0), number))


def attention_pooling(graph: Graph, rows: Rows, module: AttentionPooling) -> Edge:
    """One row an item: (items, width)."""
    probe = module.probe.detach()
    pooled = _asked(graph, probe, rows.values, rows.real, module.attention)
    return graph("Add", pooled, feedforward(graph, norm(graph, pooled, module.norm), module.feedforward))


def semantic_pooling(graph: Graph, rows: Rows, module: SemanticPooling) -> Edge:
    """One row an item: (items, width)."""
    block = module.transformer.blocks[0]
    assert isinstance(block, Block)
    token = module.token.detach()
    values, real = with_token(graph, rows, token)
    normed = norm(graph, values, block.attention_norm)
    with torch.no_grad():
        asking = block.attention_norm(token)
    asked = graph("Add", _asked(graph, asking, normed, real, block.attention), graph.weight(token))
    fed = feedforward(graph, norm(graph, asked, block.feedforward_norm), block.feedforward)
    return norm(graph, graph("Add", asked, fed), module.transformer.norm)


def with_token(graph: Graph, rows: Rows, token: Tensor) -> tuple[Edge, Edge]:
    """The same row before the rows of each item, and which rows are there."""
    items = graph.size(rows.values, 0)
    shape = graph("Concat", items, graph.integers(1, len(token)), axis=0)
    first = graph("Expand", graph.weight(token[None, None]), shape)
    always = graph("Expand", graph.constant([[True]], np.bool_), graph("Concat", items, graph.integers(1), axis=0))
    return graph("Concat", first, rows.values, axis=1), graph("Concat", always, rows.real, axis=1)


def _asked(graph: Graph, asking: Tensor, memory: Edge, real: Edge, module: Attention) -> Edge:
    """What one constant row gets to know of each item: (items, width)."""
    with torch.no_grad():
        query = module.query_norm(module.query(asking.to(module.query.weight)).unflatten(-1, (module.heads, -1)))
    scaled = query.float() * query.shape[-1] ** -0.5
    key = _by_head(graph, linear(graph, memory, module.key), module.heads)
    value = _by_head(graph, linear(graph, memory, module.value), module.heads)
    queries = graph.weight(scaled[None, :, None])
    unseen = _unseen(graph, real, None)
    attended = _attended(graph, queries, norm(graph, key, module.key_norm), value, unseen=unseen)
    return linear(graph, graph("Reshape", attended, graph.integers(0, -1)), module.out)


def projection(graph: Graph, rows: Edge, module: nn.Module) -> Edge:
    """Unit vectors of the common width, in float32.

    Raises:
        ValueError: it is none of `layers.projection`.
    """
    if isinstance(module, Perceptron):
        rows = linear(graph, graph("Relu", linear(graph, rows, module.up)), module.down)
    elif isinstance(module, Linear):
        rows = linear(graph, rows, module)
    elif not isinstance(module, nn.Identity):
        raise ValueError(f"expected a projection of Lapis, got {type(module).__name__}")
    exact = graph.cast(rows, np.float32)
    length = graph("ReduceL2", exact, graph.integers(-1), keepdims=1)
    return graph("Div", exact, graph("Max", length, graph.constant(np.float32(1e-12), np.float32)))
