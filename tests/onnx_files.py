"""Small ONNX files for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Shape = Sequence[int | str]


def port(name: str, dtype: Any, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
    )


def make(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, Any],
    *,
    input: tuple[Shape, Any],
    output: tuple[Shape, Any] | None = None,
    opset: int = 21,
) -> onnx.ModelProto:
    """A model from x to y; ``input`` and ``output`` are shape and type."""
    shape, dtype = output or (("n", "m"), input[1])
    graph = helper.make_graph(
        list(nodes),
        "test",
        [port("x", input[1], input[0])],
        [port("y", dtype, shape)],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def node(kind: str, inputs: str, outputs: str, **attributes: Any) -> onnx.NodeProto:
    """A node whose inputs and outputs are words of a text; its name is its first output with
    "node_" in front.
    """
    names = ["" if name == "-" else name for name in inputs.split()]
    first = outputs.split()[0]
    return helper.make_node(kind, names, outputs.split(), name=f"node_{first}", **attributes)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def expected(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """What the reference implementation of the onnx package makes of x, a row for each sample."""
    y = np.asarray(ReferenceEvaluator(model).run(None, {model.graph.input[0].name: x})[0])
    return y.reshape(len(x), -1)
