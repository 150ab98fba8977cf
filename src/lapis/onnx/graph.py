"""An ONNX graph under construction: a node is a call, an edge is its name, and a tensor of a module is a constant.

Graphs are written operation by operation, not traced: what depends on a length is computed inside the graph from the
lengths, so that nothing of an example stays in it, and a tower is exported in the time it takes to copy its weights.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

OPSET = 20
IR_VERSION = 10
"""What ONNX Runtime 1.18 and later read."""
LARGEST_FILE = 1_500_000_000
"""Bytes; a larger graph keeps its weights in a file beside it, as the format holds no more than 2 GB in one."""

EXACT = "exact"
"""How the names of nodes begin that are not to be quantised."""

Edge = str
"""The name of a value within a graph."""


def import_onnx() -> Any:
    """The package `onnx`.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise ValueError("export needs an extra: pip install 'lapis-audio[onnx]'") from error
    return onnx


class Graph:
    """Nodes, constants, inputs and one output.

    `graph("MatMul", a, b)` adds a node and gives the name of its answer. `kind` is that of the weights and of what is
    between them; the front end and the answer are float32 whatever it is.
    """

    def __init__(self, name: str, *, kind: type[np.float32] | type[np.float16] = np.float32) -> None:
        self.onnx = import_onnx()
        self.name, self.kind = name, kind
        self._prefix = "node"
        self._nodes: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Edge] = {}
        self._initializers: list[Any] = []
        self._inputs: list[Any] = []

    def input(self, name: str, kind: type[np.generic], axes: Sequence[str | int]) -> Edge:
        """An input of these axes; those with a name may have any length."""
        self._inputs.append(self.onnx.helper.make_tensor_value_info(name, self._type(kind), list(axes)))
        return name

    def __call__(self, operator: str, *inputs: Edge, **attributes: Any) -> Edge:
        """Add a node with one answer."""
        return self.several(operator, *inputs, answers=1, **attributes)[0]

    def several(self, operator: str, *inputs: Edge, answers: int, **attributes: Any) -> list[Edge]:
        """Add a node with so many answers."""
        number = len(self._nodes)
        outputs = [f"{operator}_{number}" if answers == 1 else f"{operator}_{number}_{each}" for each in range(answers)]
        node = self.onnx.helper.make_node(
            operator, list(inputs), outputs, name=f"{self._prefix}_{number}", **attributes
        )
        self._nodes.append(node)
        return outputs

    @contextlib.contextmanager
    def exact(self) -> Iterator[None]:
        """Nodes of this block are left as they are when the graph is quantised."""
        before, self._prefix = self._prefix, EXACT
        try:
            yield
        finally:
            self._prefix = before

    def constant(self, values: Any, kind: type[np.generic] | None = None) -> Edge:
        """A constant of this kind; one of the same values that is there already is used again."""
        array = np.ascontiguousarray(values, dtype=kind or self.kind).reshape(np.shape(values))
        key = (str(array.dtype), array.shape, array.tobytes() if array.nbytes <= 1024 else b"%d" % len(self._constants))
        if key not in self._constants:
            self._constants[key] = f"constant_{len(self._constants)}"
            self._initializers.append(self.onnx.numpy_helper.from_array(array, self._constants[key]))
        return self._constants[key]

    def weight(self, tensor: Tensor, kind: type[np.generic] | None = None) -> Edge:
        """A tensor of a module."""
        return self.constant(tensor.detach().float().cpu().numpy(), kind)

    def integers(self, *values: int) -> Edge:
        """A list of whole numbers."""
        return self.constant(values, np.int64)

    def cast(self, value: Edge, kind: type[np.generic] | None = None) -> Edge:
        """A value in another kind; in the graph's own unless told."""
        return self("Cast", value, to=self._type(kind or self.kind))

    def size(self, value: Edge, axis: int) -> Edge:
        """The length of an axis, as a list of one number."""
        return self("Shape", value, start=axis, end=axis + 1)

    def count(self, length: Edge) -> Edge:
        """The numbers 0, 1, 2, ... below a length, which is a list of one number."""
        scalar = self.constant(np.array(0), np.int64), self.constant(np.array(1), np.int64)
        return self("Range", scalar[0], self("Squeeze", length, self.integers(0)), scalar[1])

    def shaped(self, value: Edge, *lengths: Edge | int) -> Edge:
        """Another shape: numbers, -1 among them, and lengths as lists of one number."""
        parts = [length if isinstance(length, str) else self.integers(length) for length in lengths]
        return self("Reshape", value, self("Concat", *parts, axis=0))

    def unsqueezed(self, value: Edge, *axes: int) -> Edge:
        """With axes of length 1 at these places."""
        return self("Unsqueeze", value, self.integers(*axes))

    def slice(self, value: Edge, begin: int | Edge, end: int | Edge, *, axis: int) -> Edge:
        """A part of one axis."""
        begin, end = (place if isinstance(place, str) else self.integers(place) for place in (begin, end))
        return self("Slice", value, begin, end, self.integers(axis))

    def rounded_up(self, value: Edge, divisor: Edge) -> Edge:
        """How many times the divisor fits, a part counted as one; of whole numbers above 0."""
        above = self("Add", value, self("Sub", divisor, self.integers(1)))
        return self("Div", above, divisor)

    def finished(self, answer: Edge, *, name: str, axes: Sequence[str | int]) -> Any:
        """The model whose only answer, in float32, is this."""
        helper = self.onnx.helper
        self._nodes.append(helper.make_node("Cast", [answer], [name], name="answer", to=self._type(np.float32)))
        output = helper.make_tensor_value_info(name, self._type(np.float32), list(axes))
        graph = helper.make_graph(self._nodes, self.name, self._inputs, [output], self._initializers)
        opset = helper.make_opsetid("", OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="lapis")

    def _type(self, kind: type[np.generic]) -> int:
        return self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))


def write(model: Any, path: Path) -> list[Path]:
    """Write a model; gives its files, of which there are two where it is large."""
    onnx = import_onnx()
    beside = path.with_name(f"{path.name}.data")
    beside.unlink(missing_ok=True)  # the library would append to it
    if model.ByteSize() <= LARGEST_FILE:
        onnx.save_model(model, str(path))
        return [path]
    onnx.save_model(model, str(path), save_as_external_data=True, location=beside.name, size_threshold=1024)
    return [path, beside]
