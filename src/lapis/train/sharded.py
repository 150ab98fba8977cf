"""States whose tensors are spread over processes (FSDP2): each writes its share, and any number of them reads all.

The shares go through torch.distributed.checkpoint into safetensors files, which hold nothing that could run. The rest
of a state stays in the checkpoint's own file, with a mark where a tensor was. FSDP2 spreads all tensors by their rows.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor, empty

from lapis import distributed

MARK = "spread tensor"


def spread_tensors(states: Any) -> dict[str, DTensor]:
    """Those tensors of nested states that are spread over processes, by their paths."""
    found: dict[str, DTensor] = {}

    def collect(path: str, value: Any) -> Any:
        if isinstance(value, DTensor):
            found[path] = value
        return value

    _mapped(collect, states)
    return found


def write(folder: Path, states: Any) -> None:
    """Write the spread tensors of nested states; all processes must call it."""
    if distributed.rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
    distributed.barrier()
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    save(dict(spread_tensors(states)), storage_writer=writer)


def marked(states: Any) -> Any:
    """Nested states with a mark in place of every spread tensor."""

    def mark(path: str, value: Any) -> Any:
        if not isinstance(value, DTensor):
            return value
        return {MARK: path, "shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}

    return _mapped(mark, states)


def read(folder: Path, states: Any, *, mesh: DeviceMesh | None) -> Any:
    """Nested states with the tensors that `write` wrote in place of their marks.

    Args:
        folder: of the shares.
        states: from `marked`.
        mesh: the processes to spread them over, each of which reads its rows; None for whole tensors.
    """
    tensors: dict[str, Tensor] = {}

    def allocate(path: str, value: Any) -> Any:
        if not (isinstance(value, dict) and MARK in value):
            return value
        shape, dtype = value["shape"], getattr(torch, value["dtype"])
        tensors[path] = (
            torch.empty(shape, dtype=dtype)
            if mesh is None
            else empty(*shape, dtype=dtype, device_mesh=mesh, placements=[Shard(0)])
        )
        return tensors[path]

    filled = _mapped(allocate, states)
    if tensors:
        load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=not distributed.is_running())
    return filled


def spread(states: Mapping[str, Any], *, mesh: DeviceMesh, is_spread: Callable[[str, Tensor], bool]) -> Any:
    """Whole tensors of nested states, which every process has, spread over the processes where they shall be."""

    def distribute(path: str, value: Any) -> Any:
        whole = isinstance(value, Tensor) and not isinstance(value, DTensor)
        return (
            distribute_tensor(value.to(mesh.device_type), mesh, [Shard(0)])
            if whole and is_spread(path, value)
            else value
        )

    return _mapped(distribute, states)


def _mapped(function: Callable[[str, Any], Any], value: Any, path: str = "") -> Any:
    """Nested mappings and lists with every leaf, and every mark, replaced by what `function` makes of it."""
    if isinstance(value, Mapping) and MARK not in value:
        return {name: _mapped(function, part, f"{path}/{name}" if path else str(name)) for name, part in value.items()}
    if isinstance(value, list):
        return [_mapped(function, part, f"{path}/{number}") for number, part in enumerate(value)]
    return function(path, value)
