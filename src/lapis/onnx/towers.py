"""Each audio tower of `audio_encoders` as a graph: waveforms of any lengths in, unit vectors out.

Inputs are `waveforms` (clips, samples), float32, completed to the longest with anything, and `lengths` (clips), int64.
The output is `vectors` (clips, width). What the graph computes is what the tower's own file does; the tests and every
export compare the two.
"""

from typing import Any

import numpy as np
from torch import nn

from lapis.audio_encoders.dasheng import Dasheng
from lapis.audio_encoders.m2d import M2d
from lapis.audio_encoders.slap import Slap
from lapis.layers.spectrogram import LogMel
from lapis.onnx import blocks
from lapis.onnx.graph import Edge, Graph
from lapis.onnx.sound import Cutting, Frames, Rows, log_mel, patches

AUDIO_INPUTS = ("waveforms", "lengths")


def audio_graph(tower: Any, projection: nn.Module, *, width: int, half: bool = False) -> Any:
    """The ONNX model of an audio tower and its projection.

    Args:
        tower: of `audio_encoders`.
        projection: to the common width.
        width: the common width.
        half: keep weights, and compute behind the front end, in float16.

    Raises:
        ValueError: the tower has no graph here.
    """
    forms = {Slap: _slap, Dasheng: _dasheng, M2d: _m2d}
    if type(tower) not in forms:
        known = ", ".join(form.__name__ for form in forms)
        raise ValueError(f"the audio tower {type(tower).__name__} has no form in ONNX yet; those of {known} have")
    graph = Graph("audio", kind=np.float16 if half else np.float32)
    waveforms = graph.input("waveforms", np.float32, ("clips", "samples"))
    lengths = graph.input("lengths", np.int64, ("clips",))
    pooled = forms[type(tower)](graph, tower, waveforms, lengths)
    with graph.exact():
        vectors = blocks.projection(graph, pooled, projection)
    return graph.finished(vectors, name="vectors", axes=("clips", width))


def _slap(graph: Graph, tower: Slap, waveforms: Edge, lengths: Edge) -> Edge:
    frames = _front_end(graph, tower.log_mel, waveforms, lengths)
    rows = patches(graph, frames, tower.patches, Cutting(None, None, tower.patches.silence))
    columns = graph("Div", graph.size(rows.values, 1), graph.integers(tower.bands))
    turned = blocks.turn(graph, tower.rotary, columns=columns, bands=tower.bands)
    tokens = blocks.transformer(graph, rows, tower.transformer, turned=turned)
    with graph.exact():
        return blocks.attention_pooling(graph, Rows(tokens, rows.real), tower.pooling)


def _dasheng(graph: Graph, tower: Dasheng, waveforms: Edge, lengths: Edge) -> Edge:
    config = tower.config
    frames = _front_end(graph, tower.log_mel, waveforms, lengths, min_samples=tower.min_samples)
    norm = tower.band_norm
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    moved = norm.bias - norm.running_mean * scale
    bands = graph("Mul", frames.values, graph.weight(scale, np.float32))
    frames = Frames(graph("Add", bands, graph.weight(moved, np.float32)), frames.lengths)
    chunk = graph.integers(config.chunk_tokens * config.patch_frames)
    patch = graph.integers(config.patch_frames)
    used = graph("Mul", graph("Div", frames.lengths, patch), patch)
    if config.pooling == "release-2026":
        whole = graph("Mul", graph.rounded_up(frames.lengths, chunk), chunk)
        used = graph("Where", graph("Less", chunk, frames.lengths), whole, used)
    cutting = Cutting(config.chunk_tokens * config.patch_frames, config.chunk_tokens, tower.patches.silence)
    rows = patches(graph, frames, tower.patches, cutting, used=used)
    time, band = (table.detach() for table in tower.positions.tables)
    placed = graph("Add", rows.values, _first(graph, graph.weight(time + band), rows.values))
    tokens = blocks.transformer(graph, Rows(placed, rows.real), tower.transformer)
    return blocks.mean(graph, _of_clips(graph, Rows(tokens, rows.real), lengths, width=config.width))


def _m2d(graph: Graph, tower: M2d, waveforms: Edge, lengths: Edge) -> Edge:
    config = tower.config
    frames = _front_end(graph, tower.log_mel, waveforms, lengths)
    chunk_frames = config.chunk_frames if config.chunking == "published" else config.columns * config.patch_frames
    rows = patches(graph, frames, tower.patches, Cutting(chunk_frames, config.columns, tower.patches.silence))
    placed = graph("Add", rows.values, _first(graph, graph.weight(tower.positions), rows.values))
    with_class = Rows(*blocks.with_token(graph, Rows(placed, rows.real), tower.class_token.detach()))
    tokens = blocks.transformer(graph, with_class, tower.transformer)
    tokens = graph.slice(tokens, 1, np.iinfo(np.int64).max, axis=1)
    of_clips = _of_clips(graph, Rows(tokens, rows.real), lengths, width=config.width)
    if tower.semantic is not None:
        with graph.exact():
            return blocks.semantic_pooling(graph, of_clips, tower.semantic)
    if config.pooling == "mean":
        return blocks.mean(graph, of_clips)
    columns = graph("Reshape", of_clips.values, graph.integers(0, -1, tower.bands * config.width))
    by_column = graph("Reshape", graph.cast(of_clips.real, np.float32), graph.integers(0, -1, tower.bands))
    real = graph("ReduceMax", by_column, graph.integers(2), keepdims=0)
    return blocks.mean(graph, Rows(columns, graph("Cast", real, to=graph.onnx.TensorProto.BOOL)))


def _front_end(graph: Graph, module: LogMel, waveforms: Edge, lengths: Edge, *, min_samples: int = 0) -> Frames:
    least = max(module.config.min_samples, min_samples)
    return log_mel(graph, module.config, waveforms, lengths, min_samples=least)


def _first(graph: Graph, table: Edge, rows: Edge) -> Edge:
    """As many rows of a table as an item has."""
    return graph.slice(table, 0, graph.size(rows, 1), axis=0)


def _of_clips(graph: Graph, rows: Rows, lengths: Edge, *, width: int) -> Rows:
    """The rows of each clip, those of its chunks one after another."""
    clips = graph.size(lengths, 0)
    return Rows(graph.shaped(rows.values, clips, -1, width), graph.shaped(rows.real, clips, -1))
