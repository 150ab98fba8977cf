"""Waveforms to projected patches inside a graph: the front end of `layers.spectrogram`, then the cutting of each tower.

Clips of a batch are completed with zeros to the longest. What lies behind a clip's own end is never seen: reflection
takes place at each clip's end, its loudest value is looked for within it, and frames behind it become what the tower
completes its last patch with.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from lapis.layers.patches import Patches
from lapis.layers.spectrogram import LogMel, constants
from lapis.onnx.graph import Edge, Graph


@dataclass(frozen=True)
class Frames:
    """A spectrogram of shape (clips, frames, mels) and how many frames of it are each clip's: (clips, 1)."""

    values: Edge
    lengths: Edge


@dataclass(frozen=True)
class Rows:
    """Rows of shape (items, rows, width) and which of them are there: (items, rows)."""

    values: Edge
    real: Edge


@dataclass(frozen=True)
class Cutting:
    """How frames become patches.

    Chunks begin every `chunk_frames`, and at most `columns` columns of patches are taken from each; None where a clip
    is one chunk. A column that is not full ends with `silence`.
    """

    chunk_frames: int | None
    columns: int | None
    silence: float


def log_mel(graph: Graph, config: LogMel.Config, waveforms: Edge, lengths: Edge, *, min_samples: int) -> Frames:
    """As `LogMel`, of clips completed with zeros to `min_samples`; float32."""
    half, hop, integers = config.fft_samples // 2, config.hop_samples, graph.integers
    lengths = graph.unsqueezed(lengths, 1)
    sample = graph.count(graph.size(waveforms, 1))
    zero = graph.constant(np.float32(0), np.float32)
    heard = graph("Where", graph("Less", sample, lengths), waveforms, zero)
    heard = graph("Pad", heard, integers(0, 0, 0, min_samples), zero)
    lengths = graph("Max", lengths, integers(min_samples))
    num_frames = graph("Add", graph("Div", lengths, integers(hop)), integers(1))
    most = graph("ReduceMax", graph("Squeeze", num_frames, integers(1)), integers(0), keepdims=1)
    # Where each sample of the reflected clips comes from: from within, before the beginning and behind the end.
    hops = graph("Mul", graph("Sub", most, integers(1)), integers(hop))
    num_places = graph("Add", hops, integers(config.fft_samples))
    place = graph("Abs", graph("Sub", graph.count(num_places), integers(half)))
    last = graph("Sub", lengths, integers(1))
    back = graph("Max", graph("Sub", graph("Add", last, last), place), integers(0))
    source = graph("Where", graph("Less", last, place), back, place)
    reflected = graph.unsqueezed(graph("GatherElements", heard, source, axis=1), 1)
    energies = _energies(graph, config, reflected)
    frame = graph.count(most)
    own = graph.unsqueezed(graph("Less", frame, num_frames), 1)
    levels = graph("Transpose", _compressed(graph, config, energies, own), perm=[0, 2, 1])
    return Frames(levels, num_frames)


def _energies(graph: Graph, config: LogMel.Config, reflected: Edge) -> Edge:
    """Mel energies (clips, mels, frames): the window and the transform are one convolution, the filters another.

    Convolutions, as quantisation leaves them as they are.
    """
    window, filters = constants(config, torch.device("cpu"))
    sample, bin = np.arange(config.fft_samples), np.arange(config.fft_samples // 2 + 1)[:, None]
    angles = 2 * np.pi * (bin * sample % config.fft_samples) / config.fft_samples
    waves = np.concatenate([np.cos(angles), np.sin(angles)]) * window.double().numpy()
    kernel = graph.constant(waves[:, None], np.float32)
    parts = graph("Conv", reflected, kernel, strides=[config.hop_samples], kernel_shape=[config.fft_samples])
    real, imaginary = graph.several("Split", parts, answers=2, axis=1, num_outputs=2)
    power = graph("Add", graph("Mul", real, real), graph("Mul", imaginary, imaginary))
    return graph("Conv", power, graph.constant(filters.T.numpy()[:, :, None], np.float32), kernel_shape=[1])


def _compressed(graph: Graph, config: LogMel.Config, energies: Edge, own: Edge) -> Edge:
    def number(value: float) -> Edge:
        return graph.constant(np.float32(value), np.float32)

    if config.log == "natural":
        levels = graph("Log", graph("Add", energies, number(config.floor)))
    else:
        levels = graph("Mul", graph("Log", graph("Max", energies, number(config.floor))), number(10 / math.log(10)))
    if config.top_decibels is not None:
        within = graph("Where", own, levels, number(-1e30))
        loudest = graph("ReduceMax", within, graph.integers(1, 2), keepdims=1)
        levels = graph("Max", levels, graph("Sub", loudest, number(config.top_decibels)))
    return graph("Div", graph("Sub", levels, number(config.mean)), number(config.deviation))


def patches(graph: Graph, frames: Frames, module: Patches, cutting: Cutting, *, used: Edge | None = None) -> Rows:
    """Projected patches, an item a chunk: (clips * chunks, rows, width); every clip has as many chunks as the longest.

    Args:
        graph: to add to.
        frames: of the clips.
        module: whose projection it is.
        cutting: how frames become patches.
        used: frames of each clip that become patches, (clips, 1), where those are others than it has.
    """
    integers = graph.integers
    used = frames.lengths if used is None else used
    most = graph("ReduceMax", graph("Squeeze", used, integers(1)), integers(0), keepdims=1)
    chunk = most if cutting.chunk_frames is None else integers(cutting.chunk_frames)
    chunks = graph.rounded_up(most, chunk)
    columns = graph.rounded_up(graph("Min", most, chunk), integers(module.frames))
    if cutting.columns is not None:
        columns = graph("Min", columns, integers(cutting.columns))
    # Places of frames: within a chunk (columns, frames), and in the clip (chunks, columns, frames).
    first = graph("Mul", graph.count(columns), integers(module.frames))
    within = graph("Add", graph.unsqueezed(first, 1), graph.count(integers(module.frames)))
    begins = graph.unsqueezed(graph("Mul", graph.count(chunks), chunk), 1, 2)
    place = graph.shaped(graph("Add", begins, within), -1)
    available = graph("Sub", graph.size(frames.values, 1), integers(1))
    taken = graph("Gather", frames.values, graph("Min", place, available), axis=1)
    inside = graph("Expand", graph("Less", within, chunk), graph("Concat", chunks, integers(1, 1), axis=0))
    heard = graph("And", graph("Less", place, frames.lengths), graph.shaped(inside, 1, -1))
    silence = graph.constant(np.float32(cutting.silence), np.float32)
    taken = graph("Where", graph.unsqueezed(heard, 2), taken, silence)
    grid = graph.shaped(taken, -1, module.frames, module.bands, module.mels)
    length = graph("Mul", columns, integers(module.bands))
    flat = graph.shaped(graph("Transpose", grid, perm=[0, 2, 1, 3]), -1, length, module.frames * module.mels)
    projected = graph("MatMul", graph.cast(flat), graph.weight(module.projection.weight.T))
    if module.projection.bias is not None:
        projected = graph("Add", projected, graph.weight(module.projection.bias))
    begin = graph("Add", graph.unsqueezed(graph.shaped(begins, -1), 1), first)
    there = graph("And", graph("Less", begin, graph.unsqueezed(used, 2)), graph("Less", first, chunk))
    of_bands = graph("Expand", graph.unsqueezed(there, 3), integers(1, 1, 1, module.bands))
    return Rows(projected, graph.shaped(of_bands, -1, length))
