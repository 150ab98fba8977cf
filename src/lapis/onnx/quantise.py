"""Weights of 8 bits: every product with a constant matrix is computed in whole numbers, and scaled back.

A weight has one scale a column. What it is multiplied with has one scale a row, found while it runs: a row's answer
does not depend on other rows, so that a clip's vector stays independent of its neighbours in the batch. Tables of
embeddings have one scale a row. Convolutions, norms and attention stay as they are, and so do the front end and
what makes one vector of many rows: nothing evens its errors out, and it is half of the error or more, and little work.
"""

from typing import Any

import numpy as np

from lapis.onnx.graph import EXACT, Edge, import_onnx

LEAST_VALUES = 64
"""Of a matrix that is worth it."""


def quantised(model: Any) -> Any:
    """The same graph with weights of 8 bits; float32 in and out, as it was."""
    return _Quantiser(model).run()


class _Quantiser:
    def __init__(self, model: Any) -> None:
        self.onnx = import_onnx()
        self.model = model
        self.matrices = {
            tensor.name: tensor
            for tensor in model.graph.initializer
            if tensor.data_type == self.onnx.TensorProto.FLOAT and len(tensor.dims) == 2
        }
        self.nodes: list[Any] = []
        self.added: dict[str, Any] = {}
        self.rows: dict[Edge, tuple[Edge, Edge]] = {}

    def run(self) -> Any:
        graph = self.model.graph
        for node in graph.node:
            matrix = self._matrix(node)
            if matrix is None:
                self.nodes.append(node)
            elif node.op_type == "Gather":
                self._looked_up(node, matrix)
            else:
                self._multiplied(node, matrix)
        del graph.node[:]
        graph.node.extend(self.nodes)
        used = {name for node in graph.node for name in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend([*kept, *self.added.values()])
        # What an exporter noted of shapes and kinds in between is not true any more.
        del graph.value_info[:]
        return self.model

    def _matrix(self, node: Any) -> Edge | None:
        """The constant matrix of a node that can be done in whole numbers."""
        place = {"MatMul": 1, "Gemm": 1, "Gather": 0}.get(node.op_type)
        if place is None or node.name.startswith(EXACT) or node.input[place] not in self.matrices:
            return None
        settings = {each.name: self.onnx.helper.get_attribute_value(each) for each in node.attribute}
        scaled = {settings.get("alpha", 1), settings.get("beta", 1)} != {1}
        if node.op_type == "Gemm" and (settings.get("transA") or scaled):
            return None
        if node.op_type == "Gather" and settings.get("axis", 0) != 0:
            return None
        matrix = self.matrices[node.input[place]]
        return matrix.name if matrix.dims[0] * matrix.dims[1] >= LEAST_VALUES else None

    def _multiplied(self, node: Any, matrix: Edge) -> None:
        turned = any(each.name == "transB" and each.i for each in node.attribute)
        values = self._values(matrix)
        weight, scale = self._of_columns(f"{matrix}.{'turned' if turned else 'as_is'}", values.T if turned else values)
        quantised, of_rows = self._of_rows(node.input[0])
        whole = self._add("MatMulInteger", quantised, weight, self._constant("middle", np.uint8(128)))
        exact = self._add("Cast", whole, to=self.onnx.TensorProto.FLOAT)
        last = node.output[0]
        biased = len(node.input) > 2 and node.input[2]
        product = self._add("Mul", self._add("Mul", exact, of_rows), scale, output=None if biased else last)
        if biased:
            self._add("Add", product, node.input[2], output=last)

    def _looked_up(self, node: Any, table: Edge) -> None:
        values = self._values(table)
        scale = np.maximum(np.abs(values).max(1, keepdims=True), 1e-12) / 127
        whole = self._constant(f"{table}.whole", np.rint(values / scale).astype(np.int8))
        scales = self._constant(f"{table}.scale", scale.astype(np.float32))
        found = self._add("Cast", self._add("Gather", whole, node.input[1], axis=0), to=self.onnx.TensorProto.FLOAT)
        self._add("Mul", found, self._add("Gather", scales, node.input[1], axis=0), output=node.output[0])

    def _of_columns(self, name: str, values: np.ndarray) -> tuple[Edge, Edge]:
        scale = np.maximum(np.abs(values).max(0), 1e-12) / 127
        whole = self._constant(f"{name}.whole", np.rint(values / scale).astype(np.int8))
        return whole, self._constant(f"{name}.scale", scale.astype(np.float32))

    def _of_rows(self, edge: Edge) -> tuple[Edge, Edge]:
        """A value in whole numbers around 128, and the scale of each of its rows; once a value."""
        if edge not in self.rows:
            last_axis = self._constant("last_axis", np.array([-1]))
            largest = self._add("ReduceMax", self._add("Abs", edge), last_axis, keepdims=1)
            scale = self._add("Div", largest, self._constant("most", np.float32(127)))
            scale = self._add("Max", scale, self._constant("tiny", np.float32(1e-12)))
            whole = self._add("Round", self._add("Div", edge, scale))
            moved = self._add("Add", whole, self._constant("offset", np.float32(128)))
            self.rows[edge] = self._add("Cast", moved, to=self.onnx.TensorProto.UINT8), scale
        return self.rows[edge]

    def _add(self, operator: str, *inputs: Edge, output: Edge | None = None, **attributes: Any) -> Edge:
        output = output or f"quantised_{operator}_{len(self.nodes)}"
        name = f"quantised_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, list(inputs), [output], name=name, **attributes))
        return output

    def _constant(self, name: str, values: Any) -> Edge:
        name = f"quantised.{name}"
        if name not in self.added:
            array = np.ascontiguousarray(values).reshape(np.shape(values))
            self.added[name] = self.onnx.numpy_helper.from_array(array, name)
        return name

    def _values(self, matrix: Edge) -> np.ndarray:
        return self.onnx.numpy_helper.to_array(self.matrices[matrix])
